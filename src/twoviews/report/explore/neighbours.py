"""The images whose features are nearest to an image's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 8
_TILE = 4_000_000  # similarities held at once


def nearest(
    features: NDArray[Any], count: int = NEIGHBOURS, among: NDArray[np.int64] | None = None
) -> NDArray[np.uint16]:
    """The ``count`` nearest other images of each image by cosine similarity, which is what kNN votes with.

    Args:
        features: N×D, N at most 65,535; of any float type, compared in float32.
        count: lowered to the number of candidates − 1.
        among: ascending row numbers of the candidates; none: all rows.

    Returns:
        N×count row numbers, nearest first; of equally near ones the lower row number. An image whose features are
        all zero is equally far from all.
    """
    images = len(features)
    candidates = np.arange(images) if among is None else among
    count = min(count, max(len(candidates) - 1, 0))
    rows = np.array(features, dtype=np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    found = np.empty((images, count), dtype=np.uint16)
    others = rows if among is None else rows[among]
    column = np.full(images, -1)
    column[candidates] = np.arange(len(candidates))
    step = max(1, _TILE // max(len(candidates), 1))
    for begin in range(0, images, step):
        similar = rows[begin : begin + step] @ others.T
        own = column[begin : begin + step]
        here = np.flatnonzero(own >= 0)
        similar[here, own[here]] = -np.inf
        found[begin : begin + step] = candidates[_largest(similar, count)]
    return found


def _largest(similar: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Columns of each row's largest numbers, in order; of equal ones the first."""
    width = similar.shape[1]
    if count == 0:
        return np.empty((len(similar), 0), dtype=np.int64)
    # A partition picks any of several equal ones, so every column as large as the last one chosen is looked at.
    least = np.partition(similar, width - count, axis=1)[:, width - count, None]
    chosen = np.empty((len(similar), count), dtype=np.int64)
    for i, row in enumerate(similar):
        columns = np.flatnonzero(row >= least[i])
        chosen[i] = columns[np.argsort(-row[columns], kind="stable")[:count]]
    return chosen
