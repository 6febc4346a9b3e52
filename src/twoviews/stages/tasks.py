"""The two training tasks, made from settings: a classifier on labelled images, SimCLR on unlabeled ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from twoviews.dataset.batches import Batches
from twoviews.model.projection_head import SimCLR
from twoviews.model.resnet50 import Classifier, feature_width
from twoviews.settings import ClassifierSettings, PretrainSettings
from twoviews.stages.setup import Shared
from twoviews.trainers.chunks import ChunkedStep
from twoviews.trainers.steps import ClassifierStep, SimCLRStep, augmentation_of
from twoviews.trainers.task import Task
from twoviews.trainers.validate import validate

# With fewer validation images the best epoch is picked by luck; the last of the cosine is the model.
SELECT_FROM = 1000


def classifier_task(
    name: str,
    settings: ClassifierSettings,
    shared: Shared,
    classifier: Classifier,
    *,
    seed: int,
    backbone_lr_scale: float = 1.0,
) -> Task:
    """Cross-entropy on the training labels, validated after each epoch."""
    engine, splits = shared.engine, shared.splits
    module = engine.to_device(engine.join_processes(classifier))
    validation = Batches(splits.val, engine.device)
    return Task(
        name=name,
        module=module,
        batches=Batches(splits.train, engine.device),
        step=ClassifierStep(
            partial(augmentation_of, settings, shared.image_size),
            shared.normalisation,
            settings.label_smoothing,
            seed,
        ),
        evaluate=lambda epoch: validate(module, validation, shared.normalisation, engine),
        backbone_lr_scale=backbone_lr_scale,
        select="val_top1" if len(splits.val) >= SELECT_FROM else None,
    )


def simclr_model(settings: PretrainSettings, backbone: Any) -> SimCLR:
    """The backbone with the projection head that the settings describe."""
    hidden = settings.projection_hidden or feature_width(backbone)
    return SimCLR(backbone, hidden, settings.projection_width, settings.projection_layers)


def simclr_task(settings: PretrainSettings, shared: Shared, model: SimCLR, *, seed: int) -> Task:
    """InfoNCE (or DCL) on two views of each unlabeled image; ``evaluate`` is for the caller to set."""
    engine = shared.engine
    step = SimCLRStep(
        partial(augmentation_of, settings, shared.image_size),
        shared.normalisation,
        settings.temperature,
        seed,
        engine,
        decoupled=settings.loss == "dcl",
    )
    return Task(
        name="pretrain",
        module=engine.to_device(engine.join_processes(model)),
        batches=Batches(shared.splits.unlabeled, engine.device),
        step=ChunkedStep(step, settings.chunk_size) if settings.chunk_size else step,
        evaluate=lambda epoch: {},
    )
