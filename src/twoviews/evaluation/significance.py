"""How sure can one be? Intervals and tests for accuracies measured on the same images.

They answer for the choice of test images, not for the seed of the training: that takes several seeds (``seeds.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.random_effects import check_level

DEFAULT_LEVEL = 0.95
DEFAULT_RESAMPLES = 10_000

Correct = npt.NDArray[np.bool_]
"""(N,) whether a model classified each image correctly."""


def mcnemar_exact(correct_a: Correct, correct_b: Correct) -> float:
    """Two-sided p-value of McNemar's test (1947) in its exact binomial form.

    Only images count that one model classifies correctly and the other doesn't. If the models are equally
    good, each such image is as likely to favour one as the other.

    Args:
        correct_a: (N,) whether model a is correct on each image.
        correct_b: (N,) the same for model b, on the same images in the same order.

    Returns:
        in (0, 1]; 1 when the models never differ.

    Raises:
        DataError: no images, or lengths that differ.
    """
    only_a, only_b, _ = _outcomes(correct_a, correct_b)
    differing = only_a + only_b
    if differing == 0:
        return 1.0
    return float(min(1.0, 2.0 * binom.cdf(min(only_a, only_b), differing, 0.5)))


def paired_bootstrap(
    correct_a: Correct,
    correct_b: Correct,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    level: float = DEFAULT_LEVEL,
) -> tuple[float, float, float]:
    """Difference in accuracy, a − b, with its percentile interval (Efron & Tibshirani 1993, §13.3).

    Images are drawn with replacement, both models scored on the same draw. The difference depends only on how
    many drawn images favour a, favour b, or neither, and drawing N images with replacement makes these three
    counts multinomial with the observed shares. So they are drawn directly: the same distribution, without N
    × resamples indices.

    Args:
        correct_a: (N,) whether model a is correct on each image.
        correct_b: (N,) the same for model b, on the same images in the same order.
        resamples: number of draws, at least 1.
        seed: of the draws.
        level: of the interval, in (0, 1).

    Returns:
        difference, low and high in percentage points, each in [−100, 100].

    Raises:
        DataError: no images, or lengths that differ.
        SettingsError: ``resamples`` or ``level`` out of range.
    """
    counts = np.array(_outcomes(correct_a, correct_b))
    low, high = bootstrap_intervals(counts, resamples, seed, level)
    return float(100.0 * (counts[0] - counts[1]) / counts.sum()), float(low), float(high)


def bootstrap_intervals(
    counts: npt.NDArray[np.int64],
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    level: float = DEFAULT_LEVEL,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The intervals of `paired_bootstrap` for many pairs of models at once.

    Args:
        counts: (…, 3) images on which only a is correct, only b, and the rest; sums all alike and above 0.
        resamples: number of draws, at least 1.
        seed: of the draws.
        level: of the interval, in (0, 1).

    Returns:
        low and high in percentage points, each (…).

    Raises:
        SettingsError: ``resamples`` or ``level`` out of range.
    """
    check_level(level)
    if resamples < 1:
        raise SettingsError(f"a bootstrap of {resamples} resamples says nothing: it needs at least 1")
    images = int(counts.sum(axis=-1).flat[0])
    drawn = np.random.default_rng(seed).multinomial(images, counts / images, size=(resamples, *counts.shape[:-1]))
    points = 100.0 * (drawn[..., 0] - drawn[..., 1]) / images
    low, high = np.quantile(points, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def wilson_interval(correct: int, images: int, level: float = DEFAULT_LEVEL) -> tuple[float, float]:
    """Interval of an accuracy (Wilson 1927); unlike ± z·√(p(1−p)/N) it holds near 0 and 1 and for few images.

    Args:
        correct: images classified correctly.
        images: all images, at least 1.
        level: of the interval, in (0, 1).

    Returns:
        low and high, fractions in [0, 1].

    Raises:
        DataError: no images, or ``correct`` outside [0, images].
        SettingsError: ``level`` out of range.
    """
    if images < 1 or not 0 <= correct <= images:
        raise DataError(f"{correct} correct of {images} images is no accuracy")
    check_level(level)
    z = float(norm.ppf((1 + level) / 2))
    accuracy = correct / images
    centre = accuracy + z**2 / (2 * images)
    half = z * float(np.sqrt(accuracy * (1 - accuracy) / images + z**2 / (4 * images**2)))
    scale = 1 + z**2 / images
    low = 0.0 if correct == 0 else (centre - half) / scale
    high = 1.0 if correct == images else (centre + half) / scale
    return float(low), float(high)


def _outcomes(correct_a: npt.NDArray[Any], correct_b: npt.NDArray[Any]) -> tuple[int, int, int]:
    """Images on which only a is correct, only b, and the rest."""
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError(f"models must be compared on the same images, but these are {a.shape} and {b.shape}")
    if not len(a):
        raise DataError("no images: two models can't be compared")
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(~a & b))
    return only_a, only_b, len(a) - only_a - only_b
