"""Reliability diagrams: accuracy over confidence, and how many answers there are at each."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twoviews.report.calibration.reliability import Reliability
from twoviews.report.style import FULL, HALF, INK, LOOKS, MUTED, styled
from twoviews.report.words import model_name, percent

FEW = 10
"""Bins of fewer images are drawn hollow."""


@styled
def reliability_diagram(models: Sequence[tuple[str, Reliability]]) -> Figure:
    """One diagram a model, side by side: points are bins with Wilson's 95 % interval, on the dashed line where the
    confidence is what it says, below it where the model is too sure; under it, the share of images in each bin.

    Args:
        models: name as in ``results.json``, and its figures; at least one.
    """
    width = HALF if len(models) == 1 else FULL * len(models) / 2
    figure = Figure(figsize=(width, 5.2), layout="constrained")
    axes = figure.subplots(2, len(models), squeeze=False, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    tallest = max(100 * float((one.bins.images / one.images).max()) for _, one in models)
    for column, (name, one) in enumerate(models):
        colour = LOOKS[name][0] if name in LOOKS else INK
        _points(axes[0, column], one, colour)
        _histogram(axes[1, column], one, colour, tallest)
        if len(models) > 1:
            axes[0, column].set_title(model_name(name))
    return figure


def _points(axis: Axes, one: Reliability, colour: str) -> None:
    bins = one.bins
    low, high = bins.accuracy_interval()
    x, y = 100 * bins.confidence, 100 * bins.accuracy
    # Few images say little, so the line leaves them out; where all bins have few, it joins them.
    many = bins.images >= FEW
    joined = many if many.any() else ~many
    axis.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    # Along the line as it is drawn, whatever the figure's proportions.
    axis.text(
        *(38, 40.5),
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
        axis.vlines(x[part], 100 * low[part], 100 * high[part], color=colour, linewidth=1.2, alpha=alpha)
        axis.plot(x[part], y[part], "o", color=colour, markersize=5, markerfacecolor=fill, clip_on=False)
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 100)
    axis.set_yticks(range(0, 101, 20))
    axis.set_ylabel("Right (%)")
    axis.grid(axis="y")


def _histogram(axis: Axes, one: Reliability, colour: str, tallest: float) -> None:
    bins = one.bins
    share = 100 * bins.images / one.images
    axis.bar(100 * bins.low, share, 100 * (bins.high - bins.low), align="edge", color=colour, alpha=0.45, linewidth=0)
    # The smaller of the two is labelled lower, so that neither line crosses the other's words.
    said = sorted([(one.confidence, f"mean confidence {percent(one.confidence)}"), (one.accuracy, _right(one))])
    for (value, words), height in zip(said, (1.2, 1.65), strict=True):
        axis.vlines(100 * value, 0, tallest * (height + 0.3), color=INK, linewidth=1.1)
        side, shift = ("left", 1.2) if value < 0.4 else ("right", -1.2)
        axis.text(100 * value + shift, tallest * height, words, ha=side, fontsize=8.5, color=INK)
    axis.set_ylim(0, tallest * 2.05)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axis.set_ylabel("Images (%)")
    axis.set_xlabel("Confidence (%)")
    axis.grid(axis="y")


def _right(one: Reliability) -> str:
    return f"right {percent(one.accuracy)}"
