"""The one training loop: the supervised baseline, SimCLR and fine-tuning all run through it.

What it draws on is a function of the seed, the epoch and the step (order, views, learning rate), so its state is the
weights, the optimizer and a step number, and a resumed run ends with the same bits as one that never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from twoviews.dataset.batches import Batches
from twoviews.dataset.random_numbers import epoch_order
from twoviews.errors import DataError, NumbersError, Stopped
from twoviews.settings import TrainingSettings
from twoviews.trainers.checkpoint import State, load_latest, save_checkpoint
from twoviews.trainers.engine import Engine
from twoviews.trainers.optimizer import build_optimizer, lr_at, schedule, set_lr
from twoviews.trainers.pace import Pace
from twoviews.trainers.progress import Progress, say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.signals import StopRequests
from twoviews.trainers.steps import Batch, Step, progress_at

LOG_STEPS = 10  # steps between two waits for the device


@dataclass
class Task:
    """What to train, and on what.

    Attributes:
        name: the stage, as printed.
        module: on the engine's device; its parameters under ``backbone.`` take ``backbone_lr_scale``.
        batches: training images.
        step: from module and batch to loss and scalars.
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


def shares(task: Task, size: int, steps: range, seed: int, engine: Engine) -> Iterator[Tensor]:
    """Positions of this process's part of the batch of each of ``steps``."""
    steps_per_epoch = len(task.batches) // size
    order = torch.empty(0)
    for step in steps:
        epoch, position = divmod(step, steps_per_epoch)
        if position == 0 or step == steps.start:
            order = epoch_order(seed, epoch, len(task.batches))
        yield share(order[position * size : (position + 1) * size], engine)


def train(task: Task, settings: TrainingSettings, engine: Engine, run: RunFolder, *, seed: int) -> None:
    """Train to the end, from the run folder's newest checkpoint if there is one.

    The module ends with the weights that are the model: the last epoch's, or the best one's by ``task.select``.

    Raises:
        NumbersError: a loss is not finite; the last checkpoint is from before it.
        Stopped: a signal asked for it; a checkpoint was saved.
    """
    size = batch_size_of(task, settings, engine)
    steps_per_epoch = len(task.batches) // size
    steps = settings.epochs * steps_per_epoch
    if size != settings.batch_size and engine.is_first:
        say(f"{task.name}: batch lowered from {settings.batch_size} to {size}, the number of images there are")
    rates = schedule(settings, size, steps_per_epoch)
    optimizer = build_optimizer(task.module, settings, task.backbone_lr_scale)
    state, best_weights, damages = load_latest(run.checkpoints, task.module, optimizer)
    engine.load_state(state.engine)
    if engine.is_first:
        for damage in damages:
            say(f"{task.name}: damaged checkpoint left aside: {damage}")
        run.cut_metrics(state.metrics_bytes)
        if state.step:
            say(f"{task.name}: going on from step {state.step} of {steps}")
    engine.barrier()
    module, stepper = engine.setup(task.module, optimizer)

    # Sums stay on the device: reading one would make every step wait for it. (MPS has no float64.)
    zero = torch.zeros((), dtype=torch.float32 if engine.device.type == "mps" else torch.float64, device=engine.device)
    sums = {k: zero + v for k, v in state.sums.items()}
    last_saved = time.monotonic()
    pace = Pace(task.batches, state.epoch_seconds, state.epoch_waited)
    with (
        Progress(task.name, settings.epochs, steps_per_epoch, state.step, engine.is_first) as progress,
        StopRequests() as stop,
        closing(task.batches.stream(shares(task, size, range(state.step, steps), seed, engine))) as fetched,
    ):
        for step, (images, rows, labels) in enumerate(fetched, start=state.step):
            epoch, position = divmod(step, steps_per_epoch)
            lr = lr_at(step, **rates)
            set_lr(optimizer, lr)
            batch = Batch(images, rows, labels, epoch, progress_at(epoch, settings.epochs))
            scalars = one_step(task, module, stepper, batch, step, settings, engine, seed)
            for key, value in scalars.items():
                sums[key] = sums.get(key, zero) + value
            state.step = step + 1
            finished = position == steps_per_epoch - 1
            if step % LOG_STEPS == 0 or finished:
                means = {k: float(v) / (position + 1) for k, v in sums.items()}
                progress.step(state.step, _describe(means, pace.figures((position + 1) * size)))

            stopping = due = False
            # Asking the other GPUs is a wait for them; processes on CPUs meet at every step anyway.
            if engine.device.type == "cpu" or step % LOG_STEPS == 0 or finished:
                late = time.monotonic() - last_saved > 60 * settings.checkpoint_minutes
                stopping, due = engine.any(stop.exit_code is not None, late)
            if finished or stopping or due:
                totals = {key: float(engine.mean(total)) for key, total in sums.items()}
                _check_finite(task, totals, state.step)
            if finished:
                row = {"epoch": epoch + 1, "step": state.step, "lr": lr}
                row |= {key: total / steps_per_epoch for key, total in totals.items()}
                timing = pace.figures(steps_per_epoch * size)
                row |= task.evaluate(epoch + 1)
                best_weights = _keep_best(task, row, state, best_weights)
                sums, totals = {}, {}
                if engine.is_first:
                    run.add_epoch(row, timing)
                    progress.epoch(epoch + 1, state.step, _describe(row, timing))
            if finished or stopping or due:
                state.sums = totals
                state.epoch_seconds, state.epoch_waited = (0.0, 0.0) if finished else (pace.seconds, pace.waited)
                state.engine = engine.state()
                if engine.is_first:
                    state.metrics_bytes = run.metrics_bytes()
                    save_checkpoint(run.checkpoints, task.module, optimizer, state, best_weights)
                engine.barrier()
                last_saved = time.monotonic()
                if finished:
                    pace = Pace(task.batches)
            if stopping:
                raise Stopped(
                    f"{task.name} stopped at step {state.step} of {steps}; the same command goes on from there.",
                    stop.exit_code or 143,
                )
    if best_weights is not None:
        task.module.load_state_dict(best_weights)


