"""Makes fixture studies fit to be compared: correctness of each image, settings of stages, changed predictions."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fixture_study import write_study

from twoviews.files import read_json, write_csv, write_json

MODELS = ("supervised", "finetuned", "linear_probe", "random_init_linear_probe", "knn")


def comparable_study(folder: Path, images: int = 200) -> Path:
    """A small finished study with ``correct.npz``; every one is the same until it is changed."""
    write_study(folder, images=images)
    rows = read_predictions(folder / "test")
    right = {model: np.array([row[model] == row["label"] for row in rows]) for model in MODELS}
    np.savez_compressed(folder / "test" / "correct.npz", **right)
    return folder


def another(study: Path, folder: Path, gained: int = 0, lost: int = 0, **settings: Any) -> Path:
    """A copy whose fine-tuned model is right on ``gained`` more images and wrong on ``lost`` others.

    ``settings`` are changed in ``settings.yaml``; ``__`` stands for the dot of a stage's.
    """
    shutil.copytree(
        study, folder, ignore=shutil.ignore_patterns("maps.npz", "*.webp", "*.png", "index.csv", "clusters.csv")
    )
    change_correct(folder / "test", gained, lost)
    results = read_json(folder / "results.json")
    results["models"]["finetuned"]["test_top1"] = float(read_correct(folder / "test").mean())
    write_json(folder / "results.json", results)
    values = yaml.safe_load((folder / "settings.yaml").read_text())
    for name, value in settings.items():
        group, _, key = name.rpartition("__")
        (values[group] if group else values)[key] = value
    (folder / "settings.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return folder


def change_correct(test: Path, gained: int, lost: int) -> None:
    """Turn so many wrong answers of the fine-tuned model right, and right ones wrong, from the first on."""
    with np.load(test / "correct.npz") as file:
        models = {name: file[name] for name in file.files}
    before = models["finetuned"]
    after = before.copy()
    after[np.flatnonzero(~before)[:gained]] = True
    after[np.flatnonzero(before)[:lost]] = False
    np.savez_compressed(test / "correct.npz", **{**models, "finetuned": after})


def cut_test(test: Path, images: int) -> None:
    """Leave the first so many test images."""
    rows = read_predictions(test)[:images]
    write_csv(test / "predictions.csv", [*rows[0]], [[*one.values()] for one in rows])
    with np.load(test / "correct.npz") as file:
        models = {name: file[name][:images] for name in file.files}
    np.savez_compressed(test / "correct.npz", **models)


def read_correct(test: Path) -> np.ndarray:
    """Whether the fine-tuned model was right on each image."""
    with np.load(test / "correct.npz") as file:
        return file["finetuned"]


def read_predictions(test: Path) -> list[dict[str, str]]:
    """Rows of ``predictions.csv``."""
    with open(test / "predictions.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def edit_predictions(test: Path, row: int, **cells: str) -> None:
    """Change cells of one row of ``predictions.csv``."""
    rows = read_predictions(test)
    rows[row].update(cells)
    write_csv(test / "predictions.csv", [*rows[0]], [[*one.values()] for one in rows])


def write_digests(folder: Path, images: int, changed: int = -1) -> None:
    """The fingerprint of the test images; that of one of them changed."""
    digests = {f"test/{i:05d}": f"{i + 1000 * (i == changed):016x}" for i in range(images)}
    (folder / "data-index.json.gz").write_bytes(gzip.compress(json.dumps({"sets": "", "images": digests}).encode()))
