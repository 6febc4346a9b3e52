"""Finding runs that are there already."""

from __future__ import annotations

import os
from pathlib import Path

from twoviews.errors import CheckpointError, SettingsError
from twoviews.report.run import seed_folders
from twoviews.report.stage_files import is_part
from twoviews.trainers.settings_file import load_settings

OUTPUT = Path("output")
PROBE = "linear_probe.safetensors"


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


def newest_pretraining() -> Path:
    """The newest pretraining run under ``output/``.

    Raises:
        SettingsError: there is none.
    """
    return newest_run("models/backbone.safetensors", "pretraining run")


def newest_classifier_run() -> Path:
    """The newest run of the baseline or of fine-tuning under ``output/``.

    Raises:
        SettingsError: there is none.
    """
    return newest_run("models/classifier.safetensors", "classifier run")


def backbone_file(run: Path | None) -> Path:
    """The weights file that RUN names: itself, or the backbone of a pretraining run or study.

    Raises:
        CheckpointError: the folder holds no pretrained backbone.
    """
    return _weights_file(run or newest_pretraining(), "backbone", "pretrain", "pretraining run")


def classifier_file(run: Path) -> Path:
    """The classifier that RUN names: a weights file, a classifier run, or a study's fine-tuned one.

    Raises:
        CheckpointError: there is none.
    """
    return _weights_file(run, "classifier", "finetune", "classifier run or study")


def probe_file(run: Path) -> Path | None:
    """The linear probe that RUN names, a feature check's folder or the file itself; None where it names none."""
    file = run / PROBE if run.is_dir() else run
    return file if file.name == PROBE and file.is_file() else None


def checked_backbone(checked: Path) -> Path:
    """Weights of the backbone that a feature check was of: beside it in a study, or where its settings say.

    A study may have been moved since: where its folders lie to each other has not changed.

    Raises:
        CheckpointError: they are not there, or are timm's own, which lie in no file of the user's.
    """
    beside = checked.with_name("pretrain") / "models/backbone.safetensors"
    if beside.exists():
        return beside
    saved = load_settings(checked / "settings.yaml")
    if saved.get("init") is not None:
        return _given_weights(checked, saved["init"])
    if saved["out"] is not None:
        moved = Path(checked, os.path.relpath(saved["run"], saved["out"]), "models/backbone.safetensors")
        if moved.exists():
            return moved
    return backbone_file(Path(saved["run"]))


def _given_weights(checked: Path, init: str) -> Path:
    """What a feature check was given with ``--init``."""
    if init == "timm":
        raise CheckpointError(
            f"{checked} is a check of timm's own weights, which it has no copy of: name a run of `twoviews finetune "
            "--init timm` instead."
        )
    if not Path(init).is_file():
        raise CheckpointError(f"{checked} is a check of {init}, which is not there any more: put it back.")
    return Path(init)


def stage_places(run: Path, stage: str) -> list[Path]:
    """Where a stage of RUN may lie: RUN itself, in a study, or in the first seed of a study of several."""
    return [run, run / stage, *(seed / stage for seed in seed_folders(run)[:1])]


def _weights_file(run: Path, name: str, stage: str, what: str) -> Path:
    if run.is_file():
        return run
    for place in stage_places(run, stage):
        file = place / f"models/{name}.safetensors"
        if file.exists():
            return file
    raise CheckpointError(f"{run} holds no models/{name}.safetensors; name a finished {what}.")
