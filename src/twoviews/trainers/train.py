"""The one training loop: the supervised baseline, SimCLR and fine-tuning all run through it.

What it draws on is a function of the seed, the epoch and the step (order, views, learning rate), so its state is the
weights, the optimizer and a step number, and a resumed run ends with the same bits as one that never stopped.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from twoviews.errors import Stopped
from twoviews.settings import TrainingSettings
from twoviews.settings.growth import progress_at
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
from twoviews.trainers.watch import LOG_STEPS, Watch, state_not_finite

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
    state, best_weights, damages = take_up(task, optimizer, engine, run)
    reach = LEFT_OUT if settings.on_spike == "rollback" else 0
    if engine.is_first:
        for damage in damages:
            say(f"{task.name}: damaged checkpoint left aside: {damage}")
        run.cut_metrics(state.metrics_bytes)
        if state.step < steps:
            best, more = task.select is not None, int(reach > 0)
            require_room(run.checkpoints, task.module, settings.optimizer, keeps_best=best, more=more)
        if state.step:
            if run.writes:
                settle(run.checkpoints, state.step, reach)
            caution = (
                "" if engine.repeats else "; on this GPU the last bits may differ from those of a run without a stop"
            )
            say(f"{task.name}: going on from step {state.step} of {steps}{caution}")
    engine.barrier()
    stepper = Stepper(task, optimizer, settings, engine, seed)
    if reach and state.step == 0 and run.writes:
        state.engine = engine.state()
        save_checkpoint(run.checkpoints, task.module, optimizer, state)  # always somewhere to go back to

    # Sums stay on the device: reading one would make every step wait for it. (MPS has no float64.)
    zero = torch.zeros((), dtype=torch.float32 if engine.device.type == "mps" else torch.float64, device=engine.device)
    steadier = f"a lower {settings.flag('base_lr')} or {settings.flag('clip_grad_norm')} makes training steadier"

    feed = Feed(task, size, steps, seed, engine)

    def begin(state: State) -> tuple[Watch, dict[str, Tensor], Pace]:
        """Read on from a checkpoint's step, and take up what it knows of the begun epoch."""
        feed.go_to(state.step, state.left_out)
        spikes = int(state.sums.pop("loss_spikes", 0))
        watch = Watch(task.name, engine, state.losses, spikes, steadier)
        pace = Pace(task.batches, state.epoch_seconds, state.epoch_waited)
        return watch, {k: zero + v for k, v in state.sums.items()}, pace

    with (
        Progress(task.name, settings.epochs, steps_per_epoch, state.step, engine.is_first) as progress,
        StopRequests() as stop,
        closing(feed),
    ):
        last_saved, save_seconds = time.monotonic(), 0.0
        watch, sums, pace = begin(state)
        for step, fetched in feed:
            epoch, position = divmod(step, steps_per_epoch)
            lr = lr_at(step, **rates)
            set_lr(optimizer, lr)
            if fetched is not None:
                batch = Batch(*fetched, epoch, progress_at(epoch, settings.epochs))
                scalars = stepper.step(batch, step, watch)
                for key, value in scalars.items():
                    sums[key] = sums.get(key, zero) + value
            state.step = step + 1
            finished = position == steps_per_epoch - 1
            left_out = sum(step - position <= other <= step for other in state.left_out)
            trained = position + 1 - left_out
            if step % LOG_STEPS == 0 or finished:
                means = {k: float(v) / trained for k, v in sums.items()}
                progress.step(state.step, _describe(means, pace.figures(trained * size)))

            stopping = due = failed = False
            jump = None
            # Asking the other GPUs is a wait for them; processes on CPUs meet at every step anyway.
            if watch.due(step) or finished:
                wait = 60 * settings.checkpoint_minutes
                pause = min(wait, max(EPOCH_SECONDS, SAVE_PAUSE * save_seconds)) if finished else wait
                late = time.monotonic() - last_saved > pause
                last = state.step == steps
                stopping, due, failed = engine.any(stop.exit_code is not None, late or last, watch.look())
                jump = None if failed else watch.judge()
            if failed:
                raise record_failure(task, settings, engine, run, watch.failure, size=size, seed=seed)
            if jump is not None and settings.on_spike != "warn":
                if settings.on_spike == "stop" or state.rollbacks == MOST:
                    raise gives_up(task, settings, run, state, jump)
                state, best_weights = go_back(task, optimizer, engine, run, state, jump)
                watch, sums, pace = begin(state)
                continue
            if finished or stopping or due:
                # A checkpoint must not hold what no training can go on from.
                broken = state_not_finite(task.module, optimizer, step)
                if broken is not None:
                    raise record_failure(task, settings, engine, run, broken, size=size, seed=seed)
                totals = {key: float(engine.mean(total)) for key, total in sums.items()}
                if watch.spikes:
                    totals["loss_spikes"] = watch.spikes
            if finished:
                jumps = totals.pop("loss_spikes", 0)
                row = {"epoch": epoch + 1, "step": state.step, "lr": lr}
                row |= {key: total / trained for key, total in totals.items()}
                if jumps:
                    row["loss_spikes"] = jumps
                if left_out:
                    row["steps_left_out"] = left_out
                watch.end_epoch()
                timing = pace.figures(trained * size)
                row |= task.evaluate(epoch + 1)
                best_weights = _keep_best(task, row, state, best_weights)
                sums, totals = {}, {}
                if run.writes:
                    run.add_epoch(row, timing)
                progress.epoch(epoch + 1, state.step, _describe(row, timing))
            if stopping or due:
                started = time.monotonic()
                state.sums, state.losses = totals, watch.losses
                state.epoch_seconds, state.epoch_waited = (0.0, 0.0) if finished else (pace.seconds, pace.waited)
                state.engine = engine.state()
                if run.writes:
                    state.metrics_bytes = run.metrics_bytes()
                    save_checkpoint(run.checkpoints, task.module, optimizer, state, best_weights, reach)
                    forget_failure(run)
                engine.barrier()
                last_saved = time.monotonic()
                save_seconds = last_saved - started
            if finished:
                pace = Pace(task.batches)
            if stopping:
                raise Stopped(
                    f"{task.name} stopped at step {state.step} of {steps}; the same command goes on from there.",
                    stop.exit_code or 143,
                )
    if best_weights is not None:
        task.module.load_state_dict(best_weights)


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
