"""A step whose numbers were not finite, once more: training itself from the newest checkpoint, with a close look at it.

Nothing is written. Every process's part of the batch comes from one process here: the numbers are those of the joint
batch, but for the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twoviews.errors import CheckpointError, NumbersError
from twoviews.settings import (
    FinetuneCommand,
    PretrainCommand,
    ReplayCommand,
    StudyCommand,
    SupervisedCommand,
    mark_group,
    some_unknown,
)
from twoviews.stages.classify import finetune_task, supervised_task
from twoviews.stages.folders import newest_run
from twoviews.stages.pretrain import pretrain_task
from twoviews.stages.setup import Shared, prepare
from twoviews.trainers.close_look import Look, Seen
from twoviews.trainers.engine import Engine
from twoviews.trainers.failures import FAILURE, Failure, cures, read_failure
from twoviews.trainers.fork import load_start
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.task import Task
from twoviews.trainers.train import train

Build = Callable[[Any, Shared], Task]
_STAGES: dict[str, tuple[type[Any], Build]] = {
    "supervised": (SupervisedCommand, supervised_task),
    "pretrain": (PretrainCommand, pretrain_task),
    "finetune": (FinetuneCommand, finetune_task),
}


def run_replay(settings: ReplayCommand) -> None:
    """Repeat a run's failed step and print what it shows.

    Raises:
        CheckpointError: no step of the run has failed.
        NumbersError: the step fails again.
    """
    path = failed_run(settings.run)
    failure = read_failure(path)
    command, build = _command(failure, path, settings)
    shared = prepare(command, require_labels=failure.stage != "pretrain")
    engine = shared.engine
    task = build(command, shared)
    load_start(task.module, path)
    rows = frozenset(image["row"] for image in failure.images)
    look = Look(task.step, task.module, engine, failure.epoch - 1, rows)
    task = replace(task, step=look, evaluate=lambda epoch: {}, select=None)
    here = f"in {engine.precision} on {engine.device.type}"
    say(f"replay: step {failure.step} (epoch {failure.epoch}) of {failure.stage} in {path}, {here}")
    say(f"replay: then, {failure.cause}, in {failure.machine['precision']} on {failure.machine['device']}")
    run = RunFolder.to_read(path) if engine.is_first else RunFolder(path, writes=False)
    try:
        train(task, command, engine, run, seed=failure.seed)
    except Seen as seen:
        found = seen.found
    except NumbersError as error:  # another step, or what the last update left
        raise NumbersError(f"replay: {str(error).split(';')[0]}: {_advice(failure, command, engine)}.") from error
    else:
        raise CheckpointError(f"{path}: the run has gone on past step {failure.step}; there is nothing to replay.")
    finally:
        run.release()
    for name, text in found.lines():
        say(f"  {name:<15}{text}")
    if found.cause is None:
        say(
            f"replay: step {failure.step} does not fail {here}: "
            + (
                "the failure does not repeat here, where versions, threads or the device's rounding may differ"
                if engine.precision == failure.machine["precision"]
                else f"train anew with --precision {engine.precision}"
                + (", or from these weights with --fork" if failure.group is None else "")
            )
        )
        return
    raise NumbersError(
        f"replay: step {failure.step} of {failure.stage} fails again: {found.cause}, {found.where}; "
        f"{_advice(failure, command, engine)}."
    )


def failed_run(run: Path | None) -> Path:
    """The folder with a failure that RUN names: itself, or the stage of a study that failed last.

    Raises:
        SettingsError: none is named, and there is none.
        CheckpointError: there is none in the folder.
    """
    if run is None:
        return newest_run(FAILURE, "run whose numbers were not finite")
    found = list(run.rglob(FAILURE))
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else run


def _command(failure: Failure, path: Path, settings: ReplayCommand) -> tuple[Any, Build]:
    """The settings of the failed stage, computing where the replay was asked to, and what makes its task."""
    try:
        kind, build = _STAGES[failure.stage]
        given = {key: getattr(settings, key) for key in ("device", "precision", "threads")}
        changes = {key: value for key, value in given.items() if value is not None}
        # The batch may have been lowered to what the processes could share.
        own = {"out": path, "devices": 1, "batch_size": failure.batch_size}
        with some_unknown():  # a lowered batch may be below --chunk-size
            command = kind.model_validate({**failure.settings, **own, **changes})
        if failure.group is not None:
            mark_group(command, StudyCommand, failure.group)
        return command, build
    except (LookupError, ValidationError) as error:
        name = type(error).__name__
        raise CheckpointError(f"{path / FAILURE} is not of this version of twoviews ({name}); use that one.") from error


def _advice(failure: Failure, command: Any, engine: Engine) -> str:
    others = [cures(command)]
    if engine.precision != "float32":
        others.append("try --precision float32 here to see whether it helps")
    if failure.stage == "pretrain":
        others.append(f"raise {command.flag('temperature')} ({command.temperature:g})")
    return ", ".join(others)
