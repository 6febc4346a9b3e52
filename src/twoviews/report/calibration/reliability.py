"""Does a model's confidence mean what it says? Bins of confidence, calibration error, and what chance does to both.

Computed from predictions.csv: the confidence is the probability of the predicted class (top-label calibration).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
DRAWS = 1000
_Z = 1.959964  # of a 95 % interval

Confidence = NDArray[np.float64]
Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class Bins:
    """Images grouped by confidence; bins without images are left out.

    Attributes:
        low, high: ends of each bin, in [0, 1].
        images: how many are in it, at least 1.
        confidence: their mean confidence.
        accuracy: the share that is right.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al. 2015; Guo et al. 2017, section 2): the mean distance of accuracy
        from confidence over the bins, each as heavy as it has images. In [0, 1]."""
        return float((self.images * np.abs(self.accuracy - self.confidence)).sum() / self.images.sum())

    def accuracy_interval(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Wilson's 95 % interval of each bin's accuracy (1927)."""
        n, p = self.images, self.accuracy
        centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
        return np.minimum(centre - half, p).clip(0, 1), np.maximum(centre + half, p).clip(0, 1)


@dataclass(frozen=True)
class Reliability:
    """How a model's confidence compares with its accuracy; every figure is a fraction.

    Attributes:
        images: how many were judged, at least 1.
        confidence: mean confidence.
        accuracy: share that is right.
        gap: confidence minus accuracy, above 0 for a model that is too sure.
        gap_interval: its 95 % interval over test images.
        bins: `BINS` of equal width.
        error: ECE of these.
        chance: ECE that a perfectly calibrated model with these confidences has on average, by so few images.
        chance_high: what 95 of 100 such models stay below.
        equal_mass_error: ECE over `BINS` bins of equally many images (Nguyen and O'Connor 2015).
    """

    images: int
    confidence: float
    accuracy: float
    gap: float
    gap_interval: tuple[float, float]
    bins: Bins
    error: float
    chance: float
    chance_high: float
    equal_mass_error: float


def reliability(confidence: Confidence, correct: Correct, draws: int = DRAWS, seed: int = 0) -> Reliability | None:
    """Everything the page says of one model's confidence; None without images.

    ECE of a finite set of images is above zero even where the model is perfect, since accuracy in a bin scatters. How
    much is found by drawing, `draws` times, correct answers with the stated confidence as their probability: the
    consistency resampling of Bröcker and Smith (2007), section 3.

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1].
        correct: (N,) whether it is the label.
        draws: how often, at least 1.
        seed: of the draws.
    """
    n = len(confidence)
    if not n:
        return None
    gap = float((confidence - correct).mean())
    bins = equal_width(confidence, correct)
    by_chance = _errors_by_chance(confidence, draws, seed)
    return Reliability(
        images=n,
        confidence=float(confidence.mean()),
        accuracy=float(correct.mean()),
        gap=gap,
        gap_interval=_gap_interval(confidence, correct),
        bins=bins,
        error=bins.error,
        chance=float(by_chance.mean()),
        chance_high=float(np.quantile(by_chance, 0.95)),
        equal_mass_error=equal_mass(confidence, correct).error,
    )


def _gap_interval(confidence: Confidence, correct: Correct) -> tuple[float, float]:
    """95 % interval of confidence minus accuracy over images, with two right and two wrong answers added.

    Where all answers are right, or all wrong, they seem not to scatter, and the plain interval shrinks to what the
    confidence scatters. Agresti and Coull (1998) add these four for a share; here they have the mean confidence.
    """
    if len(confidence) < 2:
        return -1.0, 1.0
    over = np.append(confidence - correct, confidence.mean() - np.array([0, 0, 1, 1]))
    half = _Z * float(over.std()) / len(over) ** 0.5
    middle = float(over.mean())
    return max(middle - half, -1.0), min(middle + half, 1.0)


def equal_width(confidence: Confidence, correct: Correct, bins: int = BINS) -> Bins:
    """Bins ((m−1)/M, m/M], as Guo et al. (2017) cut them; a confidence of 0 is in the first."""
    edges = np.arange(bins + 1) / bins
    return _grouped(confidence, correct, _places(confidence, bins), edges[:-1], edges[1:])


def equal_mass(confidence: Confidence, correct: Correct, bins: int = BINS) -> Bins:
    """Bins of equally many images, as far as equal confidences can be kept in one bin."""
    ordered = np.sort(confidence)
    starts = ordered[[m * len(ordered) // bins for m in range(bins)]]
    edges = np.unique(starts)
    places = np.searchsorted(edges, confidence, side="right") - 1
    return _grouped(confidence, correct, places, edges, np.append(edges[1:], ordered[-1]))


def _places(confidence: Confidence, bins: int) -> NDArray[np.int64]:
    # A confidence that is an edge, such as 0.6 of 15 bins, mustn't pass it by rounding.
    return np.clip(np.ceil(confidence * bins - 1e-9).astype(np.int64) - 1, 0, bins - 1)


def _grouped(
    confidence: Confidence, correct: Correct, places: NDArray[np.int64], low: Confidence, high: Confidence
) -> Bins:
    size = len(low)
    images = np.bincount(places, minlength=size)
    there = images > 0

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(places, weights=values, minlength=size)[there] / images[there])

    return Bins(low[there], high[there], images[there], mean(confidence), mean(correct.astype(np.float64)))


def _errors_by_chance(confidence: Confidence, draws: int, seed: int) -> NDArray[np.float64]:
    """ECE of each of so many draws in which an answer is right with the probability that is its confidence.

    Answers of nearly the same confidence (1/250) are drawn together, with their mean: that keeps the mean of the number
    that is right, and makes its variance larger by at most 4e-6 for each answer.
    """
    places = _places(confidence, BINS)
    groups, group = np.unique(1000 * places + np.rint(confidence * 250).astype(np.int64), return_inverse=True)
    images = np.bincount(group)
    said = np.bincount(group, weights=confidence)
    right = np.random.default_rng(seed).binomial(images, np.clip(said / images, 0, 1), size=(draws, len(groups)))
    # Groups are in the order of their bins.
    starts = np.unique(groups // 1000, return_index=True)[1]
    return np.asarray(np.abs(np.add.reduceat(right - said, starts, axis=1)).sum(axis=1) / len(confidence))
