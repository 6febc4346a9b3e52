"""The one training loop: the supervised baseline, SimCLR and fine-tuning all run through it.

What it draws on is a function of the seed, the epoch and the step (order, views, learning rate), so its state is the
weights, the optimizer and a step number, and a resumed run ends with the same bits as one that never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from twoviews.errors import Stopped
from twoviews.settings import TrainingSettings
from twoviews.settings.growth import progress_at
from twoviews.trainers.begun_epoch import BegunEpoch, epoch_row
from twoviews.trainers.checkpoint import State, require_room, save_checkpoint, settle
from twoviews.trainers.engine import Engine
from twoviews.trainers.failures import forget_failure, record_failure
from twoviews.trainers.feed import Feed
from twoviews.trainers.memory import within_memory
from twoviews.trainers.optimizer import build_optimizer, lr_at, schedule, set_lr
from twoviews.trainers.pace import Pace
from twoviews.trainers.progress import Progress, say
from twoviews.trainers.rollback import LEFT_OUT, MOST, gives_up, go_back
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.signals import StopRequests
from twoviews.trainers.stepper import Stepper
from twoviews.trainers.steps import Batch
from twoviews.trainers.take_up import take_up
from twoviews.trainers.task import Task, batch_size_of
from twoviews.trainers.watch import LOG_STEPS, state_not_finite

# Between two saves at ends of epochs: with few labels an epoch is a step, and flushing files would take longer.
EPOCH_SECONDS = 10.0
SAVE_PAUSE = 50.0  # times as long as a save takes: on a GPU epochs are short, and weights large


@within_memory
def train(task: Task, settings: TrainingSettings, engine: Engine, run: RunFolder, *, seed: int) -> None:
    """Train to the end, from the run folder's newest checkpoint if there is one.

    The module ends with the weights that are the model: the last epoch's, or the best one's by ``task.select``.

    Raises:
        NumbersError: a loss, gradient or weight is not finite, or the loss jumped and ``--on-spike`` lets it no
            further; the last checkpoint is from before it.
        ResourceError: memory does not suffice for the batch, or the disk for a checkpoint.
        Stopped: a signal asked for it; a checkpoint was saved.
    """
    size = batch_size_of(task, settings, engine)
    steps_per_epoch = len(task.batches) // size
    steps = settings.epochs * steps_per_epoch
    if size != settings.batch_size:
        say(f"{task.name}: batch lowered from {settings.batch_size} to {size}, the number of images there are")
    rates = schedule(settings, size, steps_per_epoch)
    optimizer = build_optimizer(task.module, settings, task.backbone_lr_scale, fused=engine.can_fuse)
    reach = LEFT_OUT if settings.on_spike == "rollback" else 0
    state, best_weights = _begin(task, settings, optimizer, engine, run, steps=steps, reach=reach)
    stepper = Stepper(task, optimizer, settings, engine, seed)
    if reach and state.step == 0 and run.writes:
        state.engine = engine.state()
        save_checkpoint(run.checkpoints, task.module, optimizer, state)  # always somewhere to go back to

    feed = Feed(task, size, steps, seed, engine)
    with (
        Progress(task.name, settings.epochs, steps_per_epoch, state.step, engine.is_first) as progress,
        StopRequests() as stop,
        closing(feed),
    ):
        saves = _Saves(60 * settings.checkpoint_minutes)
        feed.go_to(state.step, state.left_out)
        begun = BegunEpoch(task, settings, engine, state)
        for step, fetched in feed:
            epoch, position = divmod(step, steps_per_epoch)
            lr = lr_at(step, **rates)
            set_lr(optimizer, lr)
            if fetched is not None:
                batch = Batch(*fetched, epoch, progress_at(epoch, settings.epochs))
                begun.add(stepper.step(batch, step, begun.watch))
            state.step = step + 1
            finished = position == steps_per_epoch - 1
            left_out = sum(step - position <= other <= step for other in state.left_out)
            trained = position + 1 - left_out
            if step % LOG_STEPS == 0 or finished:
                progress.step(state.step, _describe(begun.means(trained), begun.pace.figures(trained * size)))

            stopping = due = failed = False
            jump = None
            # Asking the other GPUs is a wait for them; processes on CPUs meet at every step anyway.
            if begun.watch.due(step) or finished:
                late = saves.are_due(finished) or state.step == steps
                stopping, due, failed = engine.any(stop.exit_code is not None, late, begun.watch.look())
                jump = None if failed else begun.watch.judge()
            if failed:
                raise record_failure(task, settings, engine, run, begun.watch.failure, size=size, seed=seed)
            if jump is not None and settings.on_spike != "warn":
                if settings.on_spike == "stop" or state.rollbacks == MOST:
                    raise gives_up(task, settings, run, state, jump)
                state, best_weights = go_back(task, optimizer, engine, run, state, jump)
                feed.go_to(state.step, state.left_out)
                begun = BegunEpoch(task, settings, engine, state)
                continue
            if finished or stopping or due:
                # A checkpoint must not hold what no training can go on from.
                broken = state_not_finite(task.module, optimizer, step)
                if broken is not None:
                    raise record_failure(task, settings, engine, run, broken, size=size, seed=seed)
                begun.sum_up(state)
            if finished:
                row = {"epoch": epoch + 1, "step": state.step, "lr": lr, **epoch_row(state.sums, trained, left_out)}
                timing = begun.pace.figures(trained * size)
                row |= task.evaluate(epoch + 1)
                best_weights = _keep_best(task, row, state, best_weights)
                begun.end(state)
                if run.writes:
                    run.add_epoch(row, timing)
                progress.epoch(epoch + 1, state.step, _describe(row, timing))
            if stopping or due:
                with saves.timed():
                    _save(task, optimizer, engine, run, state, best_weights, reach)
            if finished:
                begun.pace = Pace(task.batches)  # the save is no part of the next epoch
            if stopping:
                raise Stopped(
                    f"{task.name} stopped at step {state.step} of {steps}; the same command goes on from there.",
                    stop.exit_code or 143,
                )
    if best_weights is not None:
        task.module.load_state_dict(best_weights)


def _begin(
    task: Task,
    settings: TrainingSettings,
    optimizer: Optimizer,
    engine: Engine,
    run: RunFolder,
    *,
    steps: int,
    reach: int,
) -> tuple[State, dict[str, Tensor] | None]:
    """Take the run up where it was, its folder as it was then, and say so; the state and the best epoch's weights."""
    state, best_weights, damages = take_up(task, optimizer, engine, run)
    for damage in damages:
        say(f"{task.name}: damaged checkpoint left aside: {damage}")
    if engine.is_first:
        run.cut_metrics(state.metrics_bytes)
        if state.step < steps:
            best, more = task.select is not None, int(reach > 0)
            require_room(run.checkpoints, task.module, settings.optimizer, keeps_best=best, more=more)
        if state.step and run.writes:
            settle(run.checkpoints, state.step, reach)
    if state.step:
        caution = "" if engine.repeats else "; on this GPU the last bits may differ from those of a run without a stop"
        say(f"{task.name}: going on from step {state.step} of {steps}{caution}")
    engine.barrier()
    return state, best_weights


class _Saves:
    """When to save a checkpoint: ``seconds`` after the last one; at the end of an epoch sooner, if saving is short."""

    def __init__(self, seconds: float) -> None:
        self._wait = seconds
        self._last, self._took = time.monotonic(), 0.0

    def are_due(self, at_end_of_epoch: bool) -> bool:
        """Whether it is time for one."""
        sooner = min(self._wait, max(EPOCH_SECONDS, SAVE_PAUSE * self._took))
        return time.monotonic() - self._last > (sooner if at_end_of_epoch else self._wait)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around a save."""
        started = time.monotonic()
        yield
        self._last = time.monotonic()
        self._took = self._last - started


def _save(
    task: Task,
    optimizer: Optimizer,
    engine: Engine,
    run: RunFolder,
    state: State,
    best_weights: dict[str, Tensor] | None,
    reach: int,
) -> None:
    state.engine = engine.state()
    if run.writes:
        state.metrics_bytes = run.metrics_bytes()
        save_checkpoint(run.checkpoints, task.module, optimizer, state, best_weights, reach)
        forget_failure(run)
    engine.barrier()


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
