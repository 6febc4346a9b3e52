"""Weighted k nearest neighbours on frozen features (Wu et al. 2018, "Unsupervised Feature Learning via
Non-Parametric Instance Discrimination", §3.4).

Each of the k training images most similar to an image votes for its class with the weight exp(cosine / T).
Similarities are computed tile by tile, so memory doesn't grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.arrays import (
    Doubles,
    Floats,
    Singles,
    Whole,
    checked_features,
    checked_labels,
    on_unit_sphere,
)
from twoviews.evaluation.nearest import nearest
from twoviews.spacing import evenly_spaced

DEFAULT_KS = (1, 5, 10, 20, 50, 200)
DEFAULT_TEMPERATURES = (0.07, 0.1, 0.2)
"""0.07 is the paper's."""

PROTOCOL_KS = (200, 20, 5)
PROTOCOL_TEMPERATURE = 0.07
"""The numbers of neighbours that papers fix beforehand, at the temperature of Wu et al. (2018, §3.4); 200 is theirs."""

CHOSEN_PROTOCOL = (
    "weighted kNN on frozen features (cosine similarity s, votes exp(s/T)), k and T by leave-one-out on the training "
    "images"
)

MOST_QUERIES = 20_000
"""Most images that are left out in turn when choosing; beyond it, evenly spaced ones are."""


@dataclass(frozen=True)
class KNN:
    """The training images, ready to vote.

    Attributes:
        bank: M×D float32, rows of length 1 (or 0).
        labels: (M,) int64 class numbers in [0, classes).
        classes: number of classes, C.
        k: how many neighbours vote; all of them where the bank holds fewer.
        temperature: T, above 0; the smaller, the more the nearest ones count.
    """

    bank: Singles
    labels: Whole
    classes: int
    k: int
    temperature: float

    @classmethod
    def of(cls, features: Floats, labels: Whole, classes: int, k: int, temperature: float) -> KNN:
        """From N×D training features of any length.

        Raises:
            DataError: features aren't finite, or labels don't fit them.
            SettingsError: ``k`` is below 1, or ``temperature`` not above 0.
        """
        labels = checked_labels(labels, len(checked_features(features)), classes)
        _check_settings([k], [temperature])
        return cls(on_unit_sphere(features), labels, classes, min(k, len(labels)), float(temperature))

    def scores(self, features: Floats) -> Singles:
        """Share of the votes for each class, N×C float32, rows sum to 1, for N×D features."""
        if features.ndim != 2 or features.shape[1] != self.bank.shape[1]:
            raise DataError(
                f"features of shape {features.shape} don't fit this kNN, whose bank has {self.bank.shape[1]} dimensions"
            )
        scores = np.empty((len(features), self.classes), dtype=np.float32)
        for rows, similarities, neighbours in nearest(on_unit_sphere(features), self.bank, self.k):
            weights = _weights(similarities, self.temperature)
            votes = _count(weights, self.labels[neighbours], self.classes)
            scores[rows] = votes / votes.sum(axis=1, keepdims=True)
        return scores

    def predict(self, features: Floats) -> Whole:
        """Class with the largest share, (N,) int64; the first of equals."""
        return np.asarray(self.scores(features).argmax(axis=1), dtype=np.int64)


def choose_knn(
    train_features: Floats,
    train_labels: Whole,
    classes: int,
    ks: Sequence[int] = DEFAULT_KS,
    temperatures: Sequence[float] = DEFAULT_TEMPERATURES,
) -> tuple[KNN, list[dict[str, float]]]:
    """The k and temperature that do best when each training image is classified by all the others.

    One pass over the similarities serves every k and temperature. Each k is lowered to the number of other
    images. Equal accuracies: the smaller k, then the temperature given first.

    Args:
        train_features: N×D, N at least 2.
        train_labels: (N,) class numbers in [0, classes).
        classes: number of classes.
        ks: numbers of neighbours to try, each at least 1.
        temperatures: temperatures to try, each above 0.

    Returns:
        the kNN, and a row for each pair tried: ``k``, ``temperature``, ``cv_top1`` (leave-one-out, a
        fraction).

    Raises:
        DataError, SettingsError: as `KNN.of`; also with fewer than two images, or nothing to try.
    """
    labels = checked_labels(train_labels, len(checked_features(train_features, at_least=2)), classes)
    _check_settings(ks, temperatures)
    bank = on_unit_sphere(train_features)
    ks = sorted({min(k, len(bank) - 1) for k in ks})
    temperatures = list(dict.fromkeys(float(t) for t in temperatures))
    queries = evenly_spaced(len(bank), MOST_QUERIES)
    correct = np.zeros((len(ks), len(temperatures)), dtype=np.int64)
    for rows, similarities, neighbours in nearest(bank[queries], bank, ks[-1], queries):
        truth, neighbour_labels = labels[queries[rows]], labels[neighbours]
        for t, temperature in enumerate(temperatures):
            for i, votes in enumerate(_votes(_weights(similarities, temperature), neighbour_labels, ks, classes)):
                correct[i, t] += np.sum(votes.argmax(axis=1) == truth)
    sweep = [
        {"k": float(k), "temperature": temperature, "cv_top1": float(correct[i, t] / len(queries))}
        for i, k in enumerate(ks)
        for t, temperature in enumerate(temperatures)
    ]
    best = max(sweep, key=lambda row: row["cv_top1"])
    return KNN(bank, labels, classes, int(best["k"]), best["temperature"]), sweep


