"""How clearly do clusters part, and how many do the features suggest? Silhouette, and its curve over k.

The silhouette (Rousseeuw 1987) of an image compares its mean distance to the other images of its own group,
a, with that to the nearest other group, b: (b − a) / max(a, b), in [−1, 1]. Distances are 1 − cosine, half
the squared distance of features of length 1, which is what k-means makes small there. The mean of 1 − cosine
to a group is one product with the group's sum: so every image counts, without a pair ever being formed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.arrays import (
    TILE_NUMBERS,
    Doubles,
    Floats,
    Singles,
    Whole,
    checked_features,
    on_unit_sphere,
    one_thread,
)
from twoviews.evaluation.maps import principal_components
from twoviews.spacing import evenly_spaced

CURVE_VALUES = 8
CURVE_STARTS = 5
CURVE_DIMENSIONS = 50
"""Principal components in which the curve's clusters are sought; they are judged in all dimensions."""

CURVE_IMAGES = 20_000
"""Of more images, so many evenly spaced ones make the curve."""


class ClusterCurvePoint(NamedTuple):
    """One number of clusters.

    Attributes:
        k: clusters asked for.
        inertia: sum of squared distances of features of length 1 to their cluster's mean; falls with k.
        silhouette: mean over images, in [−1, 1]; none where all images fell into one cluster.
    """

    k: int
    inertia: float
    silhouette: float | None


def silhouette(features: Floats, groups: Whole) -> float | None:
    """Mean silhouette by cosine distance of N×D features, divided into groups (clusters or classes).

    It is ``sklearn.metrics.silhouette_score(metric="cosine")``, in time N × groups × D. The only image of a
    group counts as 0.

    Args:
        features: N×D, of any length; a row of zeros has distance 1 to every other.
        groups: (N,) group of each image, any whole numbers.

    Returns:
        in [−1, 1], 0 where groups overlap evenly; None if there are fewer than two groups.

    Raises:
        DataError: features aren't finite, or the lengths differ.
    """
    checked_features(features)
    if groups.shape != (len(features),):
        raise DataError(f"{len(features)} images need {len(features)} groups, not an array of shape {groups.shape}")
    with one_thread():
        return _judged(on_unit_sphere(features), groups)[1]


def curve_values(classes: int, images: int) -> list[int]:
    """At most eight numbers of clusters from 2 to twice the classes, the number of classes among them.

    Where there are few images, at most images − 1: as many clusters as images say nothing.
    """
    highest = max(2, min(2 * classes, images - 1))
    values = np.unique(np.linspace(2, highest, CURVE_VALUES).round().astype(np.int64))
    if 2 <= classes <= highest and classes not in values:
        values[np.abs(values - classes).argmin()] = classes
    return [int(k) for k in values]


def cluster_curve(features: Floats, values: Sequence[int], seed: int = 0) -> list[ClusterCurvePoint]:
    """Inertia and silhouette for each number of clusters: k-means' best of five starts on features of length 1.

    The search runs in the first 50 principal components, at most 20,000 images; inertia and silhouette are
    those of the clusters found, in all dimensions.

    Raises:
        DataError: features aren't finite, or there are fewer images than clusters.
        SettingsError: no number of clusters, or one below 1.
    """
    if not values or min(values) < 1:
        raise SettingsError(f"a curve can't be made of k = {list(values)}: all must be at least 1")
    if len(checked_features(features)) < max(values):
        raise DataError(f"k-means can't make {max(values)} clusters of {len(features)} images")
    rows = on_unit_sphere(features[evenly_spaced(len(features), max(CURVE_IMAGES, *values))])
    curve = []
    with one_thread(), warnings.catch_warnings():
        # Fewer different images than clusters leave some clusters empty: that shows in the result.
        warnings.simplefilter("ignore", ConvergenceWarning)
        reduced = principal_components(rows, CURVE_DIMENSIONS)[0].astype(np.float32)
        for k in values:
            found = KMeans(k, n_init=CURVE_STARTS, random_state=seed, algorithm="lloyd").fit(reduced)
            curve.append(ClusterCurvePoint(int(k), *_judged(rows, found.labels_.astype(np.int64))))
    return curve


def suggested_k(curve: Sequence[ClusterCurvePoint]) -> int | None:
    """The number of clusters with the highest silhouette, the smallest of equals; None where none has one."""
    known = [point for point in curve if point.silhouette is not None]
    return max(known, key=lambda point: (point.silhouette, -point.k)).k if known else None


def _judged(rows: Singles, groups: Whole) -> tuple[float, float | None]:
    """Inertia and mean silhouette of a division of rows of length 1 (or 0)."""
    present, dense = np.unique(groups, return_inverse=True)
    counts = np.bincount(dense).astype(np.float64)
    sums = np.stack([rows[dense == group].sum(axis=0, dtype=np.float64) for group in range(len(present))])
    squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    inertia = max(0.0, float(squares.sum() - np.sum(np.sum(sums**2, axis=1) / counts)))
    if len(present) < 2:
        return inertia, None
    total, step = 0.0, max(1, TILE_NUMBERS // max(rows.shape[1], len(present)))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        total += _silhouettes(rows[part].astype(np.float64) @ sums.T, squares[part], dense[part], counts).sum()
    return inertia, float(total / len(rows))


def _silhouettes(products: Doubles, squares: Doubles, own: Whole, counts: Doubles) -> Doubles:
    """Of rows whose products with each group's sum are given: rows×groups."""
    each, own_counts = np.arange(len(own)), counts[own]
    away = counts - products
    # An image's distance to itself is 0, though 1 − cosine of a row of zeros with itself isn't.
    within = (away[each, own] - (1.0 - squares)) / np.maximum(own_counts - 1.0, 1.0)
    away /= counts
    away[each, own] = np.inf
    nearest = away.min(axis=1)
    larger = np.maximum(np.maximum(within, nearest), np.finfo(np.float64).tiny)
    return np.where(own_counts > 1, (nearest - within) / larger, 0.0)
