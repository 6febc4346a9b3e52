"""The folder of one stage, and how stages and parts of a study are called; a damaged file is noted, never fatal."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from twoviews.files import finite, read_json, read_json_lines
from twoviews.report.values import number

STAGES = ("supervised", "pretrain", "features", "finetune", "test")
STAGE_NAMES = {
    "supervised": "Supervised baseline",
    "pretrain": "SimCLR pretraining",
    "features": "Feature quality check",
    "finetune": "Fine-tuning",
    "test": "Test",
}

# A study's parts with fewer labels or with one fold, and its seeds, hold stages as a study does; of pretraining only
# what is their own.
PART = re.compile(r"(labels|fold)-(\S+)")
SEED = re.compile(r"seed(\d+)")


def is_part(name: str) -> bool:
    """Whether a folder of this name is part of a study: a seed, a smaller label budget or a fold."""
    return bool(PART.fullmatch(name) or SEED.fullmatch(name))


@dataclass
class Stage:
    """One stage's folder: its rows an epoch and what it wrote when it was done."""

    name: str
    folder: Path
    metrics: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)


def read_mapping(path: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON file; empty where it is missing, damaged or no mapping."""
    try:
        found = finite(read_json(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} can't be read ({error})")
        return {}
    return found if isinstance(found, dict) else {}


def read_settings(path: Path, problems: list[str]) -> dict[str, Any]:
    """A YAML file; empty where it is missing, damaged or no mapping."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        problems.append(f"{path.name} can't be read ({str(error).splitlines()[0]})")
        return {}
    return found if isinstance(found, dict) else {}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """One row an epoch: a run that was resumed may hold an epoch twice, and the later row counts."""
    rows = [row for row in read_json_lines(path) if isinstance(row, dict) and number(row.get("epoch")) is not None]
    latest = {row["epoch"]: finite(row) for row in rows}
    return [latest[epoch] for epoch in sorted(latest)]


def read_stage(name: str, folder: Path, problems: list[str]) -> Stage:
    """What lies in a stage's folder."""
    metrics, timing = read_rows(folder / "metrics.jsonl"), read_rows(folder / "timing.jsonl")
    return Stage(name, folder, metrics, timing, read_mapping(folder / "results.json", problems))
