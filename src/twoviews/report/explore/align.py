"""Maps turned and mirrored so that the eye finds the same images in the same corner of each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NOWHERE = 65_535
"""Both coordinates of an image that has no finite place."""


def turned(points: NDArray[Any], onto: NDArray[Any]) -> NDArray[np.float64]:
    """The map rotated, and mirrored where that helps, to match another of the same images.

    Orthogonal Procrustes (Schönemann 1966) on the images that have a place in both; the size is matched by the root
    mean square distance from the mean. Nothing is bent: distances within the map keep their ratios.

    Args:
        points: N×2.
        onto: N×2, rows as in ``points``.
    """
    moved, mean, shared, wanted = _paired(points, onto)
    if not shared.any():
        return np.asarray(points, dtype=np.float64)
    left, _, right = np.linalg.svd(moved[shared].T @ wanted)
    size = float(np.linalg.norm(moved[shared]))
    scale = float(np.linalg.norm(wanted)) / size if size > 0 else 1.0
    found: NDArray[np.float64] = moved @ (left @ right) * scale + mean
    return found


def flipped(points: NDArray[Any], onto: NDArray[Any]) -> NDArray[np.float64]:
    """The map with each axis mirrored where that helps to match another; for PCA, whose axes have a meaning."""
    moved, mean, shared, wanted = _paired(points, onto)
    signs = np.where((moved[shared] * wanted).sum(axis=0) < 0, -1.0, 1.0)
    return moved * signs + mean


def _paired(
    points: NDArray[Any], onto: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """The centred map, its target's mean, the rows with a place in both, and the centred target of those."""
    places, target = np.asarray(points, dtype=np.float64), np.asarray(onto, dtype=np.float64)
    shared = np.asarray(np.isfinite(np.hstack([places, target])).all(axis=1))
    if not shared.any():
        return places, np.zeros(2), shared, np.zeros((0, 2))
    mean: NDArray[np.float64] = np.asarray(target[shared].mean(axis=0))
    return places - places[shared].mean(axis=0), mean, shared, target[shared] - mean


def on_a_square(points: NDArray[Any]) -> NDArray[np.uint16]:
    """The map as whole numbers from 0 to 65,534 on a square, y downwards, the same scale on both axes, in the middle.

    An image without a finite place gets `NOWHERE` twice.
    """
    places = np.asarray(points, dtype=np.float64)
    found = np.full(places.shape, NOWHERE, dtype=np.uint16)
    finite = np.isfinite(places).all(axis=1)
    if not finite.any():
        return found
    low, high = places[finite].min(axis=0), places[finite].max(axis=0)
    across = max(float((high - low).max()), np.finfo(np.float64).tiny)
    unit = 0.5 + (places[finite] - (low + high) / 2) / across
    unit[:, 1] = 1 - unit[:, 1]
    found[finite] = np.rint(np.clip(unit, 0, 1) * (NOWHERE - 1)).astype(np.uint16)
    return found
