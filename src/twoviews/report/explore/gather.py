"""What a finished test stage knows of each image: places on maps, predictions, features, cluster, a picture."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twoviews.files import safe_cell
from twoviews.report.explore.sheet import Sheet, picture_id, read_sheet
from twoviews.report.source import Run
from twoviews.report.words import dig, number

# Backbones in the order shown, each with the classifier that reads its features.
CLASSIFIERS = {
    "random_init": "random_init_linear_probe",
    "pretrained": "linear_probe",
    "finetuned": "finetuned",
    "supervised": "supervised",
    "imagenet_finetuned": "imagenet_finetuned",
}
KINDS = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}


@dataclass
class Backbone:
    """One backbone's side of the images.

    Attributes:
        name: as in ``results.json``.
        maps: ``tsne``, ``umap`` and ``pca``, N×2 each, those there are.
        features: N×D, or None where the run has none; not finite for an image whose are missing.
        predicted: N class numbers of its classifier, −1 where unknown; None without predictions.
        confidence: N probabilities of the predicted class, not finite where unknown.
        clusters: N k-means clusters, −1 where unknown; None where the run has none.
    """

    name: str
    maps: dict[str, NDArray[np.float64]]
    features: NDArray[Any] | None
    predicted: NDArray[np.int64] | None
    confidence: NDArray[np.float64] | None
    clusters: NDArray[np.int64] | None = None

    def part(self, rows: NDArray[np.int64]) -> Backbone:
        """The same of these images alone."""
        maps = {kind: points[rows] for kind, points in self.maps.items()}
        features = None if self.features is None else self.features[rows]
        predicted = None if self.predicted is None else self.predicted[rows]
        confidence = None if self.confidence is None else self.confidence[rows]
        clusters = None if self.clusters is None else self.clusters[rows]
        return Backbone(self.name, maps, features, predicted, confidence, clusters)


@dataclass
class Images:
    """The images on the maps.

    Attributes:
        files: name of each.
        labels: class number of each, −1 where unknown.
        class_names: as users wrote them.
        backbones: at least one, in the order shown.
        sheet: their pictures, or None.
        tested: test images there are, drawn or not.
        splits: ``test``, ``train`` or ``val`` for each.
        labelled: training and validation images there are, drawn or not; 0 where none are drawn.
    """

    files: list[str]
    labels: NDArray[np.int64]
    class_names: list[str]
    backbones: list[Backbone]
    sheet: Sheet | None
    tested: int
    splits: NDArray[np.str_]
    labelled: int = 0

    @property
    def test_rows(self) -> NDArray[np.int64]:
        """Which of the images are test images."""
        return np.flatnonzero(self.splits == "test")

    def part(self, rows: NDArray[np.int64]) -> Images:
        """The same of these images alone."""
        files = [self.files[row] for row in rows]
        backbones = [backbone.part(rows) for backbone in self.backbones]
        sheet = self.sheet.part(rows) if self.sheet else None
        labels, splits = self.labels[rows], self.splits[rows]
        return Images(files, labels, self.class_names, backbones, sheet, self.tested, splits, self.labelled)


def gather(run: Run, labelled: bool = False) -> Images | None:
    """Everything there is to explore in a run; None where its test stage drew no maps or isn't finished.

    Args:
        labelled: also the images of training and validation, where the run has drawn them.
    """
    stage = run.stages.get("test")
    found = run.maps("test", labelled) if stage is not None and stage.results else None
    if stage is None or found is None:
        return None
    whole = run.table(stage.folder / "index.csv")
    kept = [labelled or (row.get("split") or "test") == "test" for row in whole]
    splits = np.array(found.splits)
    predictions = run.table(stage.folder / "predictions.csv")
    by_id = {row.get("id", ""): row for row in predictions}
    rows = [by_id.get(one, {}) if split == "test" else {} for one, split in zip(found.ids, found.splits, strict=True)]
    clusters = _clusters(stage.folder / "clusters.npz", kept, run.problems)
    numbers = {safe_cell(name): i for i, name in enumerate(found.class_names)}
    backbones = []
    for name, classifier in CLASSIFIERS.items():
        maps = {kind: found.points[f"{name}_{kind}"] for kind in KINDS if f"{name}_{kind}" in found.points}
        if maps:
            features = _features(stage.folder, name, found.ids, splits, run.problems)
            predicted = np.array([numbers.get(row.get(classifier) or "", -1) for row in rows], dtype=np.int64)
            confidence = np.array([_fraction(row.get(f"{classifier}_confidence")) for row in rows])
            is_known = bool((predicted >= 0).any())
            backbones.append(
                Backbone(
                    name,
                    maps,
                    features,
                    predicted=predicted if is_known else None,
                    confidence=confidence if is_known else None,
                    clusters=clusters.get(name),
                )
            )
    if not backbones:
        return None
    files = [row.get("file") or "" for row in compress(whole, kept)]
    tests = int(np.sum(splits == "test"))
    others = len(files) - tests
    if others:
        there = dig(stage.results, "maps", "images")
        others = max(others, sum(int(number(dig(there, split)) or 0) for split in ("train", "val")))
    pictures = [picture_id(split, one) for split, one in zip(found.splits, found.ids, strict=True)]
    sheet = read_sheet(stage.folder, pictures, run.problems)
    tested = max(len(predictions), tests)
    return Images(files, found.labels, found.class_names, backbones, sheet, tested, splits, others)


def _features(
    folder: Path, name: str, ids: list[str], splits: NDArray[np.str_], problems: list[str]
) -> NDArray[Any] | None:
    """Features of the images on the maps: test images' by id, those of training and validation in their order."""
    is_test = splits == "test"
    tested = _tested(folder / f"features-{name}.npy", list(compress(ids, is_test)), problems)
    if tested is None or is_test.all():
        return tested
    more = _matrix(folder / f"train_features-{name}.npy", problems)
    found = np.full((len(ids), tested.shape[1]), np.nan, dtype=tested.dtype)
    found[is_test] = tested
    if more is not None and more.shape == (len(ids) - len(tested), tested.shape[1]):
        found[~is_test] = more
    elif more is not None:
        problems.append(f"test/train_features-{name}.npy and test/index.csv don't fit together")
    return found


