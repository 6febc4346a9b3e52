"""Writes training stages with nothing but curves, quick to read and to draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CLASSIFIER = {"train_loss": 1, "val_loss": 1, "train_top1": 100, "val_top1": 100}
PRETRAINING = ("loss", "contrastive_top1", "lr", "knn_top1", "alignment", "uniformity", "effective_rank")


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """A training stage's folder that holds these rows an epoch; NaN as Python writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def classifier_rows(epochs: int, shift: float = 0.0) -> list[dict[str, Any]]:
    """A smooth curve for each key, a little higher by ``shift``."""
    return [
        {"epoch": e, "step": 9 * e, "lr": 0.1, **{key: 1 / 3 + shift + i + 0.7 / e for i, key in enumerate(CLASSIFIER)}}
        for e in range(1, epochs + 1)
    ]


def pretraining_rows(epochs: int) -> list[dict[str, Any]]:
    """As pretraining writes them: features are looked at every fifth epoch."""
    rows = []
    for e in range(1, epochs + 1):
        keys = PRETRAINING if e % 5 == 0 else PRETRAINING[:3]
        rows.append({"epoch": e, "step": 9 * e, **{key: (i - 5) / 7 + 1 / e for i, key in enumerate(keys)}})
    return rows


def measured(folder: Path, key: str, scale: float = 1.0) -> list[tuple[int, Any]]:
    """Epoch and value of a key as the file says, to compare with numbers of six digits."""
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["epoch"], pytest.approx(scale * row[key], rel=1e-5)) for row in rows if key in row]
