"""Several studies on one axis: their models' accuracies, and their label curves. A colour and marker is a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from twoviews.report.figure_data import dots_data
from twoviews.report.figure_files import Plotted
from twoviews.report.labels.curve import label_curve_data
from twoviews.report.labels.points import LabelPoint, mark
from twoviews.report.model_names import model_name
from twoviews.report.number_words import count
from twoviews.report.style import BLUE, HALF, INK, MUTED, ORANGE, sheet, short, styled
from twoviews.report.values import dig

WIDTH = 6.6
_ROW, _HEADING = 0.27, 0.36  # inches
_DODGE, _CLOSEST = 0.012, 0.085  # of the axis, as on a single study's curve

COLOURS = (BLUE, ORANGE, "#6a3d9a", "#2b7a3d", "#6b7480", "#a8326e")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SOLID, _DASHED = "-", (0, (5, 1.6))


def look(place: int) -> tuple[str, str]:
    """A study's colour and marker; with more than six studies colours come round again with other markers."""
    return COLOURS[place % len(COLOURS)], _MARKERS[place % len(_MARKERS)]


@styled
def several_dots(names: Sequence[str], models: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> Figure:
    """A dot for each study's test accuracy with its 95% interval, model by model.

    Args:
        names: of the studies.
        models: of each study ``results.json``'s ``models``.
        shown: names of models, from above to below; one that no study has is left out.
    """
    found = {name: [mark(dig(rows, name)) for rows in models] for name in shown}
    found = {name: marks for name, marks in found.items() if any(marks)}
    lines = sum(sum(one is not None for one in marks) for marks in found.values())
    height = _ROW * lines + _HEADING * len(found)
    figure, (axis,) = sheet(HALF, height + 0.85)
    place, ticks, labels = 0.0, [], []
    for name, marks in found.items():
        place += _HEADING
        # Above its rows, at the left edge of the axes, where no interval can be under it.
        axis.text(0, place + 0.06, model_name(name), transform=axis.get_yaxis_transform(), fontsize=9.5, weight="bold")
        for study, one in enumerate(marks):
            if one is None:
                continue
            place += _ROW
            colour, marker = look(study)
            if one.ci95 is not None:
                axis.plot([100 * end for end in one.ci95], [place] * 2, color=colour, linewidth=2.2, zorder=2)
            axis.plot([100 * one.top1], [place], marker, color=colour, markersize=7, markeredgecolor="white", zorder=3)
            text = f"{100 * one.top1:.1f}"
            axis.text(1.02, place, text, transform=axis.get_yaxis_transform(), va="center")
            ticks.append(place)
            labels.append(short(names[study], 22))
    axis.set_yticks(ticks, labels)
    axis.tick_params(axis="y", labelcolor=INK)
    axis.set_ylim(place + 0.2, 0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    axis.margins(x=0.08)
    axis.set_xlabel("Test accuracy (%)")
    return figure


@styled
def several_label_curves(names: Sequence[str], curves: Sequence[Sequence[LabelPoint]]) -> Figure:
    """Test accuracy over the number of labels of every study that has a curve: fine-tuned, and its baseline dashed.

    Args:
        names: of the studies.
        curves: of each study its points, none where it has no curve; at least one has.
    """
    figure, (axis,) = sheet(WIDTH, 4.4)
    places = sorted({point.labels for points in curves for point in points})
    span = float(np.log(places[-1] / places[0]))
    there = [study for study, points in enumerate(curves) if points]
    for order, study in enumerate(there):
        shift = float(np.exp(span * _DODGE * (order - (len(there) - 1) / 2)))
        _line(axis, curves[study], "supervised", study, shift)
        _line(axis, curves[study], "finetuned", study, shift)
    axis.set_xscale("log")
    axis.set_xlim(places[0] * np.exp(-0.06 * span), places[-1] * np.exp(0.06 * span))
    _ticks(axis, places, span)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_ylabel("Test accuracy (%)")
    axis.grid(axis="y")
    axis.margins(y=0.07)
    keys = [_key(study, short(names[study], 26)) for study in there]
    keys += [Line2D([], [], color=MUTED, linestyle=dashes, label=label) for label, dashes in _KINDS]
    # Outside, where no line and no interval can be under it.
    figure.legend(handles=keys, loc="outside upper left", ncols=2, handlelength=2.6, columnspacing=1.6)
    return figure


def several_dots_data(names: Sequence[str], models: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> Plotted:
    """A model of a study a row: its accuracy with its interval, and that of each seed, as fractions."""
    tables = [dots_data({name: rows[name] for name in shown if mark(rows.get(name))}) for rows in models]
    return _by_study(names, tables)


def several_label_data(names: Sequence[str], curves: Sequence[Sequence[LabelPoint]]) -> Plotted:
    """A model of a study at a number of labels a row, as `label_curve_data` has it."""
    return _by_study(names, [label_curve_data(points) for points in curves])


def _by_study(names: Sequence[str], tables: Sequence[Plotted]) -> Plotted:
    """The tables under each other, the study's name before each row."""
    rows = [[name, *row] for name, table in zip(names, tables, strict=True) for row in table.rows]
    return Plotted(["study", *tables[0].header], rows)


_KINDS: tuple[tuple[str, Any], ...] = (("fine-tuned", _SOLID), ("its supervised baseline", _DASHED))


def _key(study: int, name: str) -> Line2D:
    colour, marker = look(study)
    return Line2D([], [], color=colour, marker=marker, markeredgecolor="white", markersize=7.5, label=name)


def _line(axis: Axes, points: Sequence[LabelPoint], model: str, study: int, shift: float) -> None:
    colour, marker = look(study)
    is_baseline = model == "supervised"
    marks = [(point.labels * shift, point.models[model]) for point in points if model in point.models]
    for x, one in marks:
        if one.ci95 is not None:
            ends = [100 * end for end in one.ci95]
            axis.plot([x, x], ends, color=colour, linewidth=2.2, alpha=0.3 if is_baseline else 0.55, zorder=2)
    style: dict[str, Any] = {"linestyle": _DASHED if is_baseline else _SOLID, "markersize": 5.5 if is_baseline else 7.5}
    y = [100 * one.top1 for _, one in marks]
    axis.plot([x for x, _ in marks], y, color=colour, marker=marker, markeredgecolor="white", zorder=3, **style)


def _ticks(axis: Axes, places: Sequence[float], span: float) -> None:
    """A tick at every number of labels; of some that lie very near each other not all are named."""
    texts = [""] * len(places)
    named = np.inf
    for i in reversed(range(len(places))):
        if np.log(named / places[i]) >= _CLOSEST * span:
            named = places[i]
            texts[i] = count(named)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(places, texts)
    axis.set_xlabel("Labels in all, validation images among them")
