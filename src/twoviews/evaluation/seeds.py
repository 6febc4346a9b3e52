"""Accuracies and differences over several seeds, all tested on the same images.

With one seed an interval speaks of one trained model, or one pair: chance lies in the test images alone. With several
it speaks of what a new seed on new test images would give on average (``random_effects``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import nctdtrinc
from scipy.stats import norm, t

from twoviews.errors import DataError
from twoviews.evaluation.arrays import Doubles
from twoviews.evaluation.random_effects import check_level, grand_mean
from twoviews.evaluation.significance import (
    DEFAULT_LEVEL,
    DEFAULT_RESAMPLES,
    mcnemar_exact,
    paired_bootstrap,
    wilson_interval,
)

POWER = 0.8
"""Share of studies that would find a true difference of the size called detectable."""

ONE_PAIR = f"paired bootstrap over test images, {DEFAULT_RESAMPLES:,} resamples, for this pair of models"
ONE_MODEL = "Wilson, over test images, for this model"
RANDOM_EFFECTS = "t interval from a {repeats} × test images random-effects variance (Satterthwaite)"
ONE_SIDED = ONE_PAIR + "; exact binomial limit to the side that no image favoured"
ALL_EQUAL = "exact binomial limit on test images that differ, for none did"
ONE_IMAGE = "whole range: one test image says nothing about others"


@dataclass(frozen=True)
class Difference:
    """Accuracy of model a minus accuracy of model b, in percentage points.

    Attributes:
        points: mean over seeds and test images, in [−100, 100].
        std: standard deviation (n − 1) of ``per_seed``; None for one seed.
        per_seed: (S,) difference of each seed.
        low, high: the interval's ends, in [−100, 100].
        method: of the interval, in a sentence.
        degrees_of_freedom: of the t interval; None for one seed.
        detectable: smallest true difference that a test at this level would find in 80 % of such studies; 100 where it
            would find none.
        mcnemar_p: of the first seed's pair.
        mcnemar_p_per_seed: (S,).
    """

    points: float
    std: float | None
    per_seed: tuple[float, ...]
    low: float
    high: float
    method: str
    degrees_of_freedom: float | None
    detectable: float
    mcnemar_p: float
    mcnemar_p_per_seed: tuple[float, ...]

    def as_record(self) -> dict[str, Any]:
        """A comparison as ``results.json`` holds it."""
        return {
            "points": self.points,
            "std": self.std,
            "per_seed": list(self.per_seed),
            "ci95": [self.low, self.high],
            "ci95_method": self.method,
            "degrees_of_freedom": self.degrees_of_freedom,
            "detectable": self.detectable,
            "mcnemar_p": self.mcnemar_p,
            "mcnemar_p_per_seed": list(self.mcnemar_p_per_seed),
        }


@dataclass(frozen=True)
class Mean:
    """A model's accuracy; all fractions.

    Attributes:
        test_top1: mean over seeds and test images, in [0, 1].
        std: standard deviation (n − 1) of ``per_seed``; None for one seed.
        low, high: the interval's ends, in [0, 1].
        per_seed: (S,) accuracy of each seed.
        method: of the interval, in a sentence.
    """

    test_top1: float
    std: float | None
    low: float
    high: float
    per_seed: tuple[float, ...]
    method: str

    def as_record(self) -> dict[str, Any]:
        """A model's accuracy as ``results.json`` holds it."""
        return {
            "test_top1": self.test_top1,
            "std": self.std,
            "ci95": [self.low, self.high],
            "ci95_method": self.method,
            "per_seed": list(self.per_seed),
        }


