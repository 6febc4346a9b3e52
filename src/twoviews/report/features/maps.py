"""Pictures of features: PCA and t-SNE maps, k-means clusters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.patheffects as patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from twoviews.report.style import FULL, HALF, INK, MARKERS, PALETTE, sheet, short_names, styled

__all__ = ["MOST_NAMED", "MOST_POINTS", "kmeans_map", "scatter_map"]

MOST_POINTS = 20_000
"""A map of more points than this shows so many of them, drawn at random."""

MOST_NAMED = 20
"""Classes of which a map writes the names; of more the legend alone has them."""

_SHIFTS = (0, 1, -1, 2, -2)  # lines above the middle of its group at which a name may stand, the best first

_NO_GROUP = "#c9cdd2"


def _look(group: int) -> tuple[str, str]:
    """Colour and marker of a class: ten colours, then the same with another shape."""
    if group < 0:
        return _NO_GROUP, "o"
    return PALETTE[group % len(PALETTE)], MARKERS[group // len(PALETTE) % len(MARKERS)]


def _chosen(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows to draw, in an order that lets no class cover the others; the same rows every time."""
    rows = np.flatnonzero(np.isfinite(points).all(axis=1))
    return np.random.default_rng(0).permutation(rows)[:MOST_POINTS].astype(np.int64)


def _points(axis: Axes, points: NDArray[np.float64], groups: NDArray[np.int64]) -> None:
    rows = _chosen(points)
    size = float(np.clip(16_000 / max(len(rows), 1), 2.0, 22.0))
    looks = np.array([_look(int(group)) for group in groups[rows]]).reshape(-1, 2)
    for marker in dict.fromkeys(looks[:, 1].tolist()):
        same = looks[:, 1] == marker
        # Points as pixels keep the file small however many there are; the text around them stays vector.
        x, y = points[rows[same]].T
        axis.scatter(x, y, s=size, c=looks[same, 0].tolist(), marker=marker, alpha=0.72, linewidths=0, rasterized=True)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(True)
    axis.spines[:].set_color("#dcdfe3")
    axis.set_aspect("equal", adjustable="datalim")


def _name_groups(
    axis: Axes, points: NDArray[np.float64], groups: NDArray[np.int64], names: Mapping[int, Sequence[str]]
) -> None:
    """Write each group's name at its median, largest first; where another is there already, a line or two above or
    below it, or shorter. A name that finds no place near its group is left to the legend.

    Args:
        names: of each group its name, and after it shorter ones.
    """
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        return
    # A point of type in the map's own units, for a panel of about 4.3 by 3.6 inches.
    low, high = points[finite].min(axis=0), points[finite].max(axis=0)
    across, down = high - low
    unit = 1.15 * max(across / (4.3 * 72), down / (3.6 * 72))
    letter, line = 5.4 * unit, 11.5 * unit
    taken: list[tuple[float, float, float]] = []
    for group in sorted(names, key=lambda one: -int((groups == one).sum())):
        members = finite & (groups == group)
        if not members.any():
            continue
        x, y = np.median(points[members], axis=0)
        for shift, name in itertools.product(_SHIFTS, names[group]):
            half = len(name) * letter / 2
            # Inside the map, where the name isn't wider than that.
            place = (float(np.clip(x, *sorted((low[0] + half, high[0] - half)))), float(y + 1.05 * shift * line))
            if not any(abs(place[1] - v) < line and abs(place[0] - u) < half + other for u, v, other in taken):
                taken.append((*place, half))
                halo = [patheffects.withStroke(linewidth=2.6, foreground="white", alpha=0.9)]
                axis.text(*place, name, ha="center", va="center", fontsize=8.5, color=INK, path_effects=halo)
                break


def _written(class_names: Sequence[str]) -> dict[int, list[str]]:
    """Of each class what may be written on a map: its name, and a shorter one for where there is less room."""
    both = zip(short_names(class_names, 24), short_names(class_names, 10), strict=True)
    return {i: list(dict.fromkeys(pair)) for i, pair in enumerate(both)}


