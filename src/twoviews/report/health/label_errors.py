"""Images whose label may be wrong, found by what the run already knows of them; candidates to look at, not proof.

A label is suspected where a model is sure of another class and the image's neighbours say the same. That confident
disagreement points at wrong labels is the idea of confident learning (Northcutt, Jiang and Chuang 2021, "Confident
learning: estimating uncertainty in dataset labels", section 3.1), from which the threshold of each class comes; ours is
a simple form without its estimate of how many labels are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twoviews.report.explore.neighbours import nearest

NEIGHBOURS, FEWER_NEIGHBOURS = 16, 8
FEW_PER_CLASS = 32
"""Images a class below which only `FEWER_NEIGHBOURS` are asked: a class must be able to fill most of the places."""

MOST_OWN = 1 / 16
"""The largest share of neighbours with the image's own label."""

MOST_LABELLED = 10_000
"""Labelled images beyond this are looked at evenly spaced: all pairs are compared."""


@dataclass(frozen=True)
class Suspects:
    """Images under suspicion, the strongest case first.

    Attributes:
        rows: which.
        suggested: the class that each seems to be of.
        confidence: the model's in it; NaN where only neighbours were asked.
        agreeing, own: how many of the neighbours are of the suggested class, and of the image's own.
        neighbours: how many were asked.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    confidence: NDArray[np.float64]
    agreeing: NDArray[np.int64]
    own: NDArray[np.int64]
    neighbours: int


def by_model_and_neighbours(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    confidence: NDArray[np.float64],
) -> Suspects:
    """Suspects among images that neither the model nor the backbone was trained on with their labels.

    An image is one if all of this holds:

    - the model names another class than the label, with at least the mean confidence that it has where it names it;
    - more than half of the image's nearest others, by cosine similarity of the features, have that class as label;
    - at most one in sixteen has the image's own.

    They are ordered by confidence × (share of neighbours of that class − share of the own class).

    Args:
        features: N×D, finite, of a backbone that learned without labels.
        labels: (N,) class numbers, −1 where unknown.
        predicted: (N,) likewise.
        confidence: (N,) probability of the predicted class; NaN where unknown.
    """
    neighbours = _neighbours(labels)
    if len(labels) <= neighbours:
        return _none(neighbours)
    agreeing, own = _votes(nearest(features, neighbours), labels, predicted)
    sure = np.zeros(len(labels), dtype=bool)
    for number in np.unique(predicted[predicted >= 0]):
        named = (predicted == number) & np.isfinite(confidence)
        if named.any():
            # A model that is always equally sure is as sure as on average, whatever rounding makes of the mean.
            sure[named] = confidence[named] >= confidence[named].mean() - 1e-9
    found = (labels >= 0) & (predicted >= 0) & (predicted != labels) & sure & _is_a_case(agreeing, own, neighbours)
    return _ordered(np.flatnonzero(found), predicted, confidence, agreeing, own, neighbours)


def by_neighbours(features: NDArray[np.floating], labels: NDArray[np.int64]) -> Suspects:
    """Suspects by neighbours alone, for images that a model was trained on: it may have learned a wrong label by heart.

    The class that most neighbours have is suggested (of equal ones the first); the rule is that of
    `by_model_and_neighbours` without the model.

    Args:
        features: N×D, finite, of a backbone that learned without labels.
        labels: (N,) class numbers, −1 where unknown.
    """
    neighbours = _neighbours(labels)
    if len(labels) <= neighbours or labels.max() < 0:
        return _none(neighbours)
    around = nearest(features, neighbours)
    votes = np.stack([(labels[around] == number).sum(axis=1) for number in range(int(labels.max()) + 1)], axis=1)
    suggested = votes.argmax(axis=1)
    agreeing, own = _votes(around, labels, suggested)
    found = (labels >= 0) & (suggested != labels) & _is_a_case(agreeing, own, neighbours)
    unknown = np.full(len(labels), np.nan)
    return _ordered(np.flatnonzero(found), suggested, unknown, agreeing, own, neighbours)


def _neighbours(labels: NDArray[np.int64]) -> int:
    classes = len(np.unique(labels[labels >= 0]))
    return FEWER_NEIGHBOURS if len(labels) < FEW_PER_CLASS * classes else NEIGHBOURS


def _votes(
    around: NDArray[np.uint16], labels: NDArray[np.int64], suggested: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of each image's neighbours have the suggested class, and how many its own."""
    theirs = labels[around]
    return (theirs == suggested[:, None]).sum(axis=1), (theirs == labels[:, None]).sum(axis=1)


def _is_a_case(agreeing: NDArray[np.int64], own: NDArray[np.int64], neighbours: int) -> NDArray[np.bool_]:
    return (2 * agreeing > neighbours) & (own <= MOST_OWN * neighbours)


def _ordered(
    rows: NDArray[np.int64],
    suggested: NDArray[np.int64],
    confidence: NDArray[np.float64],
    agreeing: NDArray[np.int64],
    own: NDArray[np.int64],
    neighbours: int,
) -> Suspects:
    weight = np.where(np.isfinite(confidence[rows]), confidence[rows], 1.0) * (agreeing[rows] - own[rows])
    rows = rows[np.argsort(-weight, kind="stable")]
    return Suspects(rows, suggested[rows], confidence[rows], agreeing[rows], own[rows], neighbours)


def _none(neighbours: int) -> Suspects:
    whole = np.zeros(0, dtype=np.int64)
    return Suspects(whole, whole, np.zeros(0), whole, whole, neighbours)
