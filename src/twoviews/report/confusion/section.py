"""The page's confusion matrices: tables that a screen reader reads and the keyboard reaches, and words beside them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twoviews.report.confusion.classes import ClassRow, Mistake, gains, mistakes
from twoviews.report.confusion.figure import shares
from twoviews.report.model_names import COMPARED, model_name
from twoviews.report.number_words import count, percent, signed
from twoviews.report.pictures import Picture, confusion, confusions
from twoviews.report.run import Run
from twoviews.report.values import items

MOST_CLASSES = 20
"""With more, cells are too small to hold numbers: pictures stand in."""

_LISTED = 12  # pairs of classes named beside pictures, which can't be pressed
_WIDE = 12  # from so many classes on, a table wants the page's whole width

# Upper edges of all steps of colour but the last. Mistakes are rare, so that even steps would make them all look alike.
SHARE_STEPS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)

# The change's scale fits what it shows: its last colour begins at one of these, the others at parts of it.
POINT_ENDS = (5.0, 10.0, 20.0, 25.0, 40.0, 50.0)
_PARTS = (0.2, 0.5, 1.0)
_FEWEST_IMAGES = 2.5  # of a class of usual size: a single image more or less is no strong colour
_STRONG = 0.6  # of the largest change

_WHO = {"supervised": "the baseline", "finetuned": "the fine-tuned model"}


@dataclass(frozen=True)
class MatrixCell:
    """One cell of a matrix.

    Attributes:
        text: number of images, or the change of it; empty where there is none.
        look: its classes: colour ``s1`` to ``s8`` or ``better1`` to ``worse4``, and ``cm-right`` on the diagonal.
        says: the cell in a few words, with the rate.
        here: images of the seed whose pictures the page has, where that is known; of one seed, all of them.
    """

    text: str
    look: str
    says: str
    here: int | None = None


@dataclass(frozen=True)
class Matrix:
    """One table: true classes down, predicted classes across.

    Attributes:
        key: the model in ``results.json``, or ``change``.
        who: the model in a sentence.
        title: the model as a heading.
        says: what it sums up to.
        rows: of each class its name and its cells.
    """

    key: str
    who: str
    title: str
    says: str
    rows: list[tuple[str, list[MatrixCell]]]


@dataclass(frozen=True)
class ConfusionSection:
    """What the page puts in its place.

    Attributes:
        names: of the classes.
        seeds: how many are added up.
        shown: the seed whose pictures the page has, where several are added up.
        tested: its test images, where that is known.
        matrices: of the models compared, where they are shown as tables.
        change: fine-tuned minus baseline, likewise.
        pictures: the same where there are too many classes.
        change_picture: likewise.
        gains: classes that gained and lost most, in words.
        mistakes: pairs of classes that the fine-tuned model mixes up most.
        is_wide: tables are too wide to be shown beside each other.
        share_steps: of the matrices each colour's class and range, in percent of the row.
        better_steps, worse_steps: the same of the change, in points.
        change_unit: what the colours of the change are in, with the worth of one image where that is a point or more.
    """

    names: list[str]
    seeds: int
    shown: str
    tested: int | None
    matrices: list[Matrix]
    change: Matrix | None
    pictures: list[Picture]
    change_picture: Picture | None
    gains: list[str]
    mistakes: list[Mistake]
    is_wide: bool
    share_steps: list[tuple[str, str]]
    better_steps: list[tuple[str, str]]
    worse_steps: list[tuple[str, str]]
    change_unit: str


def confusion_section(run: Run, rows: Sequence[ClassRow]) -> ConfusionSection | None:
    """The confusion matrices of a run's baseline and fine-tuned model; None where it has neither.

    Args:
        run: as `twoviews.report.run.load` read it.
        rows: its classes, as `twoviews.report.confusion.classes.classes` gives them.
    """
    tables = {name: table for name in COMPARED if (table := confusion(run, name)) is not None}
    if not tables:
        return None
    names, seeds = run.class_names, max(1, len(items(run.results.get("seeds"))))
    few = len(names) <= MOST_CLASSES
    here = {name: table if seeds == 1 else _shown_seed(run, name) for name, table in tables.items()}
    matrices = [_matrix(name, table, names, here[name]) for name, table in tables.items() if few]
    pictures, change_picture = ([], None) if few else confusions(run)
    steps, unit = point_steps(*tables.values()) if len(tables) == 2 else ((), "")
    return ConfusionSection(
        names=names,
        seeds=seeds,
        shown=f"seed {run.seeds[0][4:]}" if seeds > 1 and run.seeds else "",
        tested=next((int(table.sum()) for table in here.values() if table is not None), None),
        matrices=matrices,
        change=_change(tables["supervised"], tables["finetuned"], names, steps) if few and steps else None,
        pictures=pictures,
        change_picture=change_picture,
        gains=gains(rows),
        mistakes=mistakes(run, 3 if few else _LISTED, here.get("finetuned")),
        is_wide=len(names) > _WIDE,
        share_steps=_steps("s", [100 * edge for edge in SHARE_STEPS], "–100"),
        better_steps=_steps("better", steps, "+"),
        worse_steps=_steps("worse", steps, "+"),
        change_unit=unit,
    )


def _shown_seed(run: Run, model: str) -> NDArray[np.float64] | None:
    """Of several seeds added up, the matrix of the one whose pictures the page has."""
    stage = run.stages.get("test")
    return None if stage is None else confusion(run, model, stage.results)


def _matrix(model: str, table: NDArray[np.float64], names: list[str], here: NDArray[np.float64] | None) -> Matrix:
    """A model's own matrix, coloured by the share of the row."""
    share, totals = shares(table), table.sum(axis=1)
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, called in enumerate(names):
            known = None if here is None else int(here[i, j])
            if not table[i, j]:
                cells.append(MatrixCell("", "", "", known))
                continue
            says = f"{_pair(name, called, i == j)}: {count(table[i, j])} of {count(totals[i])}, {percent(share[i, j])}"
            look = f"s{1 + int(np.searchsorted(SHARE_STEPS, share[i, j], side='right'))}"
            cells.append(MatrixCell(count(table[i, j]), _look(look, i == j), says, known))
        rows.append((name, cells))
    right, images = float(np.trace(table)), float(table.sum())
    says = f"{count(right)} of {count(images)} right, {percent(right / images if images else None)}"
    return Matrix(model, _WHO[model], model_name(model), says, rows)


