"""What a finished test stage knows of each test image: places on maps, predictions, features, a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twoviews.files import safe_cell
from twoviews.report.explore.sheet import Sheet, read_sheet
from twoviews.report.source import Run

# Backbones in the order shown, each with the classifier that reads its features.
CLASSIFIERS = {
    "random_init": "random_init_linear_probe",
    "pretrained": "linear_probe",
    "finetuned": "finetuned",
    "supervised": "supervised",
    "imagenet_finetuned": "imagenet_finetuned",
}
KINDS = {"tsne": "t-SNE", "pca": "PCA"}


@dataclass
class Backbone:
    """One backbone's side of the images.

    Attributes:
        name: as in ``results.json``.
        maps: ``tsne`` and ``pca``, N×2 each, those there are.
        features: N×D, or None where the run has none.
        predicted: N class numbers of its classifier, −1 where unknown; None without predictions.
        confidence: N probabilities of the predicted class, not finite where unknown.
    """

    name: str
    maps: dict[str, NDArray[np.float64]]
    features: NDArray[Any] | None
    predicted: NDArray[np.int64] | None
    confidence: NDArray[np.float64] | None

    def part(self, rows: NDArray[np.int64]) -> Backbone:
        """The same of these images alone."""
        maps = {kind: points[rows] for kind, points in self.maps.items()}
        features = None if self.features is None else self.features[rows]
        predicted = None if self.predicted is None else self.predicted[rows]
        confidence = None if self.confidence is None else self.confidence[rows]
        return Backbone(self.name, maps, features, predicted, confidence)


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
    """

    files: list[str]
    labels: NDArray[np.int64]
    class_names: list[str]
    backbones: list[Backbone]
    sheet: Sheet | None
    tested: int

    def part(self, rows: NDArray[np.int64]) -> Images:
        """The same of these images alone."""
        files = [self.files[row] for row in rows]
        backbones = [backbone.part(rows) for backbone in self.backbones]
        sheet = self.sheet.part(rows) if self.sheet else None
        return Images(files, self.labels[rows], self.class_names, backbones, sheet, self.tested)


def gather(run: Run) -> Images | None:
    """Everything there is to explore in a run; None where its test stage drew no maps or isn't finished."""
    stage = run.stages.get("test")
    found = run.maps("test") if stage is not None and stage.results else None
    if stage is None or found is None:
        return None
    index = run.table(stage.folder / "index.csv")
    predictions = run.table(stage.folder / "predictions.csv")
    by_id = {row.get("id", ""): row for row in predictions}
    rows = [by_id.get(one, {}) for one in found.ids]
    numbers = {safe_cell(name): i for i, name in enumerate(found.class_names)}
    backbones = []
    for name, classifier in CLASSIFIERS.items():
        maps = {kind: found.points[f"{name}_{kind}"] for kind in KINDS if f"{name}_{kind}" in found.points}
        if maps:
            features = _features(stage.folder / f"features-{name}.npy", found.ids, run.problems)
            predicted = np.array([numbers.get(row.get(classifier) or "", -1) for row in rows], dtype=np.int64)
            confidence = np.array([_fraction(row.get(f"{classifier}_confidence")) for row in rows])
            is_known = bool((predicted >= 0).any())
            backbones.append(
                Backbone(name, maps, features, predicted if is_known else None, confidence if is_known else None)
            )
    if not backbones:
        return None
    files = [row.get("file") or "" for row in index]
    sheet = read_sheet(stage.folder, found.ids, run.problems)
    return Images(files, found.labels, found.class_names, backbones, sheet, max(len(predictions), len(index)))


def _features(path: Path, ids: list[str], problems: list[str]) -> NDArray[Any] | None:
    """Features of the images on the maps; the file may hold those of all test images, which ids count."""
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
    if len(features) == len(ids):
        return np.asarray(features)
    rows = [int(one) if one.isdecimal() else -1 for one in ids]
    if min(rows) < 0 or max(rows) >= len(features):
        problems.append(f"test/{path.name} and test/index.csv have different numbers of rows")
        return None
    return np.asarray(features[rows])


def _fraction(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
