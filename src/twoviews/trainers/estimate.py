"""How long training will take here, measured on a few steps before it begins."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import replace

import torch

from twoviews.dataset.random_numbers import epoch_order
from twoviews.settings import TrainingSettings
from twoviews.settings.growth import progress_at
from twoviews.trainers.cuda_graph import WARM_UP
from twoviews.trainers.engine import Engine
from twoviews.trainers.memory import within_memory
from twoviews.trainers.optimizer import build_optimizer, set_lr
from twoviews.trainers.progress import duration, say
from twoviews.trainers.stepper import Stepper
from twoviews.trainers.steps import Batch
from twoviews.trainers.task import Task, batch_size_of, share

TIMED_STEPS = 3


@within_memory
def seconds_per_epoch(task: Task, settings: TrainingSettings, engine: Engine) -> float:
    """How long an epoch takes here on average, measured on a few steps of a copy that is thrown away.

    Raises:
        ResourceError: memory does not suffice for the batch.
    """
    size = batch_size_of(task, settings, engine)
    module = copy.deepcopy(task.module)
    optimizer = build_optimizer(module, settings, fused=engine.can_fuse)
    stepper = Stepper(replace(task, module=module), optimizer, settings, engine)
    set_lr(optimizer, 0.0)
    order = epoch_order(0, 0, len(task.batches), task.batches.order_device)
    reading = []
    for start in range(0, min(TIMED_STEPS * size, len(order) - size + 1), size):
        started = time.perf_counter()
        images, rows, labels = task.batches.get(share(order[start : start + size], engine))
        reading.append(time.perf_counter() - started)
    # Views that grow make later epochs slower.
    epochs = (0, settings.epochs // 2, settings.epochs - 1) if settings.first_view_size else (0,)
    seconds = 0.0
    for epoch in epochs:
        times = []
        batch = Batch(images, rows, labels, epoch, progress_at(epoch, settings.epochs))
        for step in range(TIMED_STEPS + (WARM_UP if stepper.records else 0)):
            engine.synchronize()
            started = time.perf_counter()
            stepper.step(batch, step)
            engine.synchronize()
            times.append(time.perf_counter() - started)
        seconds += min(times[1:]) / len(epochs)
    seconds = max(seconds, statistics.median(reading))  # a batch is read while another trains
    # All processes must agree: the epochs of --minutes follow from it.
    seconds = float(engine.mean(torch.tensor(seconds, device=engine.device)))
    return seconds * (len(task.batches) // size)


def announce(task: Task, settings: TrainingSettings, seconds: float, engine: Engine) -> None:
    """Print what is about to run and how long it will take."""
    say(
        f"{task.name}: {settings.epochs} epochs of {len(task.batches):,} images on {engine.device.type} "
        f"in {engine.precision}, about {duration(seconds * settings.epochs)}"
    )
    if task.batches.place is not None:
        say(f"{task.name}: {task.batches.place}")
