"""Figures of training and of accuracy: curves, models beside each other.

Every function takes plain data and returns a ``Figure``; `write_figure` of `figure_files` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from twoviews.report.model_names import model_name
from twoviews.report.style import BLUE, FULL, HALF, INK, MUTED, ORANGE, THIRD, sheet, short, styled
from twoviews.report.values import number, pair

Rows = Sequence[Mapping[str, Any]]
Series = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Limits:
    """Axis ranges shared by several figures, so that they can be compared by eye."""

    epochs: float
    loss: tuple[float, float]
    accuracy: tuple[float, float]


def _series(rows: Rows, key: str, scale: float = 1.0) -> Series:
    """Epochs and values; an epoch without the key wasn't measured, one whose value is null leaves a gap."""
    pairs = [(number(row.get("epoch")), number(row[key])) for row in rows if key in row]
    kept = [(x, np.nan if y is None else y * scale) for x, y in pairs if x is not None]
    table = np.array(kept, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _draw(axis: Axes, series: Series, **style: Any) -> None:
    epochs, values = series
    there = np.concatenate([[False], np.isfinite(values), [False]])
    # A value between two gaps has no line to show it; few values get dots that say when each was measured.
    alone = there[1:-1] & ~there[:-2] & ~there[2:]
    dotted = np.flatnonzero(alone | (np.isfinite(values).sum() <= 25))
    marker = "o" if len(dotted) else None
    axis.plot(epochs, values, marker=marker, markersize=3.2, markevery=dotted.tolist(), **style)


def _dress(axis: Axes, title: str) -> None:
    axis.set_title(title)
    axis.set_xlabel("Epoch")
    axis.grid(axis="y")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if not any(np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any() for line in axis.lines):
        axis.set_yticks([])
        axis.text(0.5, 0.5, "nothing measured yet", transform=axis.transAxes, ha="center", color=MUTED)


def curve_limits(*runs: Rows) -> Limits:
    """Ranges that hold the curves of all these classifiers."""

    def span(key: str, scale: float, floor: float) -> tuple[float, float]:
        values = [v for rows in runs for part in ("train", "val") for v in _series(rows, f"{part}_{key}", scale)[1]]
        found = np.array([value for value in values if np.isfinite(value)] or [0.0, 1.0])
        margin = 0.06 * max(float(np.ptp(found)), 1e-6)
        return max(float(found.min()) - margin, floor), float(found.max()) + margin

    epochs = max([float(x) for rows in runs for x in _series(rows, "epoch")[0]], default=1.0)
    return Limits(epochs, span("loss", 1, 0.0), span("top1", 100, 0.0))


@styled
def classifier_curves(rows: Rows, title: str = "", limits: Limits | None = None, stacked: bool = False) -> Figure:
    """Loss and accuracy on training and validation images, an epoch a point.

    Args:
        rows: the rows of ``metrics.jsonl``.
        limits: axis ranges from `curve_limits`, to compare several runs.
        stacked: loss above accuracy, for a figure of half a page's width.
    """
    figure, axes = sheet(HALF, 5.0, rows=2) if stacked else sheet(FULL, 3.4, columns=2)
    limits = limits or curve_limits(rows)
    for axis, key, scale, name, span in (
        (axes[0], "loss", 1, "Loss (cross-entropy)", limits.loss),
        (axes[1], "top1", 100, "Accuracy (%)", limits.accuracy),
    ):
        _draw(
            axis,
            _series(rows, f"train_{key}", scale),
            color=ORANGE,
            label="training",
            linestyle=(0, (4, 1.6)),
        )
        _draw(axis, _series(rows, f"val_{key}", scale), color=BLUE, label="validation")
        axis.set_xlim(min(1.0, limits.epochs - 1), max(limits.epochs, 2.0))
        axis.set_ylim(*span)
        _dress(axis, name)
    axes[0].legend(loc="upper right")
    axes[1].legend(loc="lower right")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


# Panel: keys of metrics.jsonl, factor, title with its unit.
PRETRAINING_PANELS: dict[str, tuple[tuple[str, ...], float, str]] = {
    "loss": (("loss",), 1, "Contrastive loss"),
    "contrastive_top1": (("contrastive_top1",), 100, "Other view found (%)"),
    "knn_top1": (("knn_top1",), 100, "kNN, left out in turn (%)"),
    "lr": (("lr",), 1, "Learning rate"),
    "effective_rank": (("effective_rank",), 1, "Effective rank (dimensions)"),
    "alignment": (("alignment", "uniformity"), 1, "Alignment, uniformity"),
}


@styled
def pretraining_curves(rows: Rows, panels: Sequence[str] = (), columns: int = 3, width: float | None = None) -> Figure:
    """Small multiples of a SimCLR run: loss, contrastive and kNN accuracy, learning rate, feature spread.

    Args:
        rows: the rows of ``metrics.jsonl``; keys measured every few epochs are joined over the others.
        panels: names from `PRETRAINING_PANELS`; by default those that the rows have values for.
    """
    chosen = [*panels] or measured_panels(rows) or ["loss"]
    columns = min(columns, len(chosen))
    lines = -(-len(chosen) // columns)
    figure, axes = sheet(width or THIRD * columns + 0.2, 2.35 * lines, rows=lines, columns=columns)
    for axis, panel in zip(axes, chosen, strict=False):
        keys, scale, name = PRETRAINING_PANELS[panel]
        for key, colour in zip(keys, (BLUE, ORANGE), strict=False):
            _draw(axis, _series(rows, key, scale), color=colour, label=key.replace("_", " "))
        _dress(axis, name)
        axis.set_xlim(0, max([*_series(rows, "epoch")[0].tolist(), 2.0]) * 1.02)
        if len(keys) > 1:
            axis.legend(loc="best")
    for axis in axes[len(chosen) :]:
        axis.set_axis_off()
    return figure


def measured_panels(rows: Rows) -> list[str]:
    """The panels of `pretraining_curves` that these rows have at least one number for."""
    return [
        panel
        for panel, (keys, _, _) in PRETRAINING_PANELS.items()
        if any(np.isfinite(_series(rows, key)[1]).any() for key in keys)
    ]


@styled
def accuracy_dots(models: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A dot for each model's test accuracy with its 95% interval, the baseline as a line through all.

    Args:
        models: ``results.json``'s ``models``: name → ``test_top1`` and ``ci95``, as fractions.
    """
    known = {name: top1 for name, row in models.items() if (top1 := number(row.get("test_top1"))) is not None}
    figure, (axis,) = sheet(4.2, 0.4 * max(len(known), 2) + 0.75)
    if "supervised" in known:
        axis.axvline(known["supervised"] * 100, color="#b9bfc7", linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    for height, (name, top1) in enumerate(known.items()):
        colour = {"finetuned": BLUE, "supervised": ORANGE}.get(name, "#737b85")
        ends = pair(models[name].get("ci95"))
        if ends is not None:
            axis.plot([100 * ends[0], 100 * ends[1]], [height, height], color=colour, linewidth=2.2, zorder=2)
        axis.plot([top1 * 100], [height], "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)
        # Values stand in a column of their own, where no line crosses them.
        axis.text(1.02, height, f"{100 * top1:.1f}", transform=axis.get_yaxis_transform(), va="center")
    axis.set_yticks(range(len(known)), [short(model_name(name), 32) for name in known])
    axis.tick_params(axis="y", labelcolor=INK)
    axis.set_ylim(len(known) - 0.4, -0.6)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    axis.margins(x=0.1)
    axis.set_title("Test accuracy (%)")
    return figure
