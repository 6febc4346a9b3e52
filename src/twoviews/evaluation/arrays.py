"""What every measure expects of its arrays, refused in one line when it doesn't hold."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from twoviews.errors import DataError

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]

TILE_NUMBERS = 1 << 23
"""Most numbers in one tile of similarities or distances: 32 MiB in float32, 64 MiB in float64."""


def checked_features(features: Floats, at_least: int = 1) -> Floats:
    """The same N×D array, once it is known to be two-dimensional, finite and ``at_least`` rows long.

    Raises:
        DataError: it isn't; the line names the first bad row.
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise DataError(f"features must be images × dimensions, not of shape {features.shape}")
    if len(features) < at_least:
        raise DataError(f"features of {len(features)} images are too few: this measure needs at least {at_least}")
    # A sum is not finite whenever one of its terms isn't, and needs no N×D mask.
    bad = np.flatnonzero(~np.isfinite(features.sum(axis=1, dtype=np.float64)))
    if len(bad):
        raise DataError(
            f"features of {len(bad)} of {len(features)} images aren't finite (first in row {bad[0]}): "
            "check the weights they were computed with"
        )
    return features


def checked_labels(labels: npt.NDArray[np.integer[Any]], images: int, classes: int) -> Whole:
    """Labels as (images,) int64, once it is known that there is one in [0, classes) for each image.

    Raises:
        DataError: the lengths differ, or a label is out of range.
    """
    if labels.shape != (images,):
        raise DataError(f"{images} images need {images} labels, but the labels are of shape {labels.shape}")
    if images and not (labels.min() >= 0 and labels.max() < classes):
        wrong = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise DataError(f"label {labels[wrong]} in row {wrong} is not one of the {classes} classes (from 0)")
    return labels.astype(np.int64, copy=False)


def one_thread() -> AbstractContextManager[object]:
    """While open, matrix products and k-means of this process use one thread.

    Threads split a sum differently on each machine, and some in a different order each time; one thread gives
    the same digits however many cores there are. Thin products gain little from a second one, and lose much
    on a busy machine.
    """
    return cast("AbstractContextManager[object]", threadpool_limits(limits=1))


def on_unit_sphere(features: Floats) -> Singles:
    """Rows divided by their length, N×D float32; a row of zeros stays zero."""
    unit = np.empty(features.shape, dtype=np.float32)
    step = max(1, TILE_NUMBERS // features.shape[1])
    for begin in range(0, len(features), step):  # in tiles: the sizes of all entries would be one more copy
        rows = unit[begin : begin + step]
        rows[:] = features[begin : begin + step]
        # Dividing by the largest entry first keeps squares of huge or tiny features inside float32.
        rows /= np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return unit
