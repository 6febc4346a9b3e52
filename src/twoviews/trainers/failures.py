"""failure.json: what is needed to repeat a step whose numbers were not finite.

Only the step is written down, no weights. Training is a function of the seed and the step, so that the newest
checkpoint and the settings lead to the failed step again; it is at most an epoch and ten seconds, or
``--checkpoint-minutes``, away. This serves a GPU too, which is not waited for and whose weights are spoilt when the
failure is seen, it needs no space on a disk that may be full, and from there another precision can be tried on weights
that are still sound.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import twoviews
from twoviews import disk
from twoviews.errors import CheckpointError, NumbersError, ResourceError
from twoviews.files import read_json, write_json
from twoviews.settings import TrainingSettings
from twoviews.trainers.checkpoint import checkpoints
from twoviews.trainers.engine import Engine
from twoviews.trainers.optimizer import lr_at, schedule
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.task import Task, batch_positions
from twoviews.trainers.watch import NotFinite, not_finite

FAILURE = "failure.json"
NAMES = 10  # of parameters, at most


@dataclass(frozen=True)
class Failure:
    """A step that could not be trained on, as failure.json has it.

    Attributes:
        stage: name of the task.
        cause: what was not finite.
        step: from 0.
        epoch: of the step, from 1.
        loss, gradient_norm: of the step; None where not finite or not known.
        gradients: the first parameters whose gradient was not finite, where the step's gradients were still there.
        lr: of the step.
        seed: of the run.
        batch_size: images of the step, over all processes.
        checkpoint: folder name of the newest checkpoint, from before the step; None: there is none yet.
        images: ``row`` (identity) and ``file`` of each image of the batch.
        settings: of the stage, its epochs as fitted to ``--minutes``.
        group: what a study calls these settings; None: the stage was a command of its own.
        machine: as in environment.json.
        versions: of twoviews and torch.
    """

    stage: str
    cause: str
    step: int
    epoch: int
    loss: float | None
    gradient_norm: float | None
    lr: float
    seed: int
    batch_size: int
    checkpoint: str | None
    images: list[dict[str, Any]]
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    gradients: list[str] = field(default_factory=list)
    group: str | None = None


def record_failure(
    task: Task,
    settings: TrainingSettings,
    engine: Engine,
    run: RunFolder,
    found: NotFinite | None,
    *,
    size: int,
    seed: int,
) -> NumbersError:
    """Write failure.json and give the error to raise; every process comes here, with what it found itself or None."""
    step = int(engine.lowest(math.inf if found is None else found.step))
    mine = found if found is not None and found.step == step else None
    # NaN or infinity of one process is that of the mean.
    loss = float(engine.mean(torch.tensor(0.0 if mine is None else mine.loss, device=engine.device)))
    cause = mine.cause if mine is not None else f"the loss of another process is not finite (mean {loss})"
    steps_per_epoch = len(task.batches) // size
    epoch = step // steps_per_epoch
    (positions,) = batch_positions(task, size, range(step, step + 1), seed)
    images = task.batches.images
    gradients = [(n, p.grad) for n, p in task.module.named_parameters() if p.grad is not None]
    kept = checkpoints(run.checkpoints)
    intact, anew = ways_on(run, settings)
    failure = Failure(
        stage=task.name,
        cause=cause,
        step=step,
        epoch=epoch + 1,
        loss=loss,
        gradient_norm=None if mine is None else mine.norm,
        lr=lr_at(step, **schedule(settings, size, steps_per_epoch)),
        seed=seed,
        batch_size=size,
        checkpoint=kept[-1].name if kept else None,
        images=[{"row": int(images.rows[p]), "file": images.name(p)} for p in positions.tolist()],
        settings=settings.model_dump(mode="json"),
        group=settings.group,
        machine=engine.describe(),
        versions={"twoviews": twoviews.__version__, "torch": torch.__version__},
        gradients=not_finite(gradients)[:NAMES] if engine.device.type == "cpu" else [],
    )
    lost = ""
    if run.writes:
        try:
            write_json(run.path / FAILURE, asdict(failure))
        except ResourceError as error:  # what ended the run is the step
            lost = f" ({FAILURE} could not be written: {error})"
    engine.barrier()  # else the first process to end could end the others before they have written
    where = f"step {step} (epoch {epoch + 1} of {settings.epochs})"
    return NumbersError(
        f"{task.name}: {cause} at {where}; {intact}{lost}. `twoviews replay {run.path}` shows where it begins. "
        f"The same command would come to the same step again: {cures(settings)}, and {anew}."
    )


def ways_on(run: RunFolder, settings: TrainingSettings) -> tuple[str, str]:
    """What there is to go on from after a step that can't be trained on, and how to, as words."""
    kept = checkpoints(run.checkpoints)
    intact = f"the last checkpoint ({kept[-1].name}) is intact" if kept else "there is no checkpoint yet"
    forks = kept and settings.group is None  # a study trains several models, and forks none
    return intact, "go on from its weights in a new run with --fork" if forks else "begin anew with --new"


def cures(settings: TrainingSettings) -> str:
    """What may help, as words."""
    clipped = settings.clip_grad_norm
    flag = settings.flag("clip_grad_norm")
    clip = f"set {flag}" if clipped is None else f"lower {flag} ({clipped:g})"
    return f"lower {settings.flag('base_lr')} ({settings.base_lr:g}) or {clip}"


def read_failure(run: Path) -> Failure:
    """The failure of a run.

    Raises:
        CheckpointError: there is none, or it can't be read.
    """
    path = run / FAILURE
    if not path.exists():
        raise CheckpointError(f"{run} holds no {FAILURE}: no step of it failed, or it went on past it since.")
    try:
        return Failure(**read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} can't be read ({type(error).__name__}); run the same command again.") from error


def forget_failure(run: RunFolder) -> None:
    """A checkpoint from after the step: the run went on past it."""
    path = run.path / FAILURE
    if run.writes and path.exists():
        disk.retried(lambda: disk.remove_file(path), path)