def one_step(
    task: Task,
    module: Any,
    optimizer: Any,
    batch: Batch,
    step: int,
    settings: TrainingSettings,
    engine: Engine,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Forward, loss, backward, update; returns the step's scalars."""
    torch.manual_seed(seed * 1_000_003 + step)  # dropout and the like
    optimizer.zero_grad()
    loss, scalars = task.step(module, batch)
    # A CPU has the number at hand. A GPU would have to be waited for: it is asked on log steps.
    if (engine.device.type == "cpu" or step % LOG_STEPS == 0) and not torch.isfinite(loss.detach()):
        shown = float(next(iter(scalars.values())))  # in chunks, what goes backward is not the loss itself
        raise NumbersError(
            f"{task.name}: the loss is {shown} at step {step}; the last checkpoint is intact. "
            f"Lower --base-lr ({settings.base_lr}) or set --clip-grad-norm."
        )
    engine.backward(loss)
    if settings.clip_grad_norm is not None:
        engine.clip(module, optimizer, settings.clip_grad_norm)
    optimizer.step()
    return scalars


def _check_finite(task: Task, totals: dict[str, float], step: int) -> None:
    """A checkpoint must not hold what no training can go on from.

    Raises:
        NumbersError: a sum of the epoch, or a weight, is not finite.
    """
    weights = torch.stack([p.detach().float().abs().max() for p in task.module.parameters()])
    if not (all(map(math.isfinite, totals.values())) and bool(torch.isfinite(weights).all())):
        raise NumbersError(
            f"{task.name}: weights or loss are not finite at step {step}; the last checkpoint is intact. "
            "Lower --base-lr or set --clip-grad-norm."
        )


def _keep_best(
    task: Task, row: dict[str, Any], state: State, best: dict[str, Tensor] | None
) -> dict[str, Tensor] | None:
    if task.select is None or row[task.select] <= state.best.get(task.select, -1.0):
        return best
    state.best = {"epoch": row["epoch"], task.select: row[task.select]}
    return {name: tensor.detach().clone() for name, tensor in task.module.state_dict().items()}


def _describe(row: dict[str, Any], timing: dict[str, float]) -> str:
    """A row of metrics as a person reads it while waiting."""
    labels = {
        "loss": "loss {:.3f}",
        "contrastive_top1": "top-1 {:.1%}",
        "train_loss": "loss {:.3f}",
        "train_top1": "train {:.1%}",
        "val_top1": "val {:.1%}",
        "knn_top1": "kNN {:.1%}",
        "effective_rank": "rank {:.0f}",
    }
    parts = [text.format(row[key]) for key, text in labels.items() if row.get(key) is not None]
    speed = f"{timing['images_per_second']:.0f} images/s, {timing['data_wait']:.0%} waiting for data"
    return "  ".join([*parts, speed])
