"""What is trained, and on what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twoviews.dataset.batches import Batches
from twoviews.dataset.random_numbers import epoch_order
from twoviews.errors import DataError
from twoviews.settings import TrainingSettings
from twoviews.trainers.engine import Engine
from twoviews.trainers.steps import Step


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
    size = batch_size_on(task, settings, engine.world_size)
    if size < 2 * engine.world_size:
        raise DataError(
            f"{task.name}: {len(task.batches)} training images on {engine.world_size} processes; "
            "a batch needs at least 2 for each. Add images."
        )
    return size


def batch_size_on(task: Task, settings: TrainingSettings, processes: int) -> int:
    """As ``batch_size_of``, on so many processes; too small where there are too few images."""
    size = min(settings.batch_size, len(task.batches))
    return size - size % processes


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
            order, shuffled = epoch_order(seed, epoch, len(task.batches), task.batches.order_device), epoch
        yield order[position * size : (position + 1) * size]


def shares(task: Task, size: int, steps: Iterable[int], seed: int, engine: Engine) -> Iterator[Tensor]:
    """This process's part of each of ``batch_positions``."""
    return (share(positions, engine) for positions in batch_positions(task, size, steps, seed))


def images_seen(task: Task, settings: TrainingSettings, engine: Engine) -> int:
    """Images of a whole training, each epoch's counted: the last short batch of an epoch is left out."""
    size = batch_size_of(task, settings, engine)
    return len(task.batches) // size * size * settings.epochs
