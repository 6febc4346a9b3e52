"""What changes class by class between the baseline and the fine-tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twoviews.report.model_names import COMPARED
from twoviews.report.number_words import NONE, count, joined, percent, signed
from twoviews.report.pictures import confusion
from twoviews.report.run import Run
from twoviews.report.tables import Table
from twoviews.report.values import dig, items, number

_MOST_CLASSES = 60


@dataclass(frozen=True)
class ClassRow:
    """One class of both models: precision, recall and F1, and how many of its images each got right."""

    name: str
    images: float
    before: tuple[float | None, float | None, float | None]
    after: tuple[float | None, float | None, float | None]
    right_before: float | None
    right_after: float | None

    @property
    def gain(self) -> float:
        """Change of recall, in points."""
        return 100 * ((self.after[1] or 0) - (self.before[1] or 0))


def classes(run: Run) -> list[ClassRow]:
    """Every class with the figures of the baseline and the fine-tuned model; none unless both are known."""
    before, after = (_per_class(run, model) for model in COMPARED)
    rows = []
    for name in run.class_names:
        if name not in before or name not in after:
            continue
        (old, images, right_old), (new, _, right_new) = before[name], after[name]
        rows.append(ClassRow(name, images, old, new, right_old, right_new))
    return rows


_PerClass = tuple[tuple[float | None, float | None, float | None], float, float | None]


def _per_class(run: Run, model: str) -> dict[str, _PerClass]:
    """Precision, recall, F1, images and right ones of each class, as recorded or from the confusions."""
    table = confusion(run, model)
    found: dict[str, _PerClass] = {}
    if table is not None:
        right, truly, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
        for i, name in enumerate(run.class_names):
            figures = tuple(float(right[i] / n) if n else None for n in (said[i], truly[i], (said[i] + truly[i]) / 2))
            found[name] = (figures[0], figures[1], figures[2]), float(truly[i]), float(right[i])
    for row in items(dig(run.results, "models", model, "per_class")):
        name, images = str(dig(row, "class")), number(dig(row, "images")) or 0.0
        precision, recall, f1 = (number(dig(row, key)) for key in ("precision", "recall", "f1"))
        found[name] = (precision, recall, f1), images, found[name][2] if name in found else None
    return found


def class_table(rows: Sequence[ClassRow]) -> Table | None:
    """The per-class table; of very many classes, those that changed most."""
    if not rows:
        return None
    caption = "Baseline → fine-tuned, in percent; the change in points."
    shown = list(rows)
    if len(rows) > _MOST_CLASSES:
        ordered = sorted(rows, key=lambda row: -row.gain)
        shown = ordered[:20] + ordered[-20:]
        caption += f" Of {len(rows):,} classes, the 20 that gained most and the 20 that lost most;"
        caption += " all are in test/per_class.csv."
    header = ["Class", "Images", "Precision", "Recall", "F1", "Change of recall"]
    cells = []
    for row in shown:
        pairs = [f"{_bare(old)} → {_bare(new)}" for old, new in zip(row.before, row.after, strict=True)]
        cells.append([row.name, count(row.images), *pairs, signed(row.gain) if row.images else NONE])
    return Table(header, cells, caption)


def _bare(value: float | None) -> str:
    return NONE if value is None else percent(value)[:-1]


def gains(rows: Sequence[ClassRow]) -> list[str]:
    """The classes that gained and lost most, in words."""
    ordered = sorted(rows, key=lambda row: -row.gain)
    up, down = (
        [row for row in ordered if row.gain > 0][:3],
        [row for row in ordered[::-1] if row.gain < 0][:3],
    )
    said = []
    for title, chosen in (("Gained most: ", up), ("Lost most: ", down)):
        parts = [f"{row.name} {signed(row.gain)} points{_images(row)}" for row in chosen]
        if parts:
            said.append(title + joined(parts) + ".")
    if rows and not down:
        said.append("No class lost recall.")
    if rows and not up:
        said.append("No class gained recall.")
    return said


def _images(row: ClassRow) -> str:
    if row.right_before is None or row.right_after is None:
        return ""
    return f" ({row.right_before:,.0f} → {row.right_after:,.0f} of {row.images:,.0f} right)"


@dataclass(frozen=True)
class Mistake:
    """Images of one class that the fine-tuned model takes for another.

    Attributes:
        says: both classes and how many images, in words.
        true: number of their class.
        called: number of the class that they are taken for.
        images: how many.
        here: how many of them the seed has whose pictures are shown, where that is known.
    """

    says: str
    true: int
    called: int
    images: int
    here: int | None = None


def mistakes(run: Run, most: int = 3, here: NDArray[np.float64] | None = None) -> list[Mistake]:
    """The pairs of classes that the fine-tuned model mixes up most, beside the baseline's numbers.

    Args:
        most: how many pairs at most.
        here: the fine-tuned model's confusion matrix of the seed whose pictures are shown.
    """
    before, after = (confusion(run, model) for model in COMPARED)
    if after is None:
        return []
    off = after - np.diag(np.diag(after))
    names = run.class_names
    said: list[Mistake] = []
    for place in np.argsort(-off, axis=None, kind="stable")[:most]:
        true, predicted = divmod(int(place), len(names))
        if off[true, predicted] > 0:
            was = f", baseline {before[true, predicted]:,.0f}" if before is not None else ""
            says = f"{names[true]} taken for {names[predicted]}: {off[true, predicted]:,.0f} images{was}"
            known = None if here is None else int(here[true, predicted])
            said.append(Mistake(says, true, predicted, int(off[true, predicted]), known))
    return said
