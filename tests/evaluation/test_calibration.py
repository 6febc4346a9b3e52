"""Brier score and likelihood against scikit-learn, and at the ends of their ranges."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from twoviews.errors import DataError
from twoviews.evaluation.calibration import brier_score, negative_log_likelihood


@pytest.fixture
def random():
    """The same numbers for each test, whichever others run."""
    return np.random.default_rng(5)


def test_both_agree_with_their_definitions(random):
    p = random.dirichlet(np.ones(4), size=60)
    labels = random.integers(0, 4, 60)
    assert negative_log_likelihood(p, labels) == pytest.approx(log_loss(labels, p, labels=range(4)))
    assert brier_score(p, labels) == pytest.approx(
        np.mean([((p[i] - np.eye(4)[labels[i]]) ** 2).sum() for i in range(60)])
    )


def test_the_ends_of_the_ranges():
    labels = np.array([0, 1, 2])
    assert brier_score(np.eye(3, dtype=np.float32), labels) == 0
    assert brier_score(np.eye(3), (labels + 1) % 3) == 2
    assert brier_score(np.full((3, 3), 1 / 3), labels) == pytest.approx(2 / 3)
    assert negative_log_likelihood(np.eye(3), labels) == 0
    assert negative_log_likelihood(np.full((3, 3), 1 / 3), labels) == pytest.approx(np.log(3))
    # kNN is certain and wrong: bad, but a number.
    assert negative_log_likelihood(np.eye(3), (labels + 1) % 3) == pytest.approx(-np.log(1e-7))


def test_the_true_probabilities_score_best_on_average(random):
    p = random.dirichlet(np.ones(3), size=20_000)
    labels = (random.random(20_000)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    sharper = p**2 / (p**2).sum(axis=1, keepdims=True)
    for score in (brier_score, negative_log_likelihood):
        assert score(p, labels) < score(sharper, labels)


@pytest.mark.parametrize(("shape", "labels"), [((0, 3), []), ((2, 3), [0]), ((2, 3), [0, 3]), ((2, 3), [0, -1])])
def test_what_does_not_fit_is_refused(shape, labels):
    for score in (brier_score, negative_log_likelihood):
        with pytest.raises(DataError, match="fit"):
            score(np.full(shape, 1 / 3), np.array(labels, dtype=np.int64))
