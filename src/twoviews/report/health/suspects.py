"""Which images of a run may have a wrong label, as far as its files tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twoviews.report.explore.gather import Images
from twoviews.report.explore.image_features import read_features
from twoviews.report.health.label_errors import MOST_LABELLED, Suspects, by_model_and_neighbours, by_neighbours
from twoviews.report.image_index import Index, numbered
from twoviews.report.model_names import COMPARED
from twoviews.report.run import Run
from twoviews.report.tested import Tested
from twoviews.spacing import evenly_spaced

HEADER = [
    "split",
    "id",
    "file",
    "label",
    "suggested",
    "confidence",
    "neighbours_agreeing",
    "neighbours_own",
    "neighbours",
]


@dataclass(frozen=True)
class PartSuspects:
    """Suspects of one part of the data, with what they are called.

    Attributes:
        suspects: rows count into ``index`` and ``labels``.
        index: the images that were looked at.
        labels: class number of each, −1 where unknown.
        names: of the classes.
        model: whose answers were asked; empty where only neighbours were.
        of: images there are.
    """

    suspects: Suspects
    index: Index
    labels: NDArray[np.int64]
    names: list[str]
    model: str
    of: int

    def rows(self) -> list[list[Any]]:
        """One row of `HEADER` for each suspect."""
        s = self.suspects
        return [
            [
                self.index.splits[i],
                self.index.ids[i],
                self.index.files[i],
                self.names[self.labels[i]],
                self.names[s.suggested[at]],
                f"{s.confidence[at]:.4f}" if np.isfinite(s.confidence[at]) else "",
                int(s.agreeing[at]),
                int(s.own[at]),
                s.neighbours,
            ]
            for at, i in enumerate(s.rows.tolist())
        ]


def suspected_test_images(run: Run, tested: Tested | None, images: Images | None) -> PartSuspects | None:
    """Those of which the run kept features; the fine-tuned classifier is asked, else the baseline."""
    if images is None or tested is None:
        return None
    features = next((one.features for one in images.backbones if one.name == "pretrained"), None)
    asked = next((name for name in reversed(COMPARED) if name in tested.models), None)
    row_of = images.row_of
    if features is None or asked is None or not row_of:
        return None
    rows = np.array(list(row_of.values()), dtype=np.int64)
    features = features[rows]
    if not np.isfinite(features).all():
        return None
    places = {one: place for place, one in enumerate(tested.ids)}
    if not row_of.keys() <= places.keys():
        run.problems.append("test/index.csv and test/predictions.csv name different images")
        return None
    at = np.array([places[one] for one in row_of], dtype=np.int64)
    answers, labels = tested.models[asked], tested.labels[at]
    suspects = by_model_and_neighbours(features, labels, answers.predicted[at], answers.confidence[at])
    return PartSuspects(suspects, images.index.part(rows), labels, tested.class_names, asked, len(tested.files))


def suspected_training_images(run: Run) -> PartSuspects | None:
    """Those of training and validation, of which the feature check kept pretrained features."""
    index = run.index("features")
    if not len(index):  # A run without maps keeps features, but no list of their images.
        return None
    try:
        features = read_features(run.stages["features"].folder / "features-pretrained.npy")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        run.problems.append(f"features/features-pretrained.npy can't be used ({error})")
        return None
    if len(features) != len(index):
        run.problems.append("features/features-pretrained.npy and features/index.csv don't fit together")
        return None
    rows = evenly_spaced(len(index), MOST_LABELLED)
    chosen = np.asarray(features[rows])
    if not np.isfinite(chosen).all():
        return None
    names = run.class_names or sorted(set(index.labels))
    kept = index.part(rows)
    labels = numbered(kept.labels, names)
    return PartSuspects(by_neighbours(chosen, labels), kept, labels, names, "", len(index))
