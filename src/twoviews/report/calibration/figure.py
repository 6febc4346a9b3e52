"""Reliability diagrams: accuracy over confidence, and how many answers there are at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from twoviews.report.calibration.reliability import Reliability
from twoviews.report.model_names import model_name
from twoviews.report.number_words import percent
from twoviews.report.style import FULL, HALF, INK, LOOKS, MUTED, styled

FEW = 10
"""Bins of fewer images are drawn hollow."""

COLUMNS = 3
"""Of more models than these, the rest stand in rows below."""

# How much of the axis, in points of confidence, each label may take, "mean confidence 100.0%" and "right 100.0%".
_WIDTHS = {"confidence": 38.0, "right": 21.0}

_ALONG = (38, 6, 70, 22, 54)  # where the diagonal's words may begin, the best place first
_WORDS_LENGTH, _WORDS_HEIGHT = 25, 8


@styled
def reliability_diagram(models: Sequence[tuple[str, Reliability]]) -> Figure:
    """One diagram a model, side by side: points are bins with Wilson's 95 % interval, on the dashed line where the
    confidence is what it says, below it where the model is too sure; under it, the share of images in each bin.

    Args:
        models: name as in ``results.json``, and its figures; at least one.
    """
    columns = min(len(models), COLUMNS)
    rows = -(-len(models) // columns)
    width = HALF if columns == 1 else FULL * columns / 2
    figure = Figure(figsize=(width, 5.2 * rows), layout="constrained")
    ratios = {"height_ratios": [3, 1] * rows}
    axes = figure.subplots(2 * rows, columns, squeeze=False, sharex=True, gridspec_kw=ratios)
    tallest = max(100 * float((one.bins.images / one.images).max()) for _, one in models)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        above, below = axes[2 * row, column], axes[2 * row + 1, column]
        if place >= len(models):
            above.set_axis_off()
            below.set_axis_off()
            continue
        name, one = models[place]
        colour = LOOKS[name][0] if name in LOOKS else INK
        _points(above, one, colour)
        _histogram(below, one, colour, tallest)
        if len(models) > 1:
            above.set_title(model_name(name))
    return figure


def _points(axis: Axes, one: Reliability, colour: str) -> None:
    bins = one.bins
    low, high = bins.accuracy_interval()
    x, y = 100 * bins.confidence, 100 * bins.accuracy
    # Few images say little, so the line leaves them out; where all bins have few, it joins them.
    many = bins.images >= FEW
    joined = many if many.any() else ~many
    axis.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    begin = _free_of_points(x, 100 * low, 100 * high)
    # Along the line as it is drawn, whatever the figure's proportions.
    axis.text(
        *(begin, begin + 2.5),
        "as sure as it is right",
        color=MUTED,
        fontsize=8.5,
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
    )
    axis.fill_between(x[joined], x[joined], y[joined], color=colour, alpha=0.1, linewidth=0)
    axis.plot(x[joined], y[joined], color=colour, linewidth=1.5)
    for part, fill, alpha in ((many, colour, 0.75), (~many, "white", 0.4)):
        # An unclipped line without points would have no place, and leave the layout no room for the panels.
        if part.any():
            axis.vlines(x[part], 100 * low[part], 100 * high[part], color=colour, linewidth=1.2, alpha=alpha)
            axis.plot(x[part], y[part], "o", color=colour, markersize=5, markerfacecolor=fill, clip_on=False)
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 100)
    axis.set_yticks(range(0, 101, 20))
    axis.set_ylabel("Right (%)")
    axis.grid(axis="y")


def _free_of_points(x: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> int:
    """Where on the diagonal its words lie on the fewest intervals."""

    def hidden(begin: int) -> int:
        inside = (x > begin - 2) & (x < begin + _WORDS_LENGTH) & (low < x + _WORDS_HEIGHT) & (high > x)
        return int(inside.sum())

    return min(_ALONG, key=hidden)


def _histogram(axis: Axes, one: Reliability, colour: str, tallest: float) -> None:
    bins = one.bins
    share = 100 * bins.images / one.images
    axis.bar(100 * bins.low, share, 100 * (bins.high - bins.low), align="edge", color=colour, alpha=0.45, linewidth=0)
    ticks = MaxNLocator(nbins=3, steps=[1, 2, 5, 10]).tick_values(0, min(tallest, 99.9))
    top = float(ticks[-1])
    for label in _labels(one):
        height = top * (1.68 if label.is_upper else 1.2)
        axis.vlines(label.value, 0, height + 0.28 * top, color=INK, linewidth=1.1)
        side, shift = ("right", -1.2) if label.is_left else ("left", 1.2)
        axis.text(label.value + shift, height, label.words, ha=side, fontsize=8.5, color=INK)
    # Shares end at 100 %: what is above is room for the words, without a scale.
    axis.set_ylim(0, top * 2.05)
    axis.set_yticks(ticks)
    axis.spines["left"].set_bounds(0, top)
    axis.set_ylabel("Images (%)", y=0.5 / 2.05)
    axis.set_xlabel("Confidence (%)")
    axis.tick_params(axis="x", labelbottom=True)
    axis.grid(axis="y")


@dataclass(frozen=True)
class _Label:
    """A line over the bars, in percent, and its words: left of it or right, in the upper row or the lower."""

    value: float
    words: str
    is_left: bool
    is_upper: bool


def _labels(one: Reliability) -> tuple[_Label, _Label]:
    """Mean confidence and accuracy, placed so that all words stay inside and neither line crosses the other's."""
    said = [
        (100 * one.confidence, f"mean confidence {percent(one.confidence)}", _WIDTHS["confidence"]),
        (100 * one.accuracy, f"right {percent(one.accuracy)}", _WIDTHS["right"]),
    ]
    (low, low_words, low_width), (high, high_words, high_width) = sorted(said)
    is_low_left, is_high_left = low >= low_width, high > 100 - high_width
    # Words lead away from each other where there is room. Where both lead right, the line further left is the taller.
    is_low_upper = not is_low_left and not is_high_left
    return (
        _Label(low, low_words, is_low_left, is_low_upper),
        _Label(high, high_words, is_high_left, not is_low_upper),
    )
