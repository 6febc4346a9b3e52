"""The pretraining step of ``twoviews pretrain``, one after another, for the scripts that time it or look into it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from twoviews.dataset.images import ImageSet, Source
from twoviews.dataset.splits import make_splits
from twoviews.settings import PretrainCommand
from twoviews.settings.growth import progress_at
from twoviews.stages.backbones import new_backbone
from twoviews.stages.setup import Shared, load_splits
from twoviews.stages.tasks import simclr_model, simclr_task
from twoviews.trainers.engine import Engine
from twoviews.trainers.heap import freed_memory_kept
from twoviews.trainers.optimizer import build_optimizer, lr_at, schedule, set_lr
from twoviews.trainers.stepper import Stepper
from twoviews.trainers.steps import Batch
from twoviews.trainers.task import Task, shares

Loop = Callable[[], Iterator[Tensor]]  # a training that goes on from where it was; gives the loss after each step


def random_source(image_size: int, count: int) -> Source:
    """Unlabeled images of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, image_size, image_size), dtype=np.uint8)
    names = [str(i) for i in range(len(pixels))]
    return Source(
        name="random",
        class_names=(),
        unlabeled=ImageSet.whole(pixels, None, names),
        train=ImageSet.whole(pixels[:0], np.empty(0, np.int64), names),
    )


def prepare(data: str | None, images: int, **options: Any) -> tuple[PretrainCommand, Shared]:
    """Settings, engine and images: those of ``data``, or so many random ones where none are named."""
    settings = PretrainCommand(data=data or "sample", **options)
    if data:
        splits = load_splits(settings, seed=0, require_labels=False)
    else:
        splits = make_splits(random_source(settings.image_size, images), seed=0)
    found = splits.unlabeled.image_size
    if found != settings.image_size:
        raise SystemExit(f"{data} has images of {found} pixels: give --image-size {found}, or other --data")
    if len(splits.unlabeled) < settings.batch_size:
        raise SystemExit(f"--batch-size {settings.batch_size} needs as many images; there are {len(splits.unlabeled)}")
    return settings, Shared(Engine(settings), splits)


def task_and_optimizer(settings: PretrainCommand, shared: Shared) -> tuple[Task, Optimizer]:
    """What ``twoviews pretrain`` trains, from the weights of seed 0, and what updates it."""
    backbone = new_backbone(settings, shared.image_size, seed=0)
    task = simclr_task(settings, shared, simclr_model(settings, backbone), seed=0)
    return task, build_optimizer(task.module, settings, fused=shared.engine.can_fuse)


def twoviews_loop(settings: PretrainCommand, shared: Shared, task: Task, optimizer: Optimizer) -> Loop:
    """The pretraining task of ``twoviews pretrain``, step by step."""
    engine, size = shared.engine, settings.batch_size
    stepper = Stepper(task, optimizer, settings, engine)
    steps_per_epoch = len(task.batches) // size
    rates = schedule(settings, size, steps_per_epoch)
    done = 0

    def steps() -> Iterator[Tensor]:
        nonlocal done
        batches = task.batches.stream(shares(task, size, range(done, sys.maxsize), 0, engine))
        with freed_memory_kept():
            for images, rows, labels in batches:
                epoch = done // steps_per_epoch
                set_lr(optimizer, lr_at(done, **rates))
                batch = Batch(images, rows, labels, epoch, progress_at(epoch, settings.epochs))
                scalars = stepper.step(batch, done)
                done += 1
                yield scalars["loss"]

    return steps
