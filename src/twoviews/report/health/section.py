"""The page's word on the labelled images: how even the classes are, and which labels to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twoviews.files import write_csv
from twoviews.report.data import ReportData
from twoviews.report.explore.sheet import Sheet
from twoviews.report.health.class_balance import Balance, class_balance
from twoviews.report.health.suspects import HEADER, PartSuspects
from twoviews.report.model_names import short_name
from twoviews.report.number_words import count, percent
from twoviews.report.picture_grid import MOST_CELLS, Grid, Words, grid
from twoviews.report.tables import Table

FILE = "label_errors.csv"


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


def health_section(data: ReportData) -> HealthSection | None:
    """Class balance and suspected labels of a run; None for one that lists no labelled images."""
    balance = class_balance(data.run, data.tested)
    test, train, images = data.suspected_test_images, data.suspected_training_images, data.images
    errors = None
    if test or train:
        sheet, places = (images.sheet, images.row_of) if images else (None, {})
        errors = LabelErrors(
            tested_says=_tested_says(test) if test else "",
            grid=_grid(test, sheet, places) if test and len(test.suspects.rows) else None,
            trained_says=_trained_says(train) if train else "",
            table=_table(train) if train and len(train.suspects.rows) else None,
            file=FILE if (data.run.folder / FILE).exists() else "",
        )
    return HealthSection(balance, errors) if balance or errors else None


def label_errors_table(data: ReportData) -> tuple[list[str], list[list[Any]]] | None:
    """All suspects as header and rows for a CSV file, test images first; None where none could be looked for."""
    found = [part for part in (data.suspected_test_images, data.suspected_training_images) if part]
    return (HEADER, [row for part in found for row in part.rows()]) if found else None


def write_label_errors(data: ReportData) -> None:
    """Write ``label_errors.csv`` into the folder of a finished study, where labels could be looked at.

    Raises:
        ResourceError: the disk is full or read-only.
    """
    if found := label_errors_table(data):
        write_csv(data.run.folder / FILE, *found)


def _tested_says(found: PartSuspects) -> str:
    s = found.suspects
    rule = (
        f"the {short_name(found.model).lower()} model names another class, at least as sure as on average where it"
        f" names it, most of the {s.neighbours} nearest test images in SimCLR’s features have that class as label, and"
        f" {'at most one has' if s.neighbours >= 16 else 'none has'} the image’s own"
    )
    number = len(s.rows)
    if not number:
        return f"No test label of the {count(len(found.labels))} looked at is suspected: nowhere is it so that {rule}."
    were = "is 1 test image" if number == 1 else f"are {count(number)} test images"
    first = f" The {MOST_CELLS} strongest are shown." if number > MOST_CELLS else ""
    return f"There {were} of {count(len(found.labels))} where {rule}.{first}"


def _trained_says(found: PartSuspects) -> str:
    s = found.suspects
    part = (
        "" if len(found.labels) == found.of else f" {count(len(found.labels))} of them, evenly spaced, were looked at."
    )
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


def _grid(found: PartSuspects, sheet: Sheet | None, places: dict[str, int]) -> Grid:
    s, shown = found.suspects, found.suspects.rows[:MOST_CELLS].tolist()
    said = [
        Words(
            found.index.files[i],
            [
                f"Label: {found.names[found.labels[i]]}",
                f"Perhaps: {found.names[s.suggested[at]]}",
                f"{percent(s.confidence[at], 0)} sure, {s.agreeing[at]} of {s.neighbours} neighbours",
            ],
        )
        for at, i in enumerate(shown)
    ]
    return grid(said, [places.get(found.index.ids[i]) for i in shown], sheet)


def _table(found: PartSuspects) -> Table:
    rows = [
        [file, split, label, suggested, f"{agreeing} of {asked}"]
        for split, _, file, label, suggested, _, agreeing, _, asked in found.rows()[:MOST_CELLS]
    ]
    return Table(["File", "Split", "Label", "Perhaps", "Neighbours"], rows, is_numeric=False)