def difference_over_seeds(
    correct_a: npt.NDArray[np.bool_],
    correct_b: npt.NDArray[np.bool_],
    *,
    seed: int = 0,
    level: float = DEFAULT_LEVEL,
    repeats: str = "seeds",
) -> Difference:
    """Model a − model b, paired by seed and test image.

    One seed: the paired bootstrap over test images, for this pair of models. Several: a t interval from the
    random-effects variance of the differences (``random_effects.grand_mean``), for the training as such. Folds of
    a protocol may stand in for seeds; they overlap, so they spread less than independent draws of labels would.

    Args:
        correct_a: S×N, whether model a with each seed is correct on each image.
        correct_b: S×N the same for model b, with the same seeds and images in the same order.
        seed: of the bootstrap's draws.
        level: of the interval, in (0, 1).
        repeats: what the S rows are, for the method's name: "seeds" or "folds".

    Raises:
        DataError: shapes that differ or aren't S×N, or nothing in them.
        SettingsError: ``level`` out of range.
    """
    check_level(level)
    a, b = _checked(correct_a), _checked(correct_b)
    if a.shape != b.shape:
        raise DataError(f"models must be compared on the same seeds and images, but these are {a.shape} and {b.shape}")
    differences = 100.0 * (a.astype(np.int8) - b.astype(np.int8))
    per_seed = differences.mean(axis=1)
    seeds, images = a.shape
    points = float(differences.mean())
    df: float | None = None
    if seeds > 1:
        found = grand_mean(differences, level)
        df, half = float(found.degrees_of_freedom), float(found.half_width)
        error = half / float(t.ppf((1 + level) / 2, df))
        low, high, method = points - half, points + half, RANDOM_EFFECTS.format(repeats=repeats)
    else:
        _, low, high = paired_bootstrap(a[0], b[0], seed=seed, level=level)
        error = float(differences.std(ddof=1)) / images**0.5 if images > 1 else 0.0
        method = ONE_PAIR
        if points and (low == 0 or high == 0) and bool(np.all(differences * points >= 0)):
            # Resampling draws only what was seen: a few images that all favour one model would rule out the other.
            unseen = _none_differ(0.0, -100.0, 100.0, images, level)
            low, high = (unseen[0], high) if points > 0 else (low, unseen[1])
            method = ONE_SIDED
    if images == 1:
        low, high, method = -100.0, 100.0, ONE_IMAGE
    elif bool(np.all(differences == differences[0, 0])):
        low, high, method = *_none_differ(points, -100.0, 100.0, images, level), ALL_EQUAL
    if method in (ONE_IMAGE, ALL_EQUAL):
        error = max(points - low, high - points) / float(norm.ppf((1 + level) / 2))
    p = tuple(mcnemar_exact(*pair) for pair in zip(a, b, strict=True))
    # With one seed McNemar's test must agree, and it can't where even images that all favour one model are too few.
    can_be_found = seeds > 1 or 2 * 0.5**images < 1 - level
    return Difference(
        points=points,
        std=_std(per_seed),
        per_seed=tuple(per_seed.tolist()),
        low=max(low, -100.0),
        high=min(high, 100.0),
        method=method,
        degrees_of_freedom=df,
        detectable=min(_detectable(df, level) * error, 100.0) if can_be_found else 100.0,
        mcnemar_p=p[0],
        mcnemar_p_per_seed=p,
    )


def mean_over_seeds(correct: npt.NDArray[np.bool_], *, level: float = DEFAULT_LEVEL, repeats: str = "seeds") -> Mean:
    """Accuracy of a model: Wilson's interval for one seed, the random-effects t interval for several.

    Args:
        correct: S×N, whether the model with each seed is correct on each image.
        level: of the interval, in (0, 1).
        repeats: what the S rows are, for the method's name: "seeds" or "folds".

    Raises:
        DataError: not S×N, or nothing in it.
        SettingsError: ``level`` out of range.
    """
    check_level(level)
    correct = _checked(correct)
    seeds, images = correct.shape
    per_seed = correct.mean(axis=1)
    top1 = float(correct.mean())
    if seeds == 1:
        low, high = wilson_interval(int(correct.sum()), images, level)
        method = ONE_MODEL
    elif images == 1:
        low, high, method = 0.0, 1.0, ONE_IMAGE
    elif bool(np.all(correct == correct[0, 0])):
        low, high, method = *_none_differ(top1, 0.0, 1.0, images, level), ALL_EQUAL
    else:
        half = float(grand_mean(correct, level).half_width)
        low, high, method = top1 - half, top1 + half, RANDOM_EFFECTS.format(repeats=repeats)
    return Mean(top1, _std(per_seed), max(low, 0.0), min(high, 1.0), tuple(per_seed.tolist()), method)


def _detectable(df: float | None, level: float) -> float:
    """In standard errors: the true difference that a two-sided test finds in ``POWER`` of studies.

    The noncentrality at which a t statistic exceeds its critical value so often. For few degrees of freedom it is
    more than the usual sum of two quantiles, which at 2 gives 77 % instead of 80.
    """
    if df is None:
        return float(norm.ppf((1 + level) / 2) + norm.ppf(POWER))
    return float(nctdtrinc(df, 1 - POWER, t.ppf((1 + level) / 2, df)))


def _none_differ(mean: float, least: float, most: float, images: int, level: float) -> tuple[float, float]:
    """Interval of a mean of N equal values in [least, most]: how many other images could differ unseen.

    Clopper & Pearson's (1934) limit of a share of which none of N was seen, each such image as far off as it can be.
    """
    unseen = 1.0 - ((1 - level) / 2) ** (1.0 / images)
    return mean - unseen * (mean - least), mean + unseen * (most - mean)


def _std(per_seed: Doubles) -> float | None:
    return float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None


def _checked(correct: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    array = np.asarray(correct, dtype=bool)
    if array.ndim != 2:
        raise DataError(f"whether images were classified correctly must be seeds × images, not of shape {array.shape}")
    if not array.size:
        raise DataError("no images: there is nothing to compare")
    return array
