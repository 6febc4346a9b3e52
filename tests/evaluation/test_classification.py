from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from twoviews.errors import DataError
from twoviews.evaluation.classification import (
    balanced_accuracy,
    confusion_counts,
    confusion_rates,
    macro_f1,
    per_class_scores,
    top1,
)


@pytest.fixture(params=["all classes", "a class without images", "a class never predicted"])
def case(request):
    generator = np.random.default_rng(0)
    labels, noise = generator.integers(0, 5, 300), generator.integers(0, 5, 300)
    predictions = np.where(generator.random(300) < 0.6, labels, noise)
    if request.param == "a class without images":
        labels = np.where(labels == 2, 3, labels)
    if request.param == "a class never predicted":
        predictions = np.where(predictions == 4, 0, predictions)
    return labels, predictions


def test_everything_is_scikit_learns(case):
    labels, predictions = case
    counts = confusion_counts(labels, predictions, 5)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(labels, predictions, labels=range(5)))
    expected = metrics.precision_recall_fscore_support(labels, predictions, labels=range(5), zero_division=0.0)
    np.testing.assert_allclose(np.array(per_class_scores(counts)), np.array(expected).T)
    assert macro_f1(counts) == pytest.approx(metrics.f1_score(labels, predictions, average="macro", zero_division=0.0))
    assert top1(labels, predictions) == pytest.approx(metrics.accuracy_score(labels, predictions))
    assert top1(labels, predictions) == pytest.approx(np.trace(counts) / 300)
    present = labels != -1
    recalls = metrics.recall_score(
        labels[present], predictions[present], labels=np.unique(labels), average="macro", zero_division=0.0
    )
    assert balanced_accuracy(counts) == pytest.approx(recalls)


def test_rows_are_true_classes():
    counts = confusion_counts(np.array([0, 0, 1]), np.array([1, 1, 2]), 3)
    assert counts.tolist() == [[0, 2, 0], [0, 0, 1], [0, 0, 0]]
    assert confusion_rates(counts).tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_a_class_that_is_nowhere_lowers_no_score():
    """An empty class folder of the test part; scikit-learn leaves such a class out too."""
    labels = np.array([0, 0, 1, 1])
    counts = confusion_counts(labels, labels, 3)
    assert macro_f1(counts) == balanced_accuracy(counts) == 1.0
    assert macro_f1(np.zeros((3, 3), dtype=np.int64)) == 0.0


def test_rates_are_fractions_of_the_true_class(case):
    counts = confusion_counts(*case, 5)
    np.testing.assert_allclose(confusion_rates(counts).sum(axis=1), counts.sum(axis=1) > 0)


def test_what_cannot_be_scored_is_refused():
    labels = np.array([0, 1, 1])
    with pytest.raises(DataError, match="nothing to score"):
        confusion_counts(labels[:0], labels[:0], 2)
    with pytest.raises(DataError, match="need 3 labels"):
        confusion_counts(labels, labels[:2], 2)
    with pytest.raises(DataError, match="label 2 in row 2 is not one of the 2 classes"):
        confusion_counts(labels, np.array([0, 1, 2]), 2)
    with pytest.raises(DataError, match="2 predictions can't be scored against 3 labels"):
        top1(labels, labels[:2])