class ProtocolPredictions(NamedTuple):
    """What one published protocol predicts.

    Attributes:
        name: the protocol in words.
        k_asked: neighbours that the protocol names.
        k: neighbours that voted: all training images where there are fewer.
        temperature: T.
        predictions: (N,) int64 classes.
    """

    name: str
    k_asked: int
    k: int
    temperature: float
    predictions: Whole


def protocol_predictions(
    train_features: Floats, train_labels: Whole, classes: int, features: Floats
) -> list[ProtocolPredictions]:
    """Classes of N×D features by weighted kNN with k = 200, 20 and 5, T = 0.07: nothing is chosen.

    One search serves all three. Labels of the images that are classified are not needed: a test stage can
    predict before it opens them.

    Args:
        train_features: M×D.
        train_labels: (M,) class numbers in [0, classes).
        classes: number of classes.
        features: N×D, of images that are not among the training images.

    Raises:
        DataError: features aren't finite, don't fit each other, or labels don't fit them.
    """
    labels = checked_labels(train_labels, len(checked_features(train_features)), classes)
    if checked_features(features, at_least=0).shape[1] != train_features.shape[1]:
        raise DataError(f"features of shapes {train_features.shape} and {features.shape} can't be neighbours")
    ks = sorted({min(k, len(labels)) for k in PROTOCOL_KS})
    predictions = {k: np.empty(len(features), dtype=np.int64) for k in ks}
    for rows, similarities, neighbours in nearest(on_unit_sphere(features), on_unit_sphere(train_features), ks[-1]):
        votes = _votes(_weights(similarities, PROTOCOL_TEMPERATURE), labels[neighbours], ks, classes)
        for k, counted in zip(ks, votes, strict=True):
            predictions[k][rows] = counted.argmax(axis=1)
    return [
        ProtocolPredictions(
            f"weighted kNN on frozen features (Wu et al. 2018), k = {asked}, T = {PROTOCOL_TEMPERATURE:g}",
            asked,
            min(asked, len(labels)),
            PROTOCOL_TEMPERATURE,
            predictions[min(asked, len(labels))],
        )
        for asked in PROTOCOL_KS
    ]


def _votes(weights: Doubles, labels: Whole, ks: Sequence[int], classes: int) -> Iterator[Doubles]:
    """Votes of the first k neighbours for each class, rows×classes, for each k in rising order; one array, growing."""
    votes, begin = np.zeros((len(labels), classes)), 0
    for k in ks:
        votes += _count(weights[:, begin:k], labels[:, begin:k], classes)
        yield votes
        begin = k


def _weights(similarities: Doubles, temperature: float) -> Doubles:
    # Relative to the nearest: the shares are the same, and exp() neither overflows nor makes every vote zero.
    return np.asarray(np.exp((similarities - similarities[:, :1]) / temperature))


def _count(weights: Doubles, labels: Whole, classes: int) -> Doubles:
    """Sum of each row's weights by label: rows×classes."""
    places = labels + np.arange(len(labels))[:, None] * classes
    counts = np.bincount(places.ravel(), weights.ravel(), minlength=len(labels) * classes)
    return np.asarray(counts, dtype=np.float64).reshape(len(labels), classes)


def _check_settings(ks: Sequence[int], temperatures: Sequence[float]) -> None:
    if not ks or min(ks) < 1:
        raise SettingsError(f"kNN can't use k = {list(ks)}: at least one neighbour must vote")
    if not temperatures or not min(temperatures) > 0:
        raise SettingsError(f"kNN can't use temperature = {list(temperatures)}: it must be above 0")