def point_steps(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[tuple[float, ...], str]:
    """Upper edges of the change's colours but the last, in points of the row, and what they are in, in words.

    The last colour begins at 5 points or more: near the largest change, and above what two images of a class of usual
    size are worth, so that few test images don't paint everything dark.
    """
    points, sizes = 100 * np.abs(shares(after) - shares(before)), before.sum(axis=1)
    usual = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else np.inf
    needed = 100 * _FEWEST_IMAGES / usual
    fitting = max((end for end in POINT_ENDS if end <= _STRONG * float(points.max())), default=0.0)
    coarse = min((end for end in POINT_ENDS if end >= needed), default=POINT_ENDS[-1])
    end, worth = max(fitting, coarse), 100 / usual
    unit = "Points of the row" + (f" (one image is about {worth:.2g})" if worth >= 1 else "")
    return tuple(part * end for part in _PARTS), unit


def _change(
    before: NDArray[np.float64], after: NDArray[np.float64], names: list[str], steps: Sequence[float]
) -> Matrix:
    """Fine-tuned minus baseline in images, coloured by better or worse and by points of the row."""
    # Rounded, so that a change of exactly a step's edge is never just below it.
    points, moved = np.round(100 * (shares(after) - shares(before)), 9), after - before
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, called in enumerate(names):
            if not before[i, j] and not after[i, j]:
                cells.append(MatrixCell("", "", ""))
                continue
            is_better = (moved[i, j] > 0) == (i == j)
            verdict = ("better" if is_better else "worse") if moved[i, j] else ""
            says = f"{_pair(name, called, i == j)}: {count(before[i, j])} → {count(after[i, j])},"
            says += f" {signed(points[i, j])} points" + (f", {verdict}" if verdict else "")
            step = 1 + int(np.searchsorted(steps, abs(points[i, j]), side="right"))
            look = f"{verdict}{step}" if verdict else ""
            cells.append(MatrixCell(_signed(moved[i, j]), _look(look, i == j), says))
        rows.append((name, cells))
    return Matrix("change", "", "Fine-tuned minus baseline", f"{_signed(np.trace(moved))} images right", rows)


def _look(step: str, is_right: bool) -> str:
    return f"{step} cm-right".strip() if is_right else step


def _pair(true: str, called: str, is_right: bool) -> str:
    return f"{true}, right" if is_right else f"{true} called {called}"


def _signed(images: float) -> str:
    """A difference of images with its sign and thousands apart: −1,204."""
    return f"{images:+,.0f}".replace("-", "−") if images else "0"


def _steps(look: str, edges: Sequence[float], last: str) -> list[tuple[str, str]]:
    """Class and range of each colour: 0–2, 2–5, … and the last one from its edge on."""
    ends = [f"{edge:g}" for edge in (0, *edges)]
    ranges = [f"{low}–{high}" for low, high in itertools.pairwise(ends)] + [ends[-1] + last]
    return [(f"{look}{i + 1}", text) for i, text in enumerate(ranges)]
