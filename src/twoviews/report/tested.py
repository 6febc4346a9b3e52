"""What a test stage said of every test image: predictions.csv, and the small pictures of those on its maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twoviews.files import safe_cell
from twoviews.report.explore.gather import Images
from twoviews.report.source import Run

UNTRAINED = "random_init_linear_probe"


@dataclass(frozen=True)
class Answers:
    """One model's answers.

    Attributes:
        predicted: N class numbers, −1 where unknown.
        confidence: N probabilities of the predicted class, in [0, 1]; NaN where unknown.
    """

    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class Tested:
    """All test images, in the order of predictions.csv.

    Attributes:
        ids: of each image, as index.csv has them.
        files: name of each.
        labels: class number of each, −1 where unknown.
        class_names: as users wrote them.
        models: of each model its answers.
    """

    ids: list[str]
    files: list[str]
    labels: NDArray[np.int64]
    class_names: list[str]
    models: dict[str, Answers]

    def judged(self, model: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Confidence and correctness of a model on the images of which both are known."""
        answers = self.models[model]
        known = (self.labels >= 0) & (answers.predicted >= 0) & np.isfinite(answers.confidence)
        return answers.confidence[known], answers.predicted[known] == self.labels[known]


def read_tested(run: Run) -> Tested | None:
    """The answers of a finished test stage; None where there is none or its table is empty."""
    stage = run.stages.get("test")
    rows = run.table(stage.folder / "predictions.csv") if stage is not None and stage.results else []
    if not rows:
        return None
    names = run.class_names or sorted({row.get("label") or "" for row in rows})
    numbers = class_numbers(names)
    models = {
        column.removesuffix("_confidence"): Answers(
            np.array([numbers.get(row.get(column.removesuffix("_confidence")) or "", -1) for row in rows]),
            np.array([_probability(row.get(column)) for row in rows]),
        )
        for column in rows[0]
        if column and column.endswith("_confidence") and column.removesuffix("_confidence") in rows[0]
    }
    labels = np.array([numbers.get(row.get("label") or "", -1) for row in rows])
    ids, files = ([row.get(key) or "" for row in rows] for key in ("id", "file"))
    return Tested(ids, files, labels, names, models) if models else None


def class_numbers(names: list[str]) -> dict[str, int]:
    """The number of each class by its name as CSV files have it."""
    return {safe_cell(name): i for i, name in enumerate(names)}


def rows_by_id(run: Run, images: Images) -> dict[str, int]:
    """Of each test image on the maps its row of ``images``, by id; ids of training images are counted on their own."""
    index = run.table(run.stages["test"].folder / "index.csv")
    ids = [row.get("id") or "" for row in index if (row.get("split") or "test") == "test"]
    rows = images.test_rows.tolist()
    if len(ids) != len(rows):
        run.problems.append("test/index.csv doesn't fit the images on the maps")
        return {}
    return dict(zip(ids, rows, strict=True))


def _probability(text: str | None) -> float:
    try:
        found = float(text or "nan")
    except ValueError:
        return float("nan")
    return found if 0 <= found <= 1 else float("nan")
