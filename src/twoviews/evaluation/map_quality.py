"""How far a map of features can be believed: false neighbours, torn neighbours, classes among neighbours.

A map on a plane can't keep every distance. Trustworthiness counts neighbours that only the map shows,
continuity those that it tears apart (Venna & Kaski 2001, "Neighborhood preservation in nonlinear projection
methods", §2). Both are about the map, not about the classes: an untrained network's features can be drawn
faithfully too. What the features are worth shows in the share of neighbours with the same class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.arrays import (
    TILE_NUMBERS,
    Doubles,
    Floats,
    Singles,
    Whole,
    checked_features,
    one_thread,
)
from twoviews.spacing import evenly_spaced

DEFAULT_NEIGHBOURS = 10

MOST_JUDGED = 5_000
"""Of more images, so many evenly spaced ones are judged; their neighbours are sought among all images."""

FLAT = 1e-7
"""Features that differ by a smaller part of their size are equal: less is rounding."""


class MapQuality(NamedTuple):
    """Means over the images judged; every field but the counts is in [0, 1].

    Attributes:
        trustworthiness: 1 when each image's neighbours on the map are neighbours in the features, near 0.5
            for a random map.
        continuity: 1 when each image's neighbours in the features are neighbours on the map; the same
            measure with the two sides exchanged.
        overlap: share of the k nearest in the features that are among the k nearest on the map.
        overlap_chance: that share for a random map, k / (N − 1).
        purity_map: share of the k nearest on the map that have the image's class.
        purity_features: share of the k nearest in the features that have it.
        purity_chance: that share for neighbours drawn at random, from the class counts.
        k: neighbours compared.
        images: N.
        judged: images whose neighbours were compared, spread evenly over all.
    """

    trustworthiness: float
    continuity: float
    overlap: float
    overlap_chance: float
    purity_map: float
    purity_features: float
    purity_chance: float
    k: int
    images: int
    judged: int


def map_quality(features: Floats, points: Floats, labels: Whole, k: int = DEFAULT_NEIGHBOURS) -> MapQuality:
    """`map_qualities` of one map."""
    return map_qualities(features, {"map": points}, labels, k)["map"]


def map_qualities(
    features: Floats, maps: Mapping[str, Floats], labels: Whole, k: int = DEFAULT_NEIGHBOURS
) -> dict[str, MapQuality]:
    """Compare each map's neighbours with those in the features, by Euclidean distances on both sides.

    An image isn't a neighbour of itself. Where distances are equal, ranks count as if ties were broken at
    random (the expected value), so that features that have collapsed to a point look like a random map, and
    not like a perfect one. Distances are computed in tiles: memory grows with N, time with N · `MOST_JUDGED`.

    Args:
        features: N×D, N at least 3.
        maps: N×2 points of each map, of the same images in the same order.
        labels: (N,) class numbers.
        k: neighbours, at least 1; lowered to stay below N / 2, as the measures' scale demands.

    Returns:
        the quality of each map, under its name.

    Raises:
        DataError: an array isn't finite, lengths differ, or there are fewer than three images.
        SettingsError: ``k`` is below 1.
    """
    images = len(checked_features(features, at_least=3))
    for points in maps.values():
        if len(checked_features(points)) != images:
            raise DataError(f"a map of {len(points)} points doesn't belong to features of {images} images")
    if labels.shape != (images,):
        raise DataError(f"{images} images need {images} labels, but the labels are of shape {labels.shape}")
    if k < 1:
        raise SettingsError(f"a map's neighbours can't be compared with k = {k}: at least one is needed")
    k = min(k, (images - 1) // 2)
    judged = evenly_spaced(images, MOST_JUDGED)
    sums = {name: np.zeros(4) for name in maps}
    pure = 0
    with one_thread():
        for rows, original in _original_sides(features, judged, k):
            same = labels[original.neighbours] == labels[rows][:, None]
            pure += int(same.sum())
            for name, points in maps.items():
                drawn = _Side.of(_planar(points, rows), k)
                excess, _ = original.ranks(drawn.neighbours)
                torn, kept = drawn.ranks(original.neighbours)
                same = labels[drawn.neighbours] == labels[rows][:, None]
                sums[name] += excess.sum(), torn.sum(), kept.sum(), same.sum()
    counts = np.unique(labels, return_counts=True)[1]
    pairs = len(judged) * k
    worst = pairs * (2 * images - 3 * k - 1) / 2
    return {
        name: MapQuality(
            trustworthiness=float(1 - excess / worst),
            continuity=float(1 - torn / worst),
            overlap=float(kept / pairs),
            overlap_chance=k / (images - 1),
            purity_map=float(same_class / pairs),
            purity_features=pure / pairs,
            purity_chance=float(np.sum(counts * (counts - 1)) / (images * (images - 1))),
            k=k,
            images=images,
            judged=len(judged),
        )
        for name, (excess, torn, kept, same_class) in sums.items()
    }


@dataclass(frozen=True)
class _Side:
    """Distances from some images to all, in the features or on a map.

    Attributes:
        distances: B×N squared distances, infinite from an image to itself.
        ordered: the same, each row in rising order.
        neighbours: B×k, which images are nearest; of equals beyond the k-th the first ones.
    """

    distances: Singles
    ordered: Singles
    neighbours: Whole

    @classmethod
    def of(cls, distances: Singles, k: int) -> _Side:
        ordered = np.sort(distances, axis=1)
        neighbours = np.empty((len(distances), k), dtype=np.int64)
        for row, near, last in zip(distances, neighbours, ordered[:, k - 1], strict=True):
            found = np.flatnonzero(row <= last)
            near[:] = found[np.argsort(row[found], kind="stable")[:k]] if len(found) > k else found
        return cls(distances, ordered, neighbours)

    def ranks(self, others: Whole) -> tuple[Doubles, Doubles]:
        """Of k images for each row: by how much their rank here is above k, and how likely it is at most k.

        Both are expected values: an image shares the ranks ``before + 1, …, upto`` with those as far away.
        """
        k = others.shape[1]
        distances = np.take_along_axis(self.distances, others, axis=1)
        before, upto = np.empty(others.shape), np.empty(others.shape)
        for i, ordered in enumerate(self.ordered):
            before[i] = np.searchsorted(ordered, distances[i], side="left")
            upto[i] = np.searchsorted(ordered, distances[i], side="right")
        ties = upto - before
        within = np.clip(k - before, 0, ties)
        nearest_outside, farthest = np.maximum(before, k) - k + 1, upto - k
        excess = (ties - within) * (nearest_outside + farthest) / 2 / ties
        return excess, within / ties


def _original_sides(features: Floats, judged: Whole, k: int) -> Iterator[tuple[Whole, _Side]]:
    """Tiles of the images judged, with their distances to all images in the features."""
    # Of size 1 and without their mean, float32 neither overflows nor loses small distances between long rows.
    size = max(float(features.max()), -float(features.min()))
    rows = (features / size if size > 0 else features).astype(np.float32)
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    largest = float(np.abs(rows).max())
    rows *= 1.0 / largest if largest > FLAT else 0.0
    lengths = np.einsum("nd,nd->n", rows, rows)
    for tile in _tiles(judged, len(rows)):
        distances = rows[tile] @ rows.T
        distances *= -2.0
        distances += lengths
        distances += lengths[tile][:, None]
        np.maximum(distances, 0.0, out=distances)
        distances[np.arange(len(tile)), tile] = np.inf
        yield tile, _Side.of(distances, k)


def _planar(points: Floats, tile: Whole) -> Singles:
    """Squared distances on a map from the images of a tile to all, by differences: close points stay apart."""
    distances = np.zeros((len(tile), len(points)), dtype=np.float32)
    for axis in points.T.astype(np.float32):
        difference = axis[tile][:, None] - axis
        difference *= difference
        distances += difference
    distances[np.arange(len(tile)), tile] = np.inf
    return distances


def _tiles(judged: Whole, images: int) -> Iterator[Whole]:
    step = max(1, TILE_NUMBERS // images)
    for begin in range(0, len(judged), step):
        yield judged[begin : begin + step]
