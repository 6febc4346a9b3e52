"""How far off is a mean over seeds × test images, when both are a sample?

Each value belongs to one seed and one image: y = mean + seed + image + rest, the three random and independent (a
two-way random-effects layout without replication, Searle, Casella & McCulloch 1992, §4.7 and ch. 5). Another study
would have other seeds and other images, so the mean varies by

    variance = σ²_seed / S + σ²_image / N + σ²_rest / (S·N),

which the mean squares estimate as (MS_seed + MS_image − MS_rest) / (S·N). Readers × cases in radiology have the same
layout (Obuchowski & Rockette 1995; Hillis 2007).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, stdtrit

from twoviews.errors import SettingsError
from twoviews.evaluation.arrays import Doubles

SEEDS_CONFIDENCE = 0.75
"""One-sided confidence of the limit of the seeds' mean square that degrees of freedom are computed with."""


class MeanSquares(NamedTuple):
    """Mean squares of a batch of S×N layouts, each of the batch's shape; one that doesn't exist is 0.

    Attributes:
        seeds: with S − 1 degrees of freedom.
        images: with N − 1.
        rest: with (S − 1)·(N − 1).
    """

    seeds: Doubles
    images: Doubles
    rest: Doubles


class GrandMean(NamedTuple):
    """A mean and how sure it is; each field has the batch's shape.

    Attributes:
        mean: over seeds and images.
        standard_error: root of the estimated variance.
        degrees_of_freedom: of the t distribution that gives the interval.
        half_width: the interval is mean ± this; infinite for a single value, 0 when all values are equal.
    """

    mean: Doubles
    standard_error: Doubles
    degrees_of_freedom: Doubles
    half_width: Doubles


def mean_squares(values: npt.NDArray[Any]) -> MeanSquares:
    """The analysis of variance of (…, S, N) values: last axis images, the one before seeds."""
    values = np.asarray(values, dtype=np.float64)
    seeds, images = values.shape[-2:]
    centred = values - values.mean(axis=(-2, -1), keepdims=True)
    of_seeds = images * np.square(centred.mean(axis=-1)).sum(axis=-1)
    of_images = seeds * np.square(centred.mean(axis=-2)).sum(axis=-1)
    whole = np.square(centred).sum(axis=(-2, -1))
    # Rounding leaves a little of a sum that is zero; it must not pass for a variance.
    rest = whole - of_seeds - of_images
    parts = [np.where(part > 1e-12 * whole, part, 0.0) for part in (of_seeds, of_images, rest)]
    freedom = (seeds - 1, images - 1, (seeds - 1) * (images - 1))
    return MeanSquares(*(part / max(df, 1) for part, df in zip(parts, freedom, strict=True)))


def grand_mean(values: npt.NDArray[Any], level: float) -> GrandMean:
    """Mean of each S×N layout with the standard error, degrees of freedom and interval of the module's model.

    Degrees of freedom are Satterthwaite's (1946), with one change. His formula needs the seeds' share of the variance
    and takes the estimated one. With few seeds that estimate is too small exactly when the variance is estimated too
    small, and the interval is too short for both reasons: a 95 % interval may hold the truth in only 92 % of studies
    with 3 seeds, in 87 % with 2. So the share is computed with the upper ``SEEDS_CONFIDENCE`` limit of the seeds' mean
    square (docs/decisions/2026-11-27-statistics.md: what else was tried, and the coverage).

    Two limits keep chance from looking like certainty. The images' part of the variance is never negative, and the
    interval reaches at least one standard error of the rest, √(MS_rest / (S·N)), to either side. With one seed only
    images count, with one image only seeds.

    Args:
        values: (…, S, N) numbers; the leading axes are studies of their own.
        level: of the interval, in (0, 1).

    Raises:
        SettingsError: ``level`` out of range.
    """
    check_level(level)
    values = np.asarray(values, dtype=np.float64)
    seeds, images = values.shape[-2:]
    squares = mean_squares(values)
    of_seeds = squares.seeds
    of_images = np.maximum(squares.images - squares.rest, 0.0)
    freedom = max(seeds - 1, 1)
    limit = of_seeds * freedom / chdtri(freedom, SEEDS_CONFIDENCE)  # chdtri takes the upper tail
    uncertain = limit**2 / freedom
    if images > 1:
        spread = squares.images**2 + squares.rest**2 / freedom
        uncertain = uncertain + np.where(of_images > 0, spread / (images - 1), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(uncertain > 0, (limit + of_images) ** 2 / uncertain, 0.0)
    fewest = min(df for df in (seeds - 1, images - 1) if df) if max(seeds, images) > 1 else 0
    df = np.maximum(found, fewest)
    error = np.sqrt((of_seeds + of_images) / (seeds * images))
    if fewest == 0:
        half = np.full_like(error, np.inf)
    else:
        half = np.maximum(stdtrit(df, (1 + level) / 2) * error, np.sqrt(squares.rest / (seeds * images)))
    return GrandMean(values.mean(axis=(-2, -1)), error, df, half)


def check_level(level: float) -> None:
    """Refuse a level that no interval can have."""
    if not 0 < level < 1:
        raise SettingsError(f"an interval's level is {level}: it must lie between 0 and 1")
