"""The protocol of a classifier's figure, in words that follow from its settings."""

from __future__ import annotations

import pytest

from twoviews.settings import FinetuneCommand, StudyCommand, SupervisedCommand, stage_settings
from twoviews.stages.comparison import sgd_probe
from twoviews.stages.protocols import classifier_protocol

LAST = "the last epoch is the model"


def test_the_baseline_says_start_optimizer_augmentation_and_epoch() -> None:
    settings = SupervisedCommand(epochs=1, weight_decay=0.001, crop_scale=(0.4, 1.0), jitter=0.8, grayscale=0.0)
    assert classifier_protocol(settings, 100) == (
        "backbone and linear classifier, trained from random weights; 1 epoch of SGD, weight decay 0.001; random crops "
        f"of 0.4 to 1 of the area, mirror images, colour jitter with probability 0.8; {LAST}"
    )
    chosen = classifier_protocol(settings, 1000)
    assert "highest validation accuracy" in chosen
    assert LAST not in chosen


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "backbone and linear classifier, trained from pretrained weights; "),
        ({"init": "timm"}, "trained from timm's pretrained weights; "),
        ({"init": "weights.pth"}, "trained from the weights named by --init; "),
        ({"probe_start": True}, "backbone and linear classifier that starts as the linear probe, trained from "),
        ({"head_layers": 1}, "backbone with 1 layer of the head and linear classifier, trained from pretrained "),
        ({"optimizer": "lars", "blur": 0.5}, " of LARS, "),
        ({"blur": 0.5}, ", blur with probability 0.5; "),
    ],
)
def test_fine_tuning_says_from_what_it_starts(changes: dict[str, object], said: str) -> None:
    assert said in classifier_protocol(FinetuneCommand.model_validate(changes), 100)


def test_the_sgd_probe_is_no_fine_tuning() -> None:
    settings = stage_settings(FinetuneCommand, sgd_probe(StudyCommand()))
    said = classifier_protocol(settings, 100)
    assert said.startswith("linear classifier, trained on the frozen backbone of pretrained weights; ")
    assert "no weight decay" in said
    assert "jitter" not in said
