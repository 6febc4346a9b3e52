"""Planted wrong labels are found, right ones are left alone, and each condition of the rule counts."""

from __future__ import annotations

import numpy as np
import pytest

from twoviews.report.explore.neighbours import nearest
from twoviews.report.health.label_errors import by_model_and_neighbours, by_neighbours

CLASSES = 5


class Set:
    """Classes that overlap a little, a model that is right in 80 % and surer where it is, 5 % wrong labels."""

    def __init__(self, seed, images=600, spread=0.55):
        random = np.random.default_rng(seed)
        self.truth = np.arange(images) % CLASSES
        self.features = random.normal(size=(CLASSES, 16))[self.truth] + spread * random.normal(size=(images, 16))
        right = random.random(images) < 0.8
        self.predicted = np.where(right, self.truth, (self.truth + random.integers(1, CLASSES, images)) % CLASSES)
        self.confidence = np.where(right, random.uniform(0.6, 1, images), random.uniform(0.3, 0.9, images))
        self.wrong = np.zeros(images, dtype=bool)
        self.wrong[random.choice(images, images // 20, replace=False)] = True
        self.labels = np.where(self.wrong, (self.truth + random.integers(1, CLASSES, images)) % CLASSES, self.truth)

    def suspects(self, **changed):
        names = ("features", "labels", "predicted", "confidence")
        return by_model_and_neighbours(*(changed.get(name, getattr(self, name)) for name in names))


@pytest.fixture(params=[0, 1, 2])
def data(request):
    return Set(request.param)


def test_planted_errors_are_found_and_hardly_anything_else(data):
    found = data.suspects()
    hit = data.wrong[found.rows]
    assert hit.mean() > 0.8
    assert hit.sum() > 0.3 * data.wrong.sum()
    # The class that it suggests is the true one.
    assert (found.suggested[hit] == data.truth[found.rows][hit]).mean() > 0.9
    # The strongest cases come first.
    weight = found.confidence * (found.agreeing - found.own)
    assert (np.diff(weight) <= 0).all()


def test_right_labels_are_left_alone(data):
    assert len(data.suspects(labels=data.truth).rows) <= 3


def test_neighbours_alone_find_them_too(data):
    found = by_neighbours(data.features, data.labels)
    hit = data.wrong[found.rows]
    assert hit.mean() > 0.8
    assert hit.sum() > 0.5 * data.wrong.sum()
    assert not np.isfinite(found.confidence).any()


def test_every_suspect_meets_every_condition_and_no_other_image_does(data):
    found = data.suspects()
    around = nearest(data.features, 16)
    expected = []
    for i, label in enumerate(data.labels):
        theirs = data.labels[around[i]].tolist()
        named = data.predicted == data.predicted[i]
        if (
            data.predicted[i] != label
            and data.confidence[i] >= data.confidence[named].mean()
            and theirs.count(data.predicted[i]) > 8
            and theirs.count(label) <= 1
        ):
            expected.append(i)
    assert sorted(found.rows.tolist()) == expected
    assert found.neighbours == 16


def test_a_model_that_is_not_sure_or_not_known_accuses_nobody(data):
    accused = data.suspects().rows
    confidence = data.confidence.copy()
    confidence[accused] = 0.01
    assert not set(accused) & set(data.suspects(confidence=confidence).rows)
    confidence[accused] = np.nan
    assert not set(accused) & set(data.suspects(confidence=confidence).rows)
    predicted = data.predicted.copy()
    predicted[accused] = -1
    assert not set(accused) & set(data.suspects(predicted=predicted).rows)


def test_a_model_that_is_always_equally_sure_is_sure_enough(data):
    assert data.wrong[data.suspects(confidence=np.full(len(data.labels), 0.9)).rows].sum() > 0.3 * data.wrong.sum()


def test_images_without_a_known_label_are_no_suspects_and_no_evidence(data):
    labels = data.labels.copy()
    labels[::3] = -1
    found = data.suspects(labels=labels)
    assert (labels[found.rows] >= 0).all()
    assert len(by_neighbours(data.features, np.full(len(labels), -1)).rows) == 0


def test_few_images_a_class_are_asked_for_fewer_neighbours():
    few = Set(4, images=100)
    found = few.suspects()
    assert found.neighbours == 8
    assert (found.own == 0).all()
    assert (found.agreeing > 4).all()
    for images in (0, 3, 8):
        none = Set(4, images=100)
        cut = slice(images)
        got = by_model_and_neighbours(none.features[cut], none.labels[cut], none.predicted[cut], none.confidence[cut])
        assert len(got.rows) == len(by_neighbours(none.features[cut], none.labels[cut]).rows) == 0
