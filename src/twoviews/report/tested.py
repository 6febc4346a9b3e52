"""What a test stage said of every test image: predictions.csv."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twoviews.report.image_index import fraction, numbered
from twoviews.report.run import Run

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
    models = {
        model: Answers(
            numbered((row.get(model) for row in rows), names),
            np.array([fraction(row.get(f"{model}_confidence")) for row in rows]),
        )
        for model in rows[0]
        if f"{model}_confidence" in rows[0]
    }
    labels = numbered((row.get("label") for row in rows), names)
    ids, files = ([row.get(key) or "" for row in rows] for key in ("id", "file"))
    return Tested(ids, files, labels, names, models) if models else None
