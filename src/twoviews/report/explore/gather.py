"""What a finished test stage knows of each image: places on maps, predictions, features, cluster, a picture."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twoviews.files import safe_cell
from twoviews.report.explore.image_features import in_order, labelled_features, tested_features
from twoviews.report.explore.sheet import Sheet, picture_id, read_sheet
from twoviews.report.image_index import Index, Maps, numbered
from twoviews.report.map_kinds import MAP_NAMES
from twoviews.report.run import Run
from twoviews.report.tested import Tested
from twoviews.report.values import dig, number

# Backbones in the order shown, each with the classifier that reads its features.
CLASSIFIERS = {
    "random_init": "random_init_linear_probe",
    "pretrained": "linear_probe",
    "finetuned": "finetuned",
    "supervised": "supervised",
    "imagenet_finetuned": "imagenet_finetuned",
}

REFERENCE = "pretrained"
"""Whose maps the others are turned to match, where it has any; otherwise the first's."""


@dataclass(frozen=True)
class Backbone:
    """One backbone's side of the images.

    Attributes:
        name: as in ``results.json``.
        maps: ``tsne``, ``umap`` and ``pca``, N×2 each, those there are.
        features: N×D, or None where the run has none; not finite for an image whose are missing.
        predicted: N class numbers of its classifier, −1 where unknown; None without predictions.
        confidence: N probabilities of the predicted class, not finite where unknown.
        clusters: N k-means clusters, −1 where unknown; None where the run has none.
        distances: N distances to the centre of the cluster; None where the run has none.
    """

    name: str
    maps: dict[str, NDArray[np.float64]]
    features: NDArray[Any] | None
    predicted: NDArray[np.int64] | None
    confidence: NDArray[np.float64] | None
    clusters: NDArray[np.int64] | None = None
    distances: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[np.int64]) -> Backbone:
        """The same of these images alone."""
        return Backbone(
            self.name,
            {kind: points[rows] for kind, points in self.maps.items()},
            None if self.features is None else self.features[rows],
            None if self.predicted is None else self.predicted[rows],
            None if self.confidence is None else self.confidence[rows],
            None if self.clusters is None else self.clusters[rows],
            None if self.distances is None else self.distances[rows],
        )


@dataclass(frozen=True)
class Images:
    """The images on the maps.

    Attributes:
        index: what index.csv says of each.
        labels: class number of each, −1 where unknown.
        class_names: as users wrote them.
        backbones: at least one, in the order shown.
        sheet: their pictures, or None.
        tested: test images there are, drawn or not.
        labelled: training and validation images there are, drawn or not; 0 where none are drawn.
    """

    index: Index
    labels: NDArray[np.int64]
    class_names: list[str]
    backbones: list[Backbone]
    sheet: Sheet | None
    tested: int
    labelled: int = 0

    @property
    def files(self) -> list[str]:
        """Name of each."""
        return self.index.files

    @property
    def test_rows(self) -> NDArray[np.int64]:
        """Which of the images are test images."""
        return np.flatnonzero(self.index.is_test)

    @property
    def row_of(self) -> dict[str, int]:
        """The row of each test image by its id; those of other splits are counted on their own."""
        return {self.index.ids[row]: row for row in self.test_rows.tolist()}

    def take(self, rows: NDArray[np.int64]) -> Images:
        """The same of these images alone; the sheet keeps all pictures."""
        return replace(
            self,
            index=self.index.part(rows),
            labels=self.labels[rows],
            backbones=[backbone.take(rows) for backbone in self.backbones],
            sheet=self.sheet and self.sheet.take(rows),
        )

    def part(self, rows: NDArray[np.int64]) -> Images:
        """The same of these images alone, and of their pictures."""
        return replace(self.take(rows), sheet=self.sheet and self.sheet.part(rows))

    def test_images(self) -> Images:
        """The same of the test images alone."""
        rows = self.test_rows
        return self if len(rows) == len(self.labels) else replace(self.take(rows), labelled=0)


