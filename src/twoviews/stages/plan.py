"""What training begins with: the epochs that fit, the batch that it began with, the weights of a fork."""

from __future__ import annotations

from typing import Any

from twoviews.errors import SettingsError
from twoviews.files import read_record, write_json
from twoviews.settings import TrainingSettings
from twoviews.stages.setup import Shared
from twoviews.trainers.engine import Engine
from twoviews.trainers.environment import first_start
from twoviews.trainers.estimate import announce, seconds_per_epoch
from twoviews.trainers.fork import load_start
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.task import Task, batch_size_on

# Epochs planned anew may be others, and a run goes on with those it began with.
PLAN_ADVICE = "put it back, or start beside it with --new"


def plan(task: Task, settings: Any, shared: Shared, run: RunFolder) -> Any:
    """Measure an epoch, lower the epochs where ``--minutes`` asks for it, and print the estimate.

    The fitted epochs are kept in plan.json, so that a resume does not measure anew.

    Returns:
        The settings to train with.
    """
    path = run.path / "plan.json"
    require_same_batches(task, settings, shared.engine, run)
    if settings.minutes is not None and path.exists():
        return with_epochs(settings, read_record(path, PLAN_ADVICE)["epochs"])
    seconds = seconds_per_epoch(task, settings, shared.engine)
    if settings.minutes is not None:
        epochs = max(1, min(settings.epochs, int(settings.minutes * 60 / seconds)))
        settings = with_epochs(settings, epochs)
        if shared.engine.is_first:
            write_json(path, {"epochs": epochs, "seconds_per_epoch": seconds})
    announce(task, settings, seconds, shared.engine)
    half = settings.epochs / 2
    if settings.warmup_epochs > half:
        say(f"{task.name}: warm-up lowered from {settings.warmup_epochs:g} to {half:g} epochs, half of them all")
    return settings


def require_same_batches(task: Task, settings: TrainingSettings, engine: Engine, run: RunFolder) -> None:
    """Refuse to go on with batches of another size, as a number of processes that does not divide it would.

    Over any other number of processes the order of images is the same: it is that of the joint batch.

    Raises:
        SettingsError: the batch would be another than the run began with.
    """
    first = first_start(run.path / "environment.json")
    processes = engine.world_size if first is None else first["machine"].get("processes", engine.world_size)
    begun, now = (batch_size_on(task, settings, count) for count in (processes, engine.world_size))
    if begun != now:
        error = SettingsError(
            f"{run.path} began with {begun} images a step on {processes} processes; on {engine.world_size} there would "
            f"be {now}, in other steps: use a number of processes that divides {begun}, or start beside it with --new."
        )
        error.of_all = True
        raise error


def begin_from_fork(task: Task, run: RunFolder) -> None:
    """Give a forked run the weights that it begins from; nothing for any other run."""
    said = load_start(task.module, run.path)
    if said is not None:
        say(f"{task.name}: {said}")


def with_epochs(settings: TrainingSettings, epochs: int) -> Any:
    """The same settings with other epochs; a warm-up keeps its share of them."""
    warmup = settings.warmup_epochs * min(1.0, epochs / settings.epochs)
    return settings.model_copy(update={"epochs": epochs, "warmup_epochs": warmup})
