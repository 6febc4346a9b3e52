"""How many labels does pretraining save? Read off the curves of accuracy over labels.

The baseline reaches some accuracy with all its labels. The fine-tuned model's curve says with how many labels it
reaches the same. Between two measured numbers of labels the curve is a straight line over their logarithm, for
accuracy rises about equally with each doubling.

More labels make no model worse on average, so where a measured curve falls, that is chance: isotonic regression pools
the points concerned into their mean (Ayer et al. 1955). Taking the first crossing instead would pick the luckiest
point, the last one the unluckiest.

The interval is the set of numbers of labels that the results don't rule out: those at which the interval of
fine-tuned − baseline, paired by seed and test image, holds zero (inversion of a test, as Fieller 1954 for ratios). It
holds the truth as often as the intervals of differences do, takes few seeds, and may be open: where a curve ends before
anything is ruled out, there is no end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import isotonic_regression

from twoviews.errors import DataError
from twoviews.evaluation.arrays import Doubles
from twoviews.evaluation.random_effects import check_level, grand_mean
from twoviews.evaluation.significance import DEFAULT_LEVEL

STEPS = 24
"""Numbers of labels that are looked at between two measured ones; between them the interval's ends are straight."""

AT_MOST = "at most"
NEVER = "none"


@dataclass(frozen=True)
class CurvePoint:
    """Both models at one number of labels.

    Attributes:
        labels: all of them, training and validation.
        baseline: S×N whether the baseline with each seed is correct on each test image, or (S,) its accuracies. Every
            point has the same seeds and images, in the same order.
        finetuned: the same for the fine-tuned model.
    """

    labels: int
    baseline: npt.ArrayLike
    finetuned: npt.ArrayLike


