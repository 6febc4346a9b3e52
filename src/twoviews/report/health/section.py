"""The page's word on the labelled images: how even the classes are, and which labels to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twoviews.files import write_csv
from twoviews.report.explore.gather import Images, gather
from twoviews.report.health.class_balance import Balance, class_balance
from twoviews.report.health.label_errors import MOST_LABELLED, Suspects, by_model_and_neighbours, by_neighbours
from twoviews.report.picture_grid import MOST_CELLS, Grid, Words, grid
from twoviews.report.source import Run, load
from twoviews.report.tables import Table
from twoviews.report.tested import Tested, class_numbers, read_tested, rows_by_id
from twoviews.report.words import count, percent, short_name

FILE = "label_errors.csv"
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
class Found:
    """Suspects of one part of the data, with what they are called.

    Attributes:
        suspects: rows count into ``ids``, ``files``, ``labels`` and ``splits``.
        names: of the classes.
        model: whose answers were asked; empty where only neighbours were.
        looked_at: images that were.
        of: images there are.
    """

    suspects: Suspects
    splits: list[str]
    ids: list[str]
    files: list[str]
    labels: NDArray[np.int64]
    names: list[str]
    model: str
    looked_at: int
    of: int

    def rows(self) -> list[list[Any]]:
        """One row of `HEADER` for each suspect."""
        s = self.suspects
        return [
            [
                self.splits[i],
                self.ids[i],
                self.files[i],
                self.names[self.labels[i]],
                self.names[s.suggested[at]],
                f"{s.confidence[at]:.4f}" if np.isfinite(s.confidence[at]) else "",
                int(s.agreeing[at]),
                int(s.own[at]),
                s.neighbours,
            ]
            for at, i in enumerate(s.rows.tolist())
        ]


@dataclass(frozen=True)
class LabelErrors:
    """Suspects as the page shows them.

    Attributes:
        tested_says: how many test images are suspected and by what; empty where none could be.
        grid: the first of them, or None.
        trained_says: likewise of labelled training and validation images.
        table: the first of those, or None.
        file: of the run, where all of them are; empty where it is missing.
    """

    tested_says: str
    grid: Grid | None
    trained_says: str
    table: Table | None
    file: str


@dataclass(frozen=True)
class HealthSection:
    """What the template draws; None where a run doesn't have it."""

    balance: Balance | None
    errors: LabelErrors | None


def health_section(run: Run) -> HealthSection | None:
    """Class balance and suspected labels of a run; None for one that lists no labelled images."""
    tested = read_tested(run)
    balance = class_balance(run, tested)
    images = gather(run)
    test, train = _of_test(run, tested, images), _of_train(run)
    errors = None
    if test or train:
        sheet, places = (images.sheet, rows_by_id(run, images)) if images else (None, {})
        errors = LabelErrors(
            tested_says=_tested_says(test) if test else "",
            grid=_grid(test, sheet, places) if test and len(test.suspects.rows) else None,
            trained_says=_trained_says(train) if train else "",
            table=_table(train) if train and len(train.suspects.rows) else None,
            file=FILE if (run.folder / FILE).exists() else "",
        )
    return HealthSection(balance, errors) if balance or errors else None


def label_errors_table(run: Run) -> tuple[list[str], list[list[Any]]] | None:
    """All suspects as header and rows for a CSV file, test images first; None where none could be looked for."""
    found = [part for part in (_of_test(run, read_tested(run), gather(run)), _of_train(run)) if part]
    return (HEADER, [row for part in found for row in part.rows()]) if found else None


def write_label_errors(folder: Path) -> None:
    """Write ``label_errors.csv`` of a finished study, where labels could be looked at.

    Raises:
        DataError: ``folder`` is not a folder that a run left.
        ResourceError: the disk is full or read-only.
    """
    if found := label_errors_table(load(folder)):
        write_csv(folder / FILE, *found)


