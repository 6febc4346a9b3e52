"""Classifiers on frozen features: what they already tell apart, without training the backbone.

Two of them, because they ask different questions. The linear probe (SimCLR, Chen et al. 2020, §2.3) asks
whether the classes can be separated by planes; kNN (Wu et al. 2018, §3.4) whether neighbours share a class.
Neither reads a test label: what has to be chosen is chosen within the training images, or on validation
images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from twoviews.cpus import usable_cpus
from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.arrays import (
    Doubles,
    Floats,
    Singles,
    Whole,
    checked_features,
    checked_labels,
    one_thread,
)
from twoviews.evaluation.logistic import TOLERANCE, Standardised, fit_path

DEFAULT_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
DEFAULT_FOLDS = 5

CHOICE_TOLERANCE = 2e-3
"""Fits that only rank strengths may stop earlier than the probe itself (weights within a percent), in float32."""

ABSENT_CLASS_BIAS = -1e4
"""Intercept of a class without a training image: a probability of zero, and still a finite number in a file."""

FOLD_MEMORY_BYTES = 4 << 30
"""Folds are fitted side by side while their float64 copies fit into this."""

Row = dict[str, float]
"""One setting that was tried, and how it did."""


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on standardised features.

    Attributes:
        weight: C×D float32, for standardised features.
        bias: (C,) float32.
        mean: (D,) float32, of the training features.
        scale: (D,) float32, standard deviation of the training features; 1 where it is zero.
        c: strength it was fitted with, above 0; larger means less regularisation.
    """

    weight: Singles
    bias: Singles
    mean: Singles
    scale: Singles
    c: float

    def scores(self, features: Floats) -> Singles:
        """Probabilities of each class, N×C float32, for N×D features."""
        if features.ndim != 2 or features.shape[1] != self.weight.shape[1]:
            raise DataError(
                f"features of shape {features.shape} don't fit this probe, which was fitted on "
                f"{self.weight.shape[1]} dimensions"
            )
        logits = ((features.astype(np.float32) - self.mean) / self.scale) @ self.weight.T + self.bias
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)

    def predict(self, features: Floats) -> Whole:
        """Most probable class, (N,) int64; the first of equals."""
        return np.asarray(self.scores(features).argmax(axis=1), dtype=np.int64)


def fit_linear_probe(features: Floats, labels: Whole, classes: int, c: float) -> LinearProbe:
    """The probe at the optimum of Σ cross-entropy + ‖W‖² / (2c), on standardised features.

    This is scikit-learn's ``LogisticRegression(C=c)`` for three classes or more. With two it regularises one
    difference of weights where we regularise both rows: its ``C=2c`` is our ``c``.

    Args:
        features: N×D, any floating type.
        labels: (N,) class numbers in [0, classes). A class that doesn't occur gets a probability of zero.
        classes: number of classes, C.
        c: strength, above 0.

    Raises:
        DataError: features aren't finite, labels don't fit them, or fewer than two classes occur.
        SettingsError: ``c`` isn't above 0.
    """
    labels = _checked(features, labels, classes)
    [probe] = _path(features, labels, classes, [_positive(c)])
    return probe


