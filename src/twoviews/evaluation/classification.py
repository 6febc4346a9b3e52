"""Scores of a classifier from its labels and predictions. Where a score would be 0/0, it is 0."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twoviews.errors import DataError
from twoviews.evaluation.arrays import Doubles, Whole, checked_labels


class ClassScores(NamedTuple):
    """One class: precision, recall and f1 are fractions in [0, 1]; ``images`` counts those of the class."""

    precision: float
    recall: float
    f1: float
    images: int


def confusion_counts(labels: Whole, predictions: Whole, classes: int) -> Whole:
    """C×C int64: row = true class, column = predicted class, entry = images.

    Args:
        labels: (N,) true class numbers in [0, classes).
        predictions: (N,) predicted class numbers in [0, classes).
        classes: number of classes, C.

    Raises:
        DataError: no images, lengths that differ, or a number out of range.
    """
    if not len(labels):
        raise DataError("no images: there is nothing to score")
    labels = checked_labels(labels, len(labels), classes)
    predictions = checked_labels(predictions, len(labels), classes)
    counts = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64, copy=False)


def confusion_rates(counts: Whole) -> Doubles:
    """C×C float64 from `confusion_counts`: fractions of each true class; rows sum to 1, or 0 if empty."""
    return _ratio(counts, counts.sum(axis=1, keepdims=True))


def per_class_scores(counts: Whole) -> list[ClassScores]:
    """Precision, recall, F1 and number of images of each class, from `confusion_counts`."""
    correct, images, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    columns = (_ratio(correct, predicted), _ratio(correct, images), _ratio(2 * correct, images + predicted))
    return [
        ClassScores(float(precision), float(recall), float(f1), int(size))
        for precision, recall, f1, size in zip(*columns, images, strict=True)
    ]


def macro_f1(counts: Whole) -> float:
    """Mean F1 over the classes that occur as label or as prediction, in [0, 1], from `confusion_counts`.

    A class that is neither there nor predicted says nothing of the model. One that is predicted and not there counts as
    0, as in scikit-learn.
    """
    there = counts.sum(axis=1) + counts.sum(axis=0) > 0
    scores = [one.f1 for one, is_there in zip(per_class_scores(counts), there, strict=True) if is_there]
    return float(np.mean(scores)) if scores else 0.0


def top1(labels: Whole, predictions: Whole) -> float:
    """Fraction of images classified correctly, in [0, 1].

    Raises:
        DataError: no images, or lengths that differ.
    """
    if not len(labels) or labels.shape != predictions.shape:
        raise DataError(f"{len(predictions)} predictions can't be scored against {len(labels)} labels")
    return float(np.mean(labels == predictions))


def balanced_accuracy(counts: Whole) -> float:
    """Mean recall over the classes that have images, in [0, 1], from `confusion_counts`.

    It leaves out classes without images, predicted or not: their recall is unknown, not 0.
    """
    images = counts.sum(axis=1)
    return float(_ratio(np.diagonal(counts), images)[images > 0].mean()) if images.any() else 0.0


def _ratio(parts: Whole, wholes: Whole) -> Doubles:
    return np.divide(parts, wholes, out=np.zeros(parts.shape), where=wholes > 0)
