"""Where the classes of new pictures are written, and which model gave them; nothing slow is loaded for it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twoviews.errors import SettingsError
from twoviews.files import read_json, write_json
from twoviews.report.model_names import MODEL_FOLDERS
from twoviews.stages.folders import PROBE

RECORD = "predictions.json"
COLUMNS = ("file", "class", "confidence", "left_out")

# Each stage's model in test/results.json, and what it is called in a sentence.
_MODELS = {**{stage: model for model, stage in MODEL_FOLDERS.items()}, "features": "linear_probe"}
_WORDS = {
    "finetuned": "the fine-tuned model",
    "supervised": "the supervised baseline",
    "imagenet_finetuned": "the model fine-tuned from ImageNet's weights",
    "sgd_probe": "the linear classifier on frozen features",
    "linear_probe": "the linear probe on frozen features",
}


def predictions_file(run: Path, folder: Path) -> Path:
    """The CSV file in ``run`` for the pictures of ``folder``; another folder's is never taken, whatever its name."""
    known = _record(run)
    source = str(folder.resolve())
    stem, number = f"predictions-{folder.resolve().name}", 1
    while True:
        file = run / (f"{stem}.csv" if number == 1 else f"{stem}-{number}.csv")
        if not os.path.lexists(file) or known.get(file.name) == source:
            return file
        number += 1


def remember(file: Path, folder: Path) -> None:
    """Note whose pictures a file in a run folder is about."""
    write_json(file.parent / RECORD, {**_record(file.parent), file.name: str(folder.resolve())})


def _record(run: Path) -> dict[str, Any]:
    """Names of files, each with the folder of its pictures; a record that is lost costs a number, and no file."""
    with suppress(OSError, ValueError):
        content = read_json(run / RECORD)
        return content if isinstance(content, dict) else {}
    return {}


def require_ours(out: Path) -> None:
    """Refuse a file named with ``--out`` that something else than ``predict`` has written.

    Raises:
        SettingsError: it is there, and holds no classes of pictures; or it is a folder.
    """
    if out.is_dir():
        raise SettingsError(f"--out {out} is a folder: name a file, for example {out / 'predictions.csv'}.")
    if not out.exists() or out.stat().st_size == 0:
        return
    with open(out, encoding="utf-8", errors="replace") as stream:
        begins = stream.readline(200).strip().split(",")
    if tuple(begins) not in (COLUMNS, COLUMNS[:3]):
        raise SettingsError(f"--out {out} is there, and `predict` did not write it: name another file.")


def rows(
    predicted: Iterable[tuple[str, str, float]], left_out: Iterable[tuple[str, str]]
) -> Iterable[tuple[str, str, str, str]]:
    """The table: each picture with its class, then each file that was left out with the reason."""
    for file, name, confidence in predicted:
        yield file, name, f"{confidence:.4f}", ""
    for file, reason in left_out:
        yield file, "", "", reason


def which_model(classifier: Path) -> str:
    """What a classifier's weights are called, with their accuracy on test images where the study has measured it."""
    stage = _stage(classifier)
    kind = next((kind for kind in _MODELS if stage.name == kind or stage.name.startswith(f"{kind}-")), None)
    if kind is None:
        return str(classifier)
    words = _WORDS[_MODELS[kind]]
    top1 = _tested(stage, kind) if stage.name == kind else None
    return words if top1 is None else f"{words} (test accuracy {100 * top1:.1f} %)"


def better_probe(run: Path, classifier: Path) -> str:
    """How to take the linear probe instead, where the study that was named has measured that it is right more often."""
    stage = _stage(classifier)
    probe, own = _tested(stage, "features"), _tested(stage, stage.name)
    if run == stage or run.is_file() or probe is None or own is None or probe <= own:
        return ""
    return (
        f"on the test images the linear probe was right more often ({100 * probe:.1f} %): `twoviews predict "
        f"{shlex.quote(str(stage.with_name('features')))} FOLDER` takes it."
    )


def _stage(classifier: Path) -> Path:
    """The run folder of a classifier's weights."""
    return classifier.parent if classifier.name == PROBE else classifier.parent.parent


def _tested(stage: Path, kind: str) -> float | None:
    """A model's accuracy on test images, as the test stage beside it has it; None where it has not."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        return float(read_json(stage.parent / "test/results.json")["models"][_MODELS[kind]]["test_top1"])
    return None