def _tested(path: Path, ids: list[str], problems: list[str]) -> NDArray[Any] | None:
    """Features of the test images on the maps; the file may hold those of all test images, which ids count."""
    features = _matrix(path, problems)
    if features is None or len(features) == len(ids):
        return features
    rows = [int(one) if one.isdecimal() else -1 for one in ids]
    if min(rows) < 0 or max(rows) >= len(features):
        problems.append(f"test/{path.name} and test/index.csv have different numbers of rows")
        return None
    return np.asarray(features[rows])


def _matrix(path: Path, problems: list[str]) -> NDArray[Any] | None:
    """N×D floating numbers, or None where there are none."""
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        problems.append(f"test/{path.name} can't be read ({error})")
        return None
    if features.ndim != 2 or features.dtype.kind != "f":
        problems.append(f"test/{path.name} holds no features of images")
        return None
    return np.asarray(features)


def _clusters(path: Path, kept: list[bool], problems: list[str]) -> dict[str, NDArray[np.int64]]:
    """Of each backbone, the clusters of the images that are kept; runs of before have none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: np.asarray(archive[name]) for name in archive.files if not name.endswith("_distance")}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        problems.append(f"test/{path.name} can't be read ({error})")
        return {}
    fitting = {
        name: numbers[kept].astype(np.int64)
        for name, numbers in found.items()
        if numbers.shape == (len(kept),) and numbers.dtype.kind == "i"
    }
    if len(fitting) < len(found):
        problems.append(f"test/{path.name} and test/index.csv don't fit together")
    return fitting


def _fraction(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
