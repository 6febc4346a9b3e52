"""What a run folder says, read with forgiveness: a missing or damaged file is noted, never fatal."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twoviews.errors import DataError
from twoviews.report.image_index import Index, Maps, numbered
from twoviews.report.stage_files import SEED, STAGES, Stage, read_mapping, read_rows, read_settings, read_stage
from twoviews.report.unfinished import state_of, unfinished_stages
from twoviews.report.values import dig, items


@dataclass(kw_only=True)
class Run:
    """Everything the page is made of.

    Attributes:
        folder: of the run.
        kind: ``study``, or the name of a single stage.
        results, environment, settings, data: what the files of these names in the folder hold; {} where one is missing.
        stages: those whose folders are there, by name; of several seeds the first one's.
        seeds: names of the seeds' folders; none where there is one seed.
        unfinished: what is not done yet, in sentences.
        problems: what could not be read, in words; reading goes on to add to it.
    """

    folder: Path
    kind: str
    results: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    seeds: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _indexes: dict[str, Index] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def shown(self) -> str:
        """Which of several seeds the curves, maps and pictures are of; empty for one seed."""
        many = max(len(self.seeds), len(items(self.results.get("seeds"))))
        return f"Seed {self.seeds[0][4:]} shown, the first of {many}." if self.seeds and many > 1 else ""

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the confusion matrices' rows."""
        names = dig(self.results, "data", "classes")
        if isinstance(names, list):
            return [str(name) for name in names]
        for model in (dig(self.results, "models") or {}).values():
            rows = dig(model, "per_class")
            if isinstance(rows, list):
                return [str(dig(row, "class")) for row in rows]
        return []

    def index(self, stage: str) -> Index:
        """The images that a stage lists, read once; none where it is missing. Of ``test`` they may be of any split."""
        if stage not in self._indexes:
            rows = self.table(self.stages[stage].folder / "index.csv") if stage in self.stages else []
            # Test stages of before `--map-splits` drew test images alone and didn't say so.
            splits = [row.get("split") or ("test" if stage == "test" else "") for row in rows]
            ids, files, labels = ([row.get(key) or "" for row in rows] for key in ("id", "file", "label"))
            self._indexes[stage] = Index(ids, splits, files, labels)
        return self._indexes[stage]

    def maps(self, stage: str) -> Maps | None:
        """The maps of ``features`` or ``test``; None where a file is missing or they don't fit together.

        Those of ``test`` may show images of training and validation too, after the test images.
        """
        if stage not in self.stages:
            return None
        folder, index = self.stages[stage].folder, self.index(stage)
        try:
            with np.load(folder / "maps.npz", allow_pickle=False) as archive:
                points = {name: np.asarray(archive[name], dtype=np.float64) for name in archive.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            self.problems.append(f"{stage}/maps.npz can't be read ({error})")
            return None
        fitting = {name: places for name, places in points.items() if places.shape == (len(index), 2)}
        if len(fitting) < len(points):
            self.problems.append(f"{stage}/maps.npz and {stage}/index.csv have different numbers of rows")
        names = self.class_names or sorted(set(index.labels))
        return Maps(fitting, numbered(index.labels, names), names, index) if fitting else None

    def table(self, path: Path) -> list[dict[str, str]]:
        """Rows of a CSV file; none where it is missing."""
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
                return list(csv.DictReader(stream))
        except FileNotFoundError:
            return []
        except (OSError, csv.Error) as error:
            self.problems.append(f"{path.name} can't be read ({error})")
            return []


def load(folder: Path) -> Run:
    """Read a study's folder, or that of a single stage.

    Raises:
        DataError: there is no such folder, or nothing in it was left by a run.
    """
    if not folder.is_dir():
        raise DataError(f"There is no run folder {folder}; name one that `twoviews study` or a stage command made.")
    problems: list[str] = []
    results = read_mapping(folder / "results.json", problems)
    environment = read_mapping(folder / "environment.json", problems)
    settings = read_settings(folder / "settings.yaml", problems)
    data = read_mapping(folder / "data.json", problems)
    seeds = seed_folders(folder)
    bases = seeds or [folder]
    is_study = any((base / stage).is_dir() for base in bases for stage in STAGES)
    kind = "study" if is_study else _stage_kind(folder, environment, results)
    if not kind:
        if not settings and not environment:
            raise DataError(f"{folder} holds no run: neither stages nor metrics.jsonl, results.json or settings.yaml.")
        kind = "study"
    if kind == "study":
        stages = {name: read_stage(name, bases[0] / name, problems) for name in STAGES if (bases[0] / name).is_dir()}
        unfinished = [] if results else unfinished_stages(folder, bases, settings)
        if not results:
            results = _pieced_together(stages)
    else:
        stages = {kind: read_stage(kind, folder, problems)}
        unfinished = [] if results else [state_of(stages[kind], settings)]
        if kind == "features":
            results = {"features": results.get("features", results)}
    models = results.get("models")
    if models is not None:
        entries = models.items() if isinstance(models, dict) else ()
        results["models"] = {name: row for name, row in entries if isinstance(row, dict)}
    return Run(
        folder=folder,
        kind=kind,
        results=results,
        settings=settings,
        environment=environment,
        data=data,
        stages=stages,
        seeds=[seed.name for seed in seeds],
        unfinished=unfinished,
        problems=problems,
    )


def seed_folders(folder: Path) -> list[Path]:
    """The seeds of a study of several, the first one first; none for another."""
    return sorted((path for path in folder.glob("seed*") if SEED.fullmatch(path.name)), key=_seed)


def _seed(path: Path) -> int:
    return int(path.name[4:])


def _stage_kind(folder: Path, environment: dict[str, Any], results: dict[str, Any]) -> str:
    """Which stage left this folder: by its files, its command or its name."""
    if (folder / "predictions.csv").exists() or "comparison" in results:
        return "test"
    if (folder / "clusters.csv").exists():
        return "features"
    words = str(environment.get("command", "")).split()
    named = next((stage for stage in STAGES if stage in words[1:2] or folder.name.split("-")[0] == stage), "")
    rows = read_rows(folder / "metrics.jsonl")
    if rows and "train_loss" in rows[-1]:
        return "finetune" if named == "finetune" else "supervised"
    return "pretrain" if rows else named


def _pieced_together(stages: dict[str, Stage]) -> dict[str, Any]:
    """What finished stages say while the study has no results of its own."""
    results = dict(stages["test"].results) if "test" in stages else {}
    features = stages["features"].results if "features" in stages else {}
    if features and "features" not in results:
        results["features"] = features.get("features", features)
    return results
