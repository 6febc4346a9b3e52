"""The hardest test images: those that every model gets wrong, and is surest of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twoviews.report.explore.sheet import Sheet
from twoviews.report.model_names import COMPARED, short_name
from twoviews.report.number_words import count, percent
from twoviews.report.picture_grid import MOST_CELLS, Grid, Words, grid
from twoviews.report.tested import UNTRAINED, Tested


@dataclass(frozen=True)
class Hardest:
    """What the page says of them.

    Attributes:
        says: how many there are, in a sentence.
        grid: the first of them.
    """

    says: str
    grid: Grid


def hardest(tested: Tested, sheet: Sheet | None, rows: dict[str, int]) -> Hardest | None:
    """The images that all trained models get wrong; None where there are none.

    Args:
        tested: the answers.
        sheet: small pictures, or None.
        rows: of each image's id its row of the sheet.
    """
    models = [name for name in tested.models if name != UNTRAINED] or list(tested.models)
    found = hardest_rows(tested, models)
    if not len(found):
        return None
    shown = found[:MOST_CELLS].tolist()
    # The two that the page compares speak under each picture; where a run has neither, its first two.
    speaking: list[str] = [name for name in reversed(COMPARED) if name in models] or models[:2]
    said = [Words(tested.files[i], _lines(tested, i, speaking)) for i in shown]
    who = f"All {len(models)} trained models get" if len(models) > 1 else f"{short_name(models[0])} gets"
    each = f"{who} {count(len(found))} of {count(len(tested.files))} test images wrong"
    first = f" Here are the {len(shown)} that they are surest of" if len(shown) < len(found) else " Here they are"
    surest = ", by the mean confidence of their wrong answers, surest first." if len(found) > 1 else "."
    return Hardest(each + "." + first + surest, grid(said, [rows.get(tested.ids[i]) for i in shown], sheet))


def hardest_rows(tested: Tested, models: list[str]) -> NDArray[np.int64]:
    """Rows of the images that all these models get wrong, those first that they are surest of on average.

    predictions.csv doesn't hold the probability of the true class, so confidence in the wrong one orders them.
    """
    wrong = tested.labels >= 0
    for name in models:
        predicted = tested.models[name].predicted
        wrong = wrong & (predicted >= 0) & (predicted != tested.labels)
    sure = np.mean([np.nan_to_num(tested.models[name].confidence) for name in models], axis=0)
    found = np.flatnonzero(wrong)
    return found[np.argsort(-sure[found], kind="stable")]


def _lines(tested: Tested, row: int, models: list[str]) -> list[str]:
    """The label, then what each of these models says instead."""
    lines = [f"Label: {tested.class_names[tested.labels[row]]}"]
    for name in models:
        answers = tested.models[name]
        said = tested.class_names[answers.predicted[row]]
        lines.append(f"{short_name(name)}: {said}\N{NO-BREAK SPACE}{percent(answers.confidence[row], 0)}")
    return lines
