"""Which classes a cluster holds, and which of its images to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Distances = NDArray[np.float64]


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes:
        number: as clusters.npz counts it; numbers mean nothing.
        images: how many it has, of whatever class.
        counts: (C,) images of each class.
        commonest: number of the class it has most of, the first of several; −1 where no class is known.
        purity: share of that class among its images whose class is known; 0 without any.
        nearest: rows of its images nearest to the centre, nearest first.
        odd: rows of its images of other classes than the commonest that come next, nearest to the centre first.
    """

    number: int
    images: int
    counts: Numbers
    commonest: int
    purity: float
    nearest: list[int]
    odd: list[int]


def cluster_rows(
    clusters: Numbers, distances: Distances | None, labels: Numbers, classes: int, nearest: int, odd: int
) -> list[Cluster]:
    """Every cluster, in the order of their commonest classes, of one class the one with most images of it first.

    Args:
        clusters: (N,) cluster of each image, −1 where unknown.
        distances: (N,) of each image to its cluster's centre, not finite where unknown; None: not known.
        labels: (N,) class numbers below ``classes``, −1 where unknown.
        classes: how many there are.
        nearest, odd: most images to name.
    """
    found = []
    for number in np.unique(clusters[clusters >= 0]).tolist():
        members = np.flatnonzero(clusters == number)
        counts = np.bincount(labels[members][labels[members] >= 0], minlength=classes)
        known = int(counts.sum())
        commonest = int(counts.argmax()) if known else -1
        order = by_distance(members, distances)
        rest = order[nearest:]
        others = rest[(labels[rest] >= 0) & (labels[rest] != commonest)]
        purity = float(counts.max() / known) if known else 0.0
        found.append(
            Cluster(number, len(members), counts, commonest, purity, order[:nearest].tolist(), others[:odd].tolist())
        )
    return sorted(found, key=_place)


def _place(cluster: Cluster) -> tuple[bool, int, int, int]:
    most = int(cluster.counts.max(initial=0))
    return cluster.commonest < 0, cluster.commonest, -most, cluster.number


def by_distance(rows: Numbers, distances: Distances | None, farthest_first: bool = False) -> Numbers:
    """The rows whose distance is known, nearest first; equally far ones in their own order. None without distances."""
    if distances is None:
        return rows[:0]
    known = rows[np.isfinite(distances[rows])]
    return known[np.argsort(-distances[known] if farthest_first else distances[known], kind="stable")]


def purity(clusters: Sequence[Cluster]) -> float:
    """Share of the images with a known class that are of the commonest class of their cluster; 0 without any."""
    known = sum(int(cluster.counts.sum()) for cluster in clusters)
    return sum(int(cluster.counts.max(initial=0)) for cluster in clusters) / known if known else 0.0