def _of_test(run: Run, tested: Tested | None, images: Images | None) -> Found | None:
    """Test images of which the run kept features; the fine-tuned classifier is asked, else the baseline."""
    if images is None or tested is None:
        return None
    features = next((one.features for one in images.backbones if one.name == "pretrained"), None)
    asked = next((name for name in ("finetuned", "supervised") if name in tested.models), None)
    rows = rows_by_id(run, images)
    if features is None or asked is None or not rows:
        return None
    features = features[list(rows.values())]
    if not np.isfinite(features).all():
        return None
    places = {one: place for place, one in enumerate(tested.ids)}
    if not rows.keys() <= places.keys():
        run.problems.append("test/index.csv and test/predictions.csv name different images")
        return None
    at = np.array([places[one] for one in rows], dtype=np.int64)
    answers, labels = tested.models[asked], tested.labels[at]
    suspects = by_model_and_neighbours(features, labels, answers.predicted[at], answers.confidence[at])
    return Found(
        suspects,
        ["test"] * len(at),
        [tested.ids[i] for i in at],
        [tested.files[i] for i in at],
        labels,
        tested.class_names,
        asked,
        len(at),
        len(tested.files),
    )


def _of_train(run: Run) -> Found | None:
    """Labelled training and validation images, of which the feature check kept pretrained features."""
    if "features" not in run.stages:
        return None
    folder = run.stages["features"].folder
    index = run.table(folder / "index.csv")
    if not index:  # A run without maps keeps features, but no list of their images.
        return None
    try:
        features = np.load(folder / "features-pretrained.npy", mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        run.problems.append(f"features/features-pretrained.npy can't be read ({error})")
        return None
    if features.ndim != 2 or features.dtype.kind != "f" or len(features) != len(index):
        run.problems.append("features/features-pretrained.npy and features/index.csv don't fit together")
        return None
    rows = np.linspace(0, len(index) - 1, min(len(index), MOST_LABELLED)).round().astype(np.int64)
    chosen = np.asarray(features[rows])
    if not np.isfinite(chosen).all():
        return None
    names = run.class_names or sorted({row.get("label") or "" for row in index})
    numbers = class_numbers(names)
    kept = [index[row] for row in rows]
    labels = np.array([numbers.get(row.get("label") or "", -1) for row in kept], dtype=np.int64)
    splits, ids, files = ([row.get(key) or "" for row in kept] for key in ("split", "id", "file"))
    return Found(by_neighbours(chosen, labels), splits, ids, files, labels, names, "", len(rows), len(index))


def _tested_says(found: Found) -> str:
    s = found.suspects
    rule = (
        f"the {short_name(found.model).lower()} model names another class, at least as sure as on average where it"
        f" names it, most of the {s.neighbours} nearest test images in SimCLR’s features have that class as label, and"
        f" {'at most one has' if s.neighbours >= 16 else 'none has'} the image’s own"
    )
    number = len(s.rows)
    if not number:
        return f"No test label of the {count(found.looked_at)} looked at is suspected: nowhere is it so that {rule}."
    were = "is 1 test image" if number == 1 else f"are {count(number)} test images"
    first = f" The {MOST_CELLS} strongest are shown." if number > MOST_CELLS else ""
    return f"There {were} of {count(found.looked_at)} where {rule}.{first}"


def _trained_says(found: Found) -> str:
    s = found.suspects
    part = "" if found.looked_at == found.of else f" {count(found.looked_at)} of them, evenly spaced, were looked at."
    rule = (
        f"more than half of the {s.neighbours} nearest labelled images in SimCLR’s features agree on another class and"
        f" {'at most one has' if s.neighbours >= 16 else 'none has'} the image’s own"
    )
    number = len(s.rows)
    which = f"{count(number) if number else 'none'} of the {count(found.of)} training and validation images"
    first = f" The first {MOST_CELLS} are listed." if number > MOST_CELLS else ""
    return (
        f"By neighbours alone, since the classifiers were trained on these labels, {which}"
        f" {'is' if number == 1 else 'are'} suspected: {rule}.{part}{first}"
    )


def _grid(found: Found, sheet: Any, places: dict[str, int]) -> Grid:
    s, shown = found.suspects, found.suspects.rows[:MOST_CELLS].tolist()
    said = [
        Words(
            found.files[i],
            [
                f"Label: {found.names[found.labels[i]]}",
                f"Perhaps: {found.names[s.suggested[at]]}",
                f"{percent(s.confidence[at], 0)} sure, {s.agreeing[at]} of {s.neighbours} neighbours",
            ],
        )
        for at, i in enumerate(shown)
    ]
    return grid(said, [places.get(found.ids[i]) for i in shown], sheet)


def _table(found: Found) -> Table:
    rows = [
        [file, split, label, suggested, f"{agreeing} of {asked}"]
        for split, _, file, label, suggested, _, agreeing, _, asked in found.rows()[:MOST_CELLS]
    ]
    return Table(["File", "Split", "Label", "Perhaps", "Neighbours"], rows, is_numeric=False)