def _legend(figure: Figure, class_names: Sequence[str], grey: str = "") -> None:
    """Colours and shapes of the classes under the panel, and room for them."""
    shown = short_names(class_names, 28)
    longest = max((len(name) for name in shown), default=1)
    font = 8.5 if len(class_names) <= 20 else 7.5
    columns = max(1, min(5, len(class_names), int(figure.get_figwidth() * 72 / (font * (0.52 * longest + 2.6)))))
    lines = -(-(len(class_names) + bool(grey)) // columns)
    figure.set_figheight(figure.get_figheight() + lines * font * 1.45 / 72)
    handles = [
        Line2D([], [], linestyle="", marker=_look(i)[1], color=_look(i)[0], markersize=6, label=name)
        for i, name in enumerate(shown)
    ]
    if grey:
        handles.append(Line2D([], [], linestyle="", marker="o", color=_NO_GROUP, markersize=6, label=grey))
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=columns,
        fontsize=font,
        handletextpad=0.3,
        handlelength=1.0,
        columnspacing=1.1,
        borderaxespad=0.2,
        labelcolor=INK,
    )


@styled
def scatter_map(
    points: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    title: str = "",
    axis_labels: tuple[str, str] = ("", ""),
) -> Figure:
    """A map of features, a point an image, coloured by class.

    Args:
        points: N×2 coordinates; rows that aren't finite are left out.
        labels: N class numbers; -1 is drawn in grey.
        class_names: the name of each class; beyond ten, shapes tell apart what shares a colour.
        axis_labels: such as ``("PC 1 (12.3% of variance)", …)``.
    """
    places, groups = _checked(points, labels)
    figure, (axis,) = sheet(HALF, 4.3)
    _points(axis, places, groups)
    if len(class_names) <= MOST_NAMED:
        _name_groups(axis, places, groups, _written(class_names))
    axis.set_title(title)
    axis.set_xlabel(axis_labels[0])
    axis.set_ylabel(axis_labels[1])
    _legend(figure, class_names)
    return figure


@styled
def kmeans_map(
    points: ArrayLike,
    clusters: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    cluster_classes: Mapping[int, int],
    title: str = "",
    panels: Sequence[str] = ("cluster", "class"),
) -> Figure:
    """The same map coloured by k-means cluster, beside it by class.

    A cluster has the colour of the class that was given to it, so where the panels agree in colour the
    clusters agree with the classes. Clusters without a class are grey.

    Args:
        clusters: N cluster numbers.
        cluster_classes: cluster → class number.
        panels: leave one out to get a figure of half a page's width.
    """
    places, classes = _checked(points, labels)
    found = np.asarray(clusters, dtype=np.int64)
    coloured = np.array([cluster_classes.get(int(cluster), -1) for cluster in found], dtype=np.int64)
    figure, axes = sheet(FULL if len(panels) > 1 else HALF, 4.3, columns=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        _points(axis, places, coloured if panel == "cluster" else classes)
        if len(panels) > 1:
            axis.set_title("Coloured by k-means cluster" if panel == "cluster" else "Coloured by class")
        if panel == "cluster" and len(set(found.tolist())) <= 40:
            _name_groups(axis, places, found, {cluster: [f"{cluster}"] for cluster in sorted(set(found.tolist()))})
        elif panel == "class" and len(class_names) <= MOST_NAMED:
            _name_groups(axis, places, classes, _written(class_names))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    without = "cluster" in panels and (coloured < 0).any()
    _legend(figure, class_names, "cluster without a class" if without else "")
    return figure


def _checked(points: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    places = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    groups = np.asarray(labels, dtype=np.int64)
    if len(places) != len(groups):
        raise ValueError(f"{len(places)} points but {len(groups)} labels")
    return places, groups
