"""Finding runs that are there already."""

from __future__ import annotations

from pathlib import Path

from twoviews.errors import CheckpointError, SettingsError
from twoviews.report.source import is_part

OUTPUT = Path("output")


def newest_run(pattern: str, what: str, *, up: int = 0, root: Path = OUTPUT) -> Path:
    """The run folder under ``root`` whose file ``pattern`` (such as ``models/backbone.safetensors``) is newest.

    Args:
        what: name of what is sought, for the error.
        up: how many folders above that run folder is the one wanted.

    Raises:
        SettingsError: there is none.
    """
    found = [path for path in root.glob(f"**/{pattern}") if path.is_file()]
    if not found:
        raise SettingsError(f"There is no {what} under {root}/: name one, or run it first.")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return newest.parents[pattern.count("/") + up]


def newest_study(pattern: str, what: str) -> Path:
    """The study under ``output/`` in which a stage's file ``pattern`` (such as ``test/results.json``) is newest.

    Raises:
        SettingsError: there is none.
    """
    found = newest_run(pattern, what)
    while is_part(found.name):
        found = found.parent
    return found


def backbone_file(run: Path | None) -> Path:
    """The weights file that RUN names: itself, or the backbone of a pretraining run or study.

    Raises:
        CheckpointError: the folder holds no pretrained backbone.
    """
    if run is None:
        run = newest_run("models/backbone.safetensors", "pretraining run")
    return _weights_file(run, "backbone", "pretrain", "pretraining run")


def classifier_file(run: Path) -> Path:
    """The classifier that RUN names: a weights file, a classifier run, or a study's fine-tuned one.

    Raises:
        CheckpointError: there is none.
    """
    return _weights_file(run, "classifier", "finetune", "classifier run or study")


def _weights_file(run: Path, name: str, stage: str, what: str) -> Path:
    if run.is_file():
        return run
    for place in (run, run / stage):
        file = place / f"models/{name}.safetensors"
        if file.exists():
            return file
    raise CheckpointError(f"{run} holds no models/{name}.safetensors; name a finished {what}.")