def gather(run: Run, found: Maps | None, tested: Tested | None) -> Images | None:
    """Everything there is to explore in a run; None where its test stage drew no maps or isn't finished.

    Args:
        run: as `twoviews.report.run.load` read it.
        found: the maps of its test stage.
        tested: what that said of every test image.
    """
    stage = run.stages.get("test")
    if stage is None or not stage.results or found is None:
        return None
    index, is_test = found.index, found.index.is_test
    places = {one: place for place, one in enumerate(tested.ids)} if tested else {}
    # Where predictions.csv has each image; −1: nowhere.
    at = np.array([places.get(one, -1) for one in index.ids], dtype=np.int64)
    at[~is_test] = -1
    clusters, distances = _clusters(stage.folder / "clusters.npz", len(index), run.problems)
    backbones = []
    for name, classifier in CLASSIFIERS.items():
        maps = {kind: found.points[f"{name}_{kind}"] for kind in MAP_NAMES if f"{name}_{kind}" in found.points}
        if maps:
            features = _features(stage.folder, name, index, run.problems)
            predicted, confidence = _answers(tested, classifier, at, found.class_names)
            backbones.append(
                Backbone(name, maps, features, predicted, confidence, clusters.get(name), distances.get(name))
            )
    if not backbones:
        return None
    tests = int(is_test.sum())
    others = len(index) - tests
    if others:
        there = dig(stage.results, "maps", "images")
        others = max(others, sum(int(number(dig(there, split)) or 0) for split in ("train", "val")))
    pictures = [picture_id(split, one) for split, one in zip(index.splits, index.ids, strict=True)]
    sheet = read_sheet(stage.folder, pictures, run.problems)
    all_tests = max(len(tested.ids) if tested else 0, tests)
    return Images(index, found.labels, found.class_names, backbones, sheet, all_tests, others)


def _answers(
    tested: Tested | None, classifier: str, at: NDArray[np.int64], class_names: list[str]
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None]:
    """A classifier's predictions and confidences of the images at these places of predictions.csv, where it has any."""
    answers = tested.models.get(classifier) if tested else None
    if tested is None or answers is None:
        return None, None
    # Both count classes by the run's names; where it has none, each by those that its own images have.
    own = np.append(numbered(map(safe_cell, tested.class_names), class_names), -1)
    predicted = np.where(at >= 0, own[answers.predicted[at]], -1)
    confidence = np.where(at >= 0, answers.confidence[at], np.nan)
    return (predicted, confidence) if (predicted >= 0).any() else (None, None)


def _features(folder: Path, name: str, index: Index, problems: list[str]) -> NDArray[Any] | None:
    """Features of the images on the maps, those there are; what can't be used is noted."""
    tested, labelled, file = None, None, f"features-{name}.npy"
    try:
        tested = tested_features(folder / file, index)
        if not index.is_test.all():
            file = f"train_features-{name}.npy"
            labelled = labelled_features(folder / file, index, tested.shape[1])
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        problems.append(f"test/{file} can't be used ({error})")
    return None if tested is None else in_order(index, tested, labelled)


def _clusters(
    path: Path, images: int, problems: list[str]
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.float64]]]:
    """Of each backbone, the images' clusters and their distances to the centres; runs of before have none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        problems.append(f"test/{path.name} can't be read ({error})")
        return {}, {}
    fitting = {name: numbers for name, numbers in found.items() if numbers.shape == (images,)}
    clusters = {
        name: numbers.astype(np.int64)
        for name, numbers in fitting.items()
        if not name.endswith("_distance") and numbers.dtype.kind == "i"
    }
    if len(clusters) < sum(not name.endswith("_distance") for name in found):
        problems.append(f"test/{path.name} and test/index.csv don't fit together")
    distances = {
        name.removesuffix("_distance"): numbers.astype(np.float64)
        for name, numbers in fitting.items()
        if name.endswith("_distance") and numbers.dtype.kind == "f"
    }
    return clusters, distances