@dataclass(frozen=True)
class Savings:
    """At how many labels the fine-tuned model is as good as the baseline.

    Attributes:
        labels: of the baseline.
        baseline_top1: its accuracy, fraction.
        same_accuracy_labels: labels at which the fine-tuned model reaches it; with bound "at most" the fewest tried;
            None if it never does.
        bound: "at most" if the fine-tuned model is as good with the fewest labels tried, "none" if with none, or None.
        saved: share of the labels, 1 − same_accuracy_labels / labels; None if there is none.
        low, high: interval of ``same_accuracy_labels``; None where it is open, beyond the measured curve. Where all
            that were tried are ruled out as too few, ``low`` is the most of them and ``high`` None.
        per_point: the same for the baseline with fewer labels, in rising order.
    """

    labels: int
    baseline_top1: float
    same_accuracy_labels: float | None
    bound: str | None
    saved: float | None
    low: float | None
    high: float | None
    per_point: tuple[Savings, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """Label savings as ``results.json`` holds them; ``ci95`` is null where both ends are open."""
        record: dict[str, Any] = {
            "labels": self.labels,
            "baseline_top1": self.baseline_top1,
            "same_accuracy_labels": self.same_accuracy_labels,
            "bound": self.bound,
            "saved": self.saved,
            "ci95": None if self.low is None and self.high is None else [self.low, self.high],
        }
        if self.per_point:
            record["per_point"] = [one.as_record() for one in self.per_point]
        return record


def label_savings(points: Sequence[CurvePoint], *, level: float = DEFAULT_LEVEL) -> Savings | None:
    """The labels at which the fine-tuned model is as good as the baseline with all of them.

    The interval counts chance in seeds and in test images if the points hold correctness of each image. With
    accuracies alone it counts seeds only, for these test images; with one seed's accuracies there is none.

    Args:
        points: of the curve, in any order.
        level: of the interval, in (0, 1).

    Returns:
        None for fewer than two points: there is no curve.

    Raises:
        DataError: two points with the same number of labels, fewer than one label, or arrays that don't match.
        SettingsError: ``level`` out of range.
    """
    check_level(level)
    if len(points) < 2:
        return None
    ordered = sorted(points, key=lambda point: point.labels)
    labels = np.array([point.labels for point in ordered], dtype=np.float64)
    if labels[0] < 1 or not np.all(np.diff(labels) > 0):
        raise DataError(f"a label curve needs different numbers of labels, at least 1 each, not {labels.tolist()}")
    baseline, finetuned = (_stacked([getattr(p, name) for p in ordered]) for name in ("baseline", "finetuned"))
    if baseline.shape != finetuned.shape:
        raise DataError(f"both models need the same seeds and images, but are {baseline.shape} and {finetuned.shape}")
    curve = _pooled(finetuned)
    *fewer, whole = (_savings(int(n), at, labels, curve, level) for n, at in zip(labels, baseline, strict=True))
    return Savings(**{**vars(whole), "per_point": tuple(fewer)})


def _stacked(arrays: Sequence[npt.ArrayLike]) -> Doubles:
    """Points × S × N; accuracies count as one image."""
    found = [np.asarray(array, dtype=np.float64) for array in arrays]
    found = [array[:, None] if array.ndim == 1 else array for array in found]
    shapes = {array.shape for array in found}
    if len(shapes) > 1 or found[0].ndim != 2 or not found[0].size:
        raise DataError(f"points of a label curve need the same seeds and images, but are of shapes {sorted(shapes)}")
    return np.stack(found)


def _pooled(finetuned: Doubles) -> Doubles:
    """The curve made to rise: points that isotonic regression joins become their mean, seed by seed, image by image."""
    levels = isotonic_regression(finetuned.mean(axis=(1, 2)))
    pooled = finetuned.copy()
    for level in np.unique(levels):
        joined = levels == level
        if joined.sum() > 1:
            pooled[joined] = finetuned[joined].mean(axis=0)
    return pooled


def _savings(at: int, target: Doubles, labels: Doubles, curve: Doubles, level: float) -> Savings:
    """For one baseline point: ``target`` is S×N, ``curve`` points × S × N."""
    heights, goal = curve.mean(axis=(1, 2)), float(target.mean())
    reached = heights >= goal - 1e-12  # means of the same numbers in another order
    same: float | None = None
    bound: str | None = None
    if reached[0]:
        same, bound = float(labels[0]), AT_MOST
    elif not reached.any():
        bound = NEVER
    else:
        i = int(np.argmax(reached))
        share = min(1.0, (goal - heights[i - 1]) / (heights[i] - heights[i - 1]))
        same = float(np.exp(np.log(labels[i - 1]) + share * np.log(labels[i] / labels[i - 1])))
    low, high = _interval(target, labels, curve, level)
    return Savings(at, goal, same, bound, None if same is None else 1 - same / at, low, high)


def _interval(target: Doubles, labels: Doubles, curve: Doubles, level: float) -> tuple[float | None, float | None]:
    """From the fewest labels that aren't ruled out for being too few, to the most that aren't for being too many."""
    shares = np.linspace(0, 1, STEPS + 1)[:, None, None]
    logs, lows, highs = [], [], []
    for i in range(len(labels) - 1):
        found = grand_mean((1 - shares) * curve[i] + shares * curve[i + 1] - target, level)
        if not np.all(np.isfinite(found.half_width)):
            return None, None
        logs.append(np.log(labels[i]) + shares[:, 0, 0] * np.log(labels[i + 1] / labels[i]))
        lows.append(found.mean - found.half_width)
        highs.append(found.mean + found.half_width)
    x, low, high = np.concatenate(logs), np.concatenate(lows), np.concatenate(highs)
    enough, too_many = high >= 0, low > 0
    if not enough.any():
        return float(labels[-1]), None  # even the most labels tried are too few
    first = int(np.argmax(enough))
    start = None if first == 0 else float(np.exp(_crossing(x, high, first - 1)))
    if not too_many[-1]:
        return start, None
    if too_many.all():
        return None, float(labels[0])
    return start, float(np.exp(_crossing(x, low, int(np.flatnonzero(~too_many)[-1]))))


def _crossing(x: Doubles, y: Doubles, i: int) -> float:
    """Where the line from point i to i + 1 is zero."""
    rise = float(y[i + 1] - y[i])
    return float(x[i] if rise == 0 else x[i] - y[i] * (x[i + 1] - x[i]) / rise)
