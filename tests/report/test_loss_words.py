"""A contrastive loss that rose is said, unless larger views explain it."""

from __future__ import annotations

import pytest

from twoviews.report.loss_words import loss_sentences, view_size_in
from twoviews.settings.groups import TrainingSettings
from twoviews.settings.growth import progress_at
from twoviews.trainers.steps import view_size_at


def rows(*losses):
    return [{"epoch": i + 1, "loss": loss} for i, loss in enumerate(losses)]


def test_a_loss_that_rose_is_said_with_its_numbers():
    assert loss_sentences(rows(6.1008, 6.3, 6.2184), {"epochs": 3}) == [
        "The contrastive loss ended higher than it began: 6.10 in epoch 1, 6.22 in epoch 3. It should fall: there may"
        " be too few epochs, or the learning rate may be too high."
    ]


@pytest.mark.parametrize("losses", [(), (6.1,), (6.1, 6.0), (6.1, 6.5, 6.1), (6.1, 6.105), (None, 6.1), ("x", 6.1)])
def test_otherwise_nothing_is_said(losses):
    assert loss_sentences(rows(*losses), {"epochs": 3}) == []


def test_a_gap_at_the_end_or_the_start_is_passed_over():
    (said,) = loss_sentences(rows(None, 4.0, 5.0, float("nan")), {"epochs": 4})
    assert "4.00 in epoch 2, 5.00 in epoch 3" in said


def test_views_that_grow_are_compared_at_one_size():
    grow = {"first_view_size": 16, "view_size": 24, "epochs": 9}
    assert [view_size_in(grow, epoch, 9) for epoch in range(1, 10)] == [16, 16, 16, 20, 20, 20, 24, 24, 24]
    risen_with_size = rows(4.0, 3.9, 3.8, 4.3, 4.2, 4.1, 4.6, 4.5, 4.4)
    assert loss_sentences(risen_with_size, grow) == []
    (said,) = loss_sentences(rows(4.0, 3.9, 3.8, 4.3, 4.2, 4.1, 4.6, 4.7, 4.8), grow)
    assert "than when its views had reached their last size: 4.60 in epoch 7, 4.80 in epoch 9" in said
    # Cut short in the fourth epoch: only one has that size.
    assert loss_sentences(rows(4.0, 3.9, 3.8, 4.3), grow) == []


def test_views_that_grow_to_an_unknown_size_are_not_judged():
    grow = {"first_view_size": 16, "view_size": None}
    assert loss_sentences(rows(4.0, 5.0), grow | {"epochs": 2}) == []
    assert loss_sentences(rows(4.0, 4.1, 5.0), grow | {"image_size": 16, "epochs": 3}) != []
    assert loss_sentences(rows(4.0, 4.1, 5.0), grow | {"image_size": 16}) == []


@pytest.mark.parametrize(("first", "last", "image"), [(16, 24, 32), (64, 96, 96), (128, 224, 224), (30, None, 33)])
def test_the_size_of_views_is_that_of_training(first, last, image):
    settings = TrainingSettings(first_view_size=first, view_size=last)
    for epochs in (1, 2, 7, 50):
        for epoch in range(1, epochs + 1):
            here = view_size_in(settings.model_dump() | {"image_size": image}, epoch, epochs)
            assert here == view_size_at(settings, image, progress_at(epoch - 1, epochs))
