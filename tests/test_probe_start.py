"""`--probe-start`: fine-tuning begins as the linear probe of its own training images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from twoviews.dataset.images import ImageSet, Source
from twoviews.dataset.splits import make_splits
from twoviews.evaluation.probes import choose_linear_probe
from twoviews.model.projection_head import projection_head
from twoviews.model.resnet50 import Classifier, create_backbone
from twoviews.settings import FinetuneCommand, StudyCommand
from twoviews.stages.backbones import new_backbone
from twoviews.stages.classify import finetune_task
from twoviews.stages.comparison import finetuning, sgd_probe, with_share
from twoviews.stages.features import extract
from twoviews.stages.probe_start import start_from_probe
from twoviews.stages.setup import Shared
from twoviews.stages.tune import _images_seen
from twoviews.stages.tune_space import KINDS, recipes
from twoviews.stages.tune_trial import trainings_of
from twoviews.trainers.engine import Engine
from twoviews.trainers.validate import forward_all
from twoviews.trainers.weights import save_weights

SETTINGS: dict[str, Any] = {"backbone": "resnet18_w16", "precision": "float32", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def shared() -> Shared:
    rng = np.random.default_rng(0)
    sets: dict[str, ImageSet] = {}
    for part, count in (("unlabeled", 6), ("train", 45), ("test", 6)):
        labels = np.arange(count, dtype=np.int64) % 3
        pixels = (rng.integers(0, 200, (count, 3, 8, 8)) + 20 * labels[:, None, None, None]).astype(np.uint8)
        sets[part] = ImageSet.whole(
            pixels, None if part == "unlabeled" else labels, [f"{part}/{i}" for i in range(count)]
        )
    splits = make_splits(Source(name="toys", class_names=("a", "b", "c"), **sets), seed=0)  # type: ignore[arg-type]
    return Shared(Engine(FinetuneCommand(**SETTINGS)), splits)


def a_classifier(layers: int = 0) -> Classifier:
    torch.manual_seed(0)
    kept = projection_head(128, 24, 8)[: 3 * layers] if layers else None
    return Classifier(create_backbone("resnet18_w16", "small"), 3, kept)


@pytest.mark.parametrize("layers", [0, 1])
def test_it_begins_as_the_probe_of_its_training_images(layers: int, shared: Shared) -> None:
    classifier, fresh = a_classifier(layers), a_classifier(layers)
    start_from_probe(classifier, shared, seed=3)
    train = shared.splits.train
    assert train.labels is not None
    below = nn.Sequential(fresh.backbone, *([fresh.head.projection] if layers else []))  # type: ignore[list-item]
    probe, _ = choose_linear_probe(extract(below, train, shared), train.labels, 3, seed=3)
    logits = forward_all(classifier, train, shared.normalisation, shared.engine)
    expected = probe.scores(forward_all(below, train, shared.normalisation, shared.engine))
    np.testing.assert_allclose(torch.softmax(torch.from_numpy(logits), 1).numpy(), expected, atol=2e-3)
    # Nothing else has moved, and the convolutions are still those that training sets up.
    for (name, was), (_, now) in zip(fresh.state_dict().items(), classifier.state_dict().items(), strict=True):
        assert torch.equal(was, now) == (
            name not in ("head.weight", "head.bias", "head.linear.weight", "head.linear.bias")
        )
    assert classifier.training
    assert {type(m) for m in classifier.modules()} == {type(m) for m in fresh.modules()}


def test_it_knows_no_label_but_those_that_train(shared: Shared) -> None:
    splits = shared.splits
    assert splits.val.labels is not None
    others = replace(splits.val, labels=(splits.val.labels + 1) % 3)
    blind = Shared(shared.engine, replace(splits, val=others, test_images=None, _test=None))
    mine, theirs = a_classifier(), a_classifier()
    start_from_probe(mine, shared, seed=0)
    start_from_probe(theirs, blind, seed=0)
    assert torch.equal(mine.linear.weight, theirs.linear.weight)
    half = Shared(shared.engine, replace(splits, train=splits.train.take(np.arange(0, len(splits.train), 2))))
    start_from_probe(theirs, half, seed=0)
    assert not torch.equal(mine.linear.weight, theirs.linear.weight)


def test_any_weights_will_do(shared: Shared, tmp_path: Path) -> None:
    """Those of a file too, which no feature check has seen; a study may ask for it beside ``--tune`` and ImageNet's."""
    file = tmp_path / "weights.safetensors"
    backbone = new_backbone(FinetuneCommand(**SETTINGS), 8, seed=5)
    save_weights(file, dict(backbone.state_dict()), {"model": "resnet18_w16", "stem": "small", "image_size": 8})
    task = finetune_task(FinetuneCommand(**SETTINGS, init=str(file), probe_start=True), shared)
    assert bool(task.module.linear.weight.detach().any())  # type: ignore[operator, union-attr]
    StudyCommand(tune=2, with_imagenet=True, finetune={"probe_start": True, "head_layers": 1})  # type: ignore[arg-type]


def test_with_fewer_labels_it_keeps_its_epochs_and_others_get_more() -> None:
    study = StudyCommand(finetune={"probe_start": True, "epochs": 60}, supervised={"epochs": 60})  # type: ignore[arg-type]
    zeros = study.model_copy(update={"finetune": study.finetune.model_copy(update={"probe_start": False})})
    parts = (
        with_share(study.supervised, 0.1),
        finetuning(study, 0.1),
        with_share(sgd_probe(study), 0.1),
        finetuning(zeros, 0.1),
    )
    assert [part.epochs for part in parts] == [190, 60, 190, 190]


def test_a_sweep_shows_both_recipes_as_many_images(shared: Shared) -> None:
    study = StudyCommand(tune=3, supervised={"epochs": 60}, finetune={"probe_start": True, "epochs": 60})  # type: ignore[arg-type]
    trainings = trainings_of(shared, study.seed)
    assert {training.share for training in trainings} != {1.0}
    baseline, finetune = (_images_seen(recipes(kind, study), trainings) for kind in KINDS)
    assert baseline == finetune
