"""SimCLR and a classifier on a few small images: real backbone, real steps, a moment to train."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twoviews.dataset.batches import Batches
from twoviews.dataset.images import ImageSet
from twoviews.model.projection_head import SimCLR
from twoviews.model.resnet50 import Classifier, create_backbone
from twoviews.settings import FinetuneSettings, PretrainSettings, RunSettings, TrainingSettings
from twoviews.trainers.engine import Engine
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.steps import ClassifierStep, SimCLRStep, Step, augmentation_of
from twoviews.trainers.task import Task
from twoviews.trainers.validate import Normalisation

SIZE, IMAGES, BATCH, EPOCHS = 8, 18, 4, 3
STEPS_PER_EPOCH = IMAGES // BATCH  # and two images left over
STEPS = EPOCHS * STEPS_PER_EPOCH
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SEED = 5

Evaluate = Callable[[int], dict[str, float]]


def engine(precision: Any = "float32") -> Engine:
    return Engine(RunSettings(device="cpu", precision=precision, threads=1))


def images(labelled: bool = True, count: int = IMAGES) -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % 3
    pixels = rng.integers(0, 100, (count, 3, SIZE, SIZE)) + 70 * labels[:, None, None, None]
    return ImageSet.whole(pixels.astype(np.uint8), labels if labelled else None, [str(i) for i in range(count)])


def simclr_settings(**changes: Any) -> PretrainSettings:
    return PretrainSettings(epochs=EPOCHS, batch_size=BATCH, base_lr=20.0, warmup_epochs=1, **changes)


def classifier_settings(**changes: Any) -> FinetuneSettings:
    augmentation = {"jitter": 0.8, "grayscale": 0.2, "blur": 0.5}
    return FinetuneSettings(epochs=EPOCHS, batch_size=BATCH, base_lr=2.0, **{**augmentation, **changes})


def simclr(settings: TrainingSettings, on: Engine, *, init: int = 1, evaluate: Evaluate | None = None) -> Task:
    """A task whose first weights follow from ``init``."""
    torch.manual_seed(init)
    model = SimCLR(create_backbone("resnet18_w16", "small"), hidden=16, width_out=8)
    augmentation_at = partial(augmentation_of, settings, SIZE)
    step = SimCLRStep(augmentation_at, Normalisation(MEAN, STD), 0.2, SEED, on)
    batches = Batches(images(labelled=False), on.device)
    return Task("pretrain", on.to_device(model), batches, step, evaluate or (lambda epoch: {}))


def classifier(
    settings: TrainingSettings,
    on: Engine,
    *,
    init: int = 1,
    evaluate: Evaluate | None = None,
    select: str | None = None,
) -> Task:
    torch.manual_seed(init)
    model = Classifier(create_backbone("resnet18_w16", "small"), classes=3)
    augmentation_at = partial(augmentation_of, settings, SIZE)
    step = ClassifierStep(augmentation_at, Normalisation(MEAN, STD), label_smoothing=0.1, seed=SEED)
    batches = Batches(images(), on.device)
    return Task("supervised", on.to_device(model), batches, step, evaluate or (lambda epoch: {}), 0.5, select)


def run_folder(path: Path) -> RunFolder:
    path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def changed_at(number: int, step: Step, change: Callable[[Any, Any, Any], Any]) -> Step:
    """The step, and at its ``number``-th call (from 1) what ``change`` makes of module, loss and scalars."""
    calls = 0

    def wrapped(module: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        loss, scalars = step(module, batch)
        return change(module, loss, scalars) if calls == number else (loss, scalars)

    return wrapped


def at_step(number: int, step: Step, action: Callable[[Any, Any], Any]) -> Step:
    """The step, and at its ``number``-th call (from 1) what ``action`` makes of module and loss."""
    return changed_at(number, step, lambda module, loss, scalars: (action(module, loss), scalars))
