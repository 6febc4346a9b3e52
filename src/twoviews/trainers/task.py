"""What is trained and on what, and one step of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from twoviews.dataset.batches import Batches
from twoviews.dataset.random_numbers import epoch_order
from twoviews.errors import DataError
from twoviews.settings import TrainingSettings
from twoviews.trainers.engine import Engine
from twoviews.trainers.steps import Batch, Scalars, Step
from twoviews.trainers.watch import Watch


@dataclass
class Task:
    """What to train, and on what.

    Attributes:
        name: the stage, as printed.
        module: on the engine's device; its parameters under ``backbone.`` take ``backbone_lr_scale``.
        batches: training images.
        step: from module and batch to loss and scalars; the first scalar is the loss.
        evaluate: after each epoch (from 1), figures to add to its row of metrics.jsonl.
        select: key of a figure whose best epoch is kept as the model; None: the last epoch is the model.
    """

    name: str
    module: nn.Module
    batches: Batches
    step: Step
    evaluate: Callable[[int], dict[str, float]]
    backbone_lr_scale: float = 1.0
    select: str | None = None


def batch_size_of(task: Task, settings: TrainingSettings, engine: Engine) -> int:
    """The global batch: as set, or what the images and processes allow.

    Raises:
        DataError: fewer than two images for each process.
    """
    size = min(settings.batch_size, len(task.batches))
    size -= size % engine.world_size
    if size < 2 * engine.world_size:
        raise DataError(
            f"{task.name}: {len(task.batches)} training images on {engine.world_size} processes; "
            "a batch needs at least 2 for each. Add images."
        )
    return size


def share(positions: Tensor, engine: Engine) -> Tensor:
    """This process's part of a batch."""
    return positions.chunk(engine.world_size)[engine.rank]


def batch_positions(task: Task, size: int, steps: Iterable[int], seed: int) -> Iterator[Tensor]:
    """Positions of the images of the batch of each of ``steps``: (size,) int64."""
    steps_per_epoch = len(task.batches) // size
    order, shuffled = torch.empty(0), -1
    for step in steps:
        epoch, position = divmod(step, steps_per_epoch)
        if epoch != shuffled:
            order, shuffled = epoch_order(seed, epoch, len(task.batches)), epoch
        yield order[position * size : (position + 1) * size]


def shares(task: Task, size: int, steps: Iterable[int], seed: int, engine: Engine) -> Iterator[Tensor]:
    """This process's part of each of ``batch_positions``."""
    return (share(positions, engine) for positions in batch_positions(task, size, steps, seed))


def one_step(
    task: Task,
    module: Any,
    optimizer: Any,
    batch: Batch,
    step: int,
    settings: TrainingSettings,
    engine: Engine,
    seed: int = 0,
    watch: Watch | None = None,
) -> Scalars:
    """Forward, loss, backward, update; returns the step's scalars.

    A ``watch`` notes loss and gradient. A CPU has them at hand before the update, and where they are not finite there
    is none. A GPU is not waited for: who looks at the watch later has to stop.
    """
    torch.manual_seed(seed * 1_000_003 + step)  # dropout and the like
    optimizer.zero_grad()
    loss, scalars = task.step(module, batch)
    engine.backward(loss)
    clips, scaled = settings.clip_grad_norm is not None, engine.scales_loss
    norm = engine.gradient_norm(optimizer) if clips or (watch is not None and not scaled) else None
    if watch is not None:
        # The scaler of fp16 leaves out a step whose gradient is not finite, and finds its scale that way.
        watch.note(step, next(iter(scalars.values())), None if scaled else norm)
        if watch.at_hand and watch.look():
            return scalars
    if settings.clip_grad_norm is not None:
        assert norm is not None
        engine.clip(optimizer, norm, settings.clip_grad_norm)
    optimizer.step()
    return scalars
