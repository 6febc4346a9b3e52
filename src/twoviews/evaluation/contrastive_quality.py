"""Is the feature space healthy? What can be measured without a label, while pretraining runs.

A falling loss doesn't show that a network collapses to a point or to a few directions; these numbers do.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from twoviews.errors import DataError
from twoviews.evaluation.arrays import Floats, checked_features, on_unit_sphere, one_thread
from twoviews.spacing import evenly_spaced

MOST_IMAGES = 2_048
"""Pairs grow with the square of the images; of more, evenly spaced ones are measured."""

COLLAPSED_RANK = 2.0
COLLAPSED_RANK_FRACTION = 0.01
"""Fewer effective directions than this part of the dimensions is a collapse to a few."""

COLLAPSED_STD = 0.05
"""Deviation as a part of 1/√D, that of even spread: below it, images have a mean cosine above 0.997."""


def alignment(first: Floats, second: Floats) -> float:
    """Mean squared distance of two views of the same image, both on the unit sphere (Wang & Isola 2020,
    §4.1).

    Args:
        first: N×D features or projections, one view of each image; scaled to length 1 here.
        second: N×D, the other view of the same images in the same order.

    Returns:
        in [0, 4]; 0 when the views coincide, 2 when they are unrelated.

    Raises:
        DataError: an array isn't finite, or the shapes differ.
    """
    if first.shape != second.shape:
        raise DataError(f"two views of the same images can't have shapes {first.shape} and {second.shape}")
    checked_features(first)
    checked_features(second)
    difference = on_unit_sphere(first) - on_unit_sphere(second)
    return float(np.mean(np.sum(difference.astype(np.float64) ** 2, axis=1)))


def uniformity(features: Floats, most_images: int = MOST_IMAGES) -> float:
    """log of the mean of exp(−2‖x − y‖²) over pairs of different images (Wang & Isola 2020, §4.1, t = 2).

    Args:
        features: N×D, N at least 2; scaled to length 1 here.
        most_images: pairs among at most so many evenly spaced images.

    Returns:
        in [−8, 0]; 0 when all images coincide, lower when they spread; −4 for even spread in many dimensions.

    Raises:
        DataError: features aren't finite, or there are fewer than two images.
    """
    checked_features(features, at_least=2)
    rows = on_unit_sphere(features[evenly_spaced(len(features), max(2, most_images))]).astype(np.float64)
    lengths = np.sum(rows**2, axis=1)
    with one_thread():
        squared = lengths[:, None] + lengths - 2.0 * (rows @ rows.T)
    pairs = squared[np.triu_indices(len(rows), k=1)]
    return float(logsumexp(-2.0 * np.maximum(pairs, 0.0)) - np.log(len(pairs)))


def effective_rank(features: Floats, most_images: int = MOST_IMAGES) -> float:
    """How many directions the features use: exp of the entropy of the normalised singular values.

    Roy & Vetterli (2007), "The effective rank", §2, of the features less their mean. A few images can't span
    many directions: compare it between sets of equal size only.

    Args:
        features: N×D, N at least 2; not scaled to length 1.
        most_images: at most so many evenly spaced images.

    Returns:
        in [1, min(N − 1, D)]; 1 also when all images coincide.

    Raises:
        DataError: features aren't finite, or there are fewer than two images.
    """
    checked_features(features, at_least=2)
    rows = features[evenly_spaced(len(features), max(2, most_images))].astype(np.float64)
    rows -= rows.mean(axis=0)
    largest = np.abs(rows).max()
    if largest == 0.0:
        return 1.0
    rows /= largest
    with one_thread():
        squares = np.linalg.eigvalsh(rows.T @ rows if rows.shape[1] <= rows.shape[0] else rows @ rows.T)
    # Squaring costs digits: what is below 1e-12 of the largest square is rounding, and a root would enlarge
    # it.
    values = np.sqrt(squares[squares > 1e-12 * squares[-1]])
    shares = values / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def feature_std(features: Floats) -> float:
    """Mean over dimensions of the deviation of features of length 1 (Chen & He 2021, "SimSiam", §4.1).

    Returns:
        in [0, 1/√D]; 0 when all N images point the same way, 1/√D when they spread evenly.

    Raises:
        DataError: features aren't finite.
    """
    return float(on_unit_sphere(checked_features(features)).std(axis=0, dtype=np.float64).mean())


def collapse_warning(
    effective_rank: float, feature_std: float, dimension: int, images: int | None = None
) -> str | None:
    """A sentence with the measured number if the features have collapsed, else None.

    Args:
        effective_rank: as measured by the function of that name.
        feature_std: likewise.
        dimension: of the features, D.
        images: how many were measured, if fewer than would span D dimensions.
    """
    relative = feature_std * float(np.sqrt(dimension))
    if relative < COLLAPSED_STD:
        return (
            f"the features have collapsed: almost every image points the same way (deviation {relative:.2g} "
            "of an even spread); don't use this backbone; try a lower learning rate or a higher temperature"
        )
    directions = dimension if images is None else min(dimension, images - 1)
    if effective_rank < max(COLLAPSED_RANK, COLLAPSED_RANK_FRACTION * directions):
        return (
            f"the features have collapsed to few directions: effective rank {effective_rank:.1f} of at most "
            f"{directions}; try more varied images, stronger augmentation or more epochs"
        )
    return None
