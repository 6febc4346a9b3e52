"""The label curve as a figure, and what it shows as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.patheffects as patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from twoviews.errors import DataError
from twoviews.report.figure_files import Plotted
from twoviews.report.labels.points import (
    CURVE_MODELS,
    LabelPoint,
    SavingsRow,
    amount,
    arrow_says,
    label_points,
    per_class_factor,
    savings,
    unit,
)
from twoviews.report.model_names import model_name
from twoviews.report.number_words import count, percent
from twoviews.report.style import BLUE, INK, LOOKS, MUTED, sheet, styled

WIDTH, HEIGHT = 6.6, 4.2
_DODGE = 0.008  # of the axis: intervals at the same number of labels stand beside each other
_CLOSEST = 0.085  # of the axis: tick labels nearer than this would touch


@styled
def label_curve(results: Mapping[str, Any]) -> Figure:
    """Test accuracy over the number of labels, a line a model, with the labels that pretraining saves.

    Intervals are vertical bars, single seeds small rings. The arrow lies at the baseline's accuracy and leads from
    its number of labels to that at which the fine-tuned model is as good; the broad bar under it is the 95% interval
    of that number.

    Args:
        results: a study's ``results.json`` with ``label_curve`` and, for the arrow, ``label_savings``.

    Raises:
        DataError: fewer than two points.
    """
    points = label_points(results)
    if not points:
        raise DataError("a label curve needs two numbers of labels at least; run the study with --labels-per-class.")
    figure, (axis,) = sheet(WIDTH, HEIGHT)
    span = np.log(points[-1].labels / points[0].labels)
    for place, name in enumerate(CURVE_MODELS):
        _line(axis, points, name, float(np.exp(span * _DODGE * (place - 1))))
    axis.set_xscale("log")
    axis.set_xlim(points[0].labels * np.exp(-0.06 * span), points[-1].labels * np.exp(0.06 * span))
    _ticks(axis, points, float(span))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_ylabel("Test accuracy (%)")
    axis.grid(axis="y")
    axis.margins(y=0.07)
    found = savings(results)
    if found is not None:
        _read_off(axis, found, points)
    # Outside, where no line and no interval can be under it.
    figure.legend(loc="outside upper left", ncols=len(CURVE_MODELS), handlelength=2.6, columnspacing=1.6)
    return figure


def _line(axis: Axes, points: Sequence[LabelPoint], name: str, shift: float) -> None:
    colour, marker, dashes = LOOKS[name]
    there = [point for point in points if name in point.models]
    x = np.array([point.labels * shift for point in there])
    for place, point in zip(x, there, strict=True):
        one = point.models[name]
        if one.ci95 is not None:
            axis.plot([place, place], [100 * end for end in one.ci95], color=colour, linewidth=2.2, alpha=0.5, zorder=2)
        if len(one.per_seed) > 1:
            each = [100 * value for value in one.per_seed]
            axis.plot([place] * len(each), each, "o", color=colour, markersize=3.6, zorder=2.5, mfc="white", mew=0.9)
    y = [100 * point.models[name].top1 for point in there]
    style = {"color": colour, "marker": marker, "linestyle": dashes, "markeredgecolor": "white"}
    if there:
        axis.plot(x, y, markersize=7.5, label=model_name(name), zorder=3, **style)


def _ticks(axis: Axes, points: Sequence[LabelPoint], span: float) -> None:
    """A tick at every point; of points that lie very near each other not all are named."""
    factor = per_class_factor(points)
    places = [point.labels for point in points]
    texts = [""] * len(points)
    named = np.inf
    for i in reversed(range(len(points))):
        if np.log(named / places[i]) >= _CLOSEST * span:
            named = places[i]
            texts[i] = count(named) if factor == 1.0 else f"{amount(named / factor)}\n{count(named)} in all"
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(places, texts)
    axis.set_xlabel(f"{unit(factor).capitalize()}, validation images among them")


def _read_off(axis: Axes, found: SavingsRow, points: Sequence[LabelPoint]) -> None:
    """The arrow from the baseline's number of labels to the one that is enough after pretraining."""
    y, factor = 100 * found.top1, per_class_factor(points)
    left, right = axis.get_xlim()
    if found.same is None or found.saved is None or found.saved <= 0:
        axis.plot([left, found.labels], [y, y], color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        _text(axis, left, y, f" {arrow_says(found, factor)[0]}", ha="left")
        return
    low, high = found.ci95
    if low is not None or high is not None:
        ends = [low or left, found.labels if high is None else high]
        axis.plot(ends, [y, y], color=BLUE, linewidth=7, alpha=0.22, zorder=1, solid_capstyle="butt")
    arrow = {"arrowstyle": "-|>,head_width=0.28,head_length=0.55", "color": INK, "linewidth": 1.4}
    axis.annotate("", (found.same, y), (found.labels, y), arrowprops={**arrow, "shrinkA": 5, "shrinkB": 0}, zorder=4)
    bottom = axis.get_ylim()[0]
    axis.plot([found.same] * 2, [bottom, y], color=INK, linewidth=1, linestyle=(0, (1.5, 2)), zorder=1)
    axis.set_ylim(bottom, None)
    is_right = np.log(found.same / left) > 0.6 * np.log(right / left)  # there it would leave the axes
    text = "\n".join(f"{line} " if is_right else f" {line}" for line in arrow_says(found, factor))
    _text(axis, found.same, bottom, text, ha="right" if is_right else "left")


def _text(axis: Axes, x: float, y: float, text: str, ha: str) -> None:
    place: dict[str, Any] = {"xytext": (0, 5), "textcoords": "offset points", "ha": ha, "va": "bottom"}
    halo = [patheffects.withStroke(linewidth=2.6, foreground="white", alpha=0.9)]
    axis.annotate(text, (x, y), fontsize=9, color=INK, zorder=5, path_effects=halo, **place)


def alt_text(points: Sequence[LabelPoint]) -> str:
    """The curve's numbers for those who can't see it."""
    factor = per_class_factor(points)
    lines = []
    for point in points:
        each = [f"{model_name(name)} {percent(one.top1)}" for name, one in point.models.items()]
        lines.append(f"{amount(point.labels / factor)} {unit(factor)}: {', '.join(each)}")
    return f"Test accuracy over the number of labels. {'; '.join(lines)}."


def label_curve_data(points: Sequence[LabelPoint]) -> Plotted:
    """A model at a number of labels a row; accuracies are fractions, differences percentage points."""
    header = ["labels", "labels_per_class", "train", "val", "model"]
    header += ["test_top1", "std", "ci95_low", "ci95_high", "per_seed", "minus_supervised", "low", "high"]
    rows = []
    for point in points:
        counts = ["" if n is None else f"{n:g}" for n in (point.labels, point.per_class, point.train, point.val)]
        for name, one in point.models.items():
            change = [point.points, *(point.ci95 or ("", ""))] if name == "finetuned" else []
            cells = [one.top1, one.std, *(one.ci95 or ("", "")), " ".join(map(str, one.per_seed)), *change]
            row = [*counts, name, *("" if cell is None else cell for cell in cells)]
            rows.append(row + [""] * (len(header) - len(row)))
    return Plotted(header, rows)
