"""Confusion matrices, and what changes between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from twoviews.report.style import FULL, HALF, INK, sheet, short_names, styled

_SEQUENTIAL = LinearSegmentedColormap.from_list("share", ["#f7f9fb", "#b9d3ea", "#5b97cd", "#1c5b9c", "#0b2f57"])
_DIVERGING = LinearSegmentedColormap.from_list("change", ["#a8410a", "#f0a868", "#fafafa", "#7fb3e0", "#1c5b9c"])


def _matrix(
    values: NDArray[np.float64], texts: Sequence[Sequence[str]] | None, names: Sequence[str], **image: Any
) -> tuple[Figure, Axes]:
    """A square grid of coloured cells, true classes down and predicted classes across."""
    size = len(names)
    width = HALF if size <= 12 else FULL
    figure, (axis,) = sheet(width, width * 1.03)
    picture = axis.imshow(values, aspect="equal", **image)
    font = 8.0 if size <= 12 else max(3.5, min(8.5, 300 / size))
    # Past 60 classes names would be too small to read: numbers every tenth class stand in.
    ticks = np.arange(size) if size <= 60 else np.arange(0, size, 10)
    labels = short_names(names, 18 if size <= 12 else 22) if size <= 60 else [f"{i}" for i in range(size)]
    shown = [labels[i] for i in ticks]
    tick_font = max(font, 5.5) if size <= 60 else 9.0
    axis.set_xticks(
        ticks,
        shown,
        rotation=90 if size > 12 else 45,
        ha="center" if size > 12 else "right",
        rotation_mode="default" if size > 12 else "anchor",
        fontsize=tick_font,
    )
    axis.set_yticks(ticks, shown, fontsize=tick_font)
    axis.set_xlabel("Predicted class")
    axis.set_ylabel("True class")
    axis.tick_params(length=0, labelcolor=INK)
    axis.spines[:].set_visible(False)
    axis.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.2 if size <= 30 else 0.2)
    axis.tick_params(which="minor", length=0)
    if texts is None:
        figure.colorbar(picture, ax=axis, shrink=0.6, label=image.get("label", ""))
    else:
        rgba = picture.to_rgba(values)
        for (row, column), _ in np.ndenumerate(values):
            dark = float(rgba[row, column, :3] @ (0.299, 0.587, 0.114)) < 0.55
            axis.text(
                column,
                row,
                texts[row][column],
                ha="center",
                va="center",
                fontsize=font,
                color="white" if dark else INK,
                in_layout=False,  # inside its cell: asking where each text ends would cost half the time of a figure
            )
    return figure, axis


def shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """C×C fractions of each row of C×C counts; a row of zeros stays one."""
    totals = counts.sum(axis=1, keepdims=True)
    rates: NDArray[np.float64] = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return rates


@styled
def confusion_matrix(counts: ArrayLike, class_names: Sequence[str], title: str = "", rates: bool = False) -> Figure:
    """True classes down, predicted classes across; colour is the share of the true class, zeros are blank.

    Args:
        counts: C×C numbers of images.
        rates: write percent of the true class in the cells, not numbers of images.
    """
    table = np.asarray(counts, dtype=np.float64)
    share = shares(table)
    texts = None
    if len(class_names) <= 30:
        shown = share * 100 if rates else table
        texts = [[f"{value:.0f}" if table[i, j] else "" for j, value in enumerate(row)] for i, row in enumerate(shown)]
    figure, axis = _matrix(share, texts, class_names, cmap=_SEQUENTIAL, vmin=0, vmax=1)
    unit = "% of each true class" if rates else "number of images"
    axis.set_title(f"{title} ({unit})" if title else unit.capitalize())
    return figure


@styled
def confusion_difference(
    counts_a: ArrayLike, counts_b: ArrayLike, class_names: Sequence[str], title: str = ""
) -> Figure:
    """What changes from matrix a to matrix b, in images: cells say b minus a; blue is better, orange worse.

    More images on the diagonal are better; off it, fewer are. The darkest colour is the largest change, but at least
    2 images and 5 % of a class of usual size.
    """
    change = np.asarray(counts_b, dtype=np.float64) - np.asarray(counts_a, dtype=np.float64)
    better = np.where(np.eye(len(change), dtype=bool), change, -change)
    texts = None
    if len(class_names) <= 30:
        texts = [[f"{value:+.0f}".replace("-", "−") if value else "" for value in row] for row in change]
    sizes = np.asarray(counts_a, dtype=np.float64).sum(axis=1)
    usual = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0
    bound = float(np.ceil(max(np.abs(change).max(initial=0.0), 2.0, 0.05 * usual)))
    figure, axis = _matrix(better, texts, class_names, cmap=_DIVERGING, vmin=-bound, vmax=bound)
    # A bar of colours says the same beside cells without numbers.
    unit = f"images; darkest: ±{bound:,.0f}" if texts else "images"
    axis.set_title(f"{title or 'Change'} ({unit})")
    return figure