def choose_linear_probe(
    train_features: Floats,
    train_labels: Whole,
    classes: int,
    strengths: Sequence[float] = DEFAULT_STRENGTHS,
    folds: int = DEFAULT_FOLDS,
    seed: int = 0,
    val: tuple[Floats, Whole] | None = None,
) -> tuple[LinearProbe, list[Row]]:
    """The probe whose strength does best, fitted on all training images.

    Without ``val`` the strength is chosen by stratified cross-validation on the training images, standardisation
    included: no number of a held-out image enters the fit that is scored on it. The only image of a class is
    never held out. Equal accuracies are told apart by the cross-entropy, then by the stronger regularisation.

    Args:
        train_features: N×D.
        train_labels: (N,) class numbers in [0, classes).
        classes: number of classes.
        strengths: the values of c to try, each above 0.
        folds: parts of the cross-validation, at least 2; lowered to the images of the largest class.
        seed: which image falls into which fold.
        val: features and labels of validation images, on which to choose instead.

    Returns:
        the probe, and a row for each strength in rising order: ``c``, ``cv_top1`` (a fraction of the images
        held out) and ``cv_cross_entropy`` (nats), or ``val_top1`` and ``val_cross_entropy``. No rows if no
        class has two images: the middle strength is then taken unseen.

    Raises:
        DataError: as `fit_linear_probe`.
        SettingsError: no strength, one that isn't above 0, or fewer than two folds.
    """
    train_labels = _checked(train_features, train_labels, classes)
    strengths = sorted({_positive(c) for c in strengths})
    if not strengths:
        raise SettingsError("no strength to choose from: give the linear probe at least one")
    if folds < 2:
        raise SettingsError(f"{folds} folds can't hold out anything: cross-validation needs at least 2")

    if val is not None:
        val_labels = checked_labels(val[1], len(checked_features(val[0], at_least=1)), classes)
        probes = list(_path(train_features, train_labels, classes, strengths))
        trials = np.stack([_trial(probe, val[0], val_labels) for probe in probes]) / len(val_labels)
        return probes[_best(trials)], _rows(strengths, trials, "val")

    fold_of = stratified_folds(train_labels, folds, seed)
    held_out = [fold for fold in range(folds) if np.any(fold_of == fold)]
    if not held_out:
        return fit_linear_probe(train_features, train_labels, classes, strengths[len(strengths) // 2]), []
    one_fold = partial(_score_fold, train_features, train_labels, classes, strengths, fold_of)
    copies = 3 * train_features.size * 8
    workers = max(1, min(len(held_out), usable_cpus(), FOLD_MEMORY_BYTES // copies))
    with ThreadPoolExecutor(workers) as pool, one_thread():
        trials = sum(pool.map(one_fold, held_out), np.zeros((len(strengths), 2))) / np.sum(fold_of >= 0)
    probe = fit_linear_probe(train_features, train_labels, classes, strengths[_best(trials)])
    return probe, _rows(strengths, trials, "cv")


def stratified_folds(labels: Whole, folds: int, seed: int) -> Whole:
    """Fold of each image, (N,) in [0, folds), or −1 for the only image of a class, which is never held out.

    Each class is dealt out in turn, beginning where the class before ended: within a class, and over all,
    folds differ by at most one image. So no fold holds every image of a class.
    """
    generator = np.random.default_rng(seed)
    fold_of = np.full(len(labels), -1, dtype=np.int64)
    first = 0
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        if len(rows) > 1:
            fold_of[rows] = (first + np.arange(len(rows))) % folds
            first += len(rows)
    return fold_of


def _path(
    features: Floats,
    labels: Whole,
    classes: int,
    strengths: Sequence[float],
    rough: bool = False,
) -> Iterator[LinearProbe]:
    """Probes for strengths in rising order; ``rough`` ones serve to choose among them."""
    present, dense_labels = np.unique(labels, return_inverse=True)
    tolerance = CHOICE_TOLERANCE if rough else TOLERANCE
    with one_thread():
        standardised = Standardised.of(features, kept_as=np.float32 if rough else np.float64)
        for c, (weight, bias) in zip(
            strengths, fit_path(standardised, dense_labels, len(present), strengths, tolerance), strict=True
        ):
            all_weights = np.zeros((classes, weight.shape[1]), dtype=np.float32)
            all_biases = np.full(classes, ABSENT_CLASS_BIAS, dtype=np.float32)
            all_weights[present], all_biases[present] = weight, bias
            mean, scale = standardised.mean.astype(np.float32), standardised.scale.astype(np.float32)
            yield LinearProbe(all_weights, all_biases, mean, scale, c)


def _score_fold(
    features: Floats, labels: Whole, classes: int, strengths: Sequence[float], fold_of: Whole, fold: int
) -> Doubles:
    """Sums over the images of one fold, as `_trial`, for each strength: S×2."""
    out = fold_of == fold
    probes = _path(features[~out], labels[~out], classes, strengths, rough=True)
    return np.stack([_trial(probe, features[out], labels[out]) for probe in probes])


def _trial(probe: LinearProbe, features: Floats, labels: Whole) -> Doubles:
    """Images classified correctly, and the sum of their cross-entropy."""
    scores = probe.scores(features)
    of_truth = scores[np.arange(len(labels)), labels].astype(np.float64)
    loss = -np.log(np.maximum(of_truth, 1e-12)).sum()
    return np.array([np.sum(scores.argmax(axis=1) == labels), loss], dtype=np.float64)


def _best(trials: Doubles) -> int:
    return int(np.lexsort((trials[:, 1], -trials[:, 0]))[0])


def _rows(strengths: Sequence[float], trials: Doubles, where: str) -> list[Row]:
    names = ("c", f"{where}_top1", f"{where}_cross_entropy")
    return [
        dict(zip(names, (c, float(top1), float(loss)), strict=True))
        for c, (top1, loss) in zip(strengths, trials, strict=True)
    ]


def _checked(features: Floats, labels: Whole, classes: int) -> Whole:
    labels = checked_labels(labels, len(checked_features(features, at_least=2)), classes)
    if len(np.unique(labels)) < 2:
        raise DataError("every training image has the same label: a probe needs images of at least two classes")
    return labels


def _positive(c: float) -> float:
    if not (np.isfinite(c) and c > 0):
        raise SettingsError(f"strength of the linear probe is {c}: it must be above 0")
    return float(c)
