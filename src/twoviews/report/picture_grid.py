"""A few test images as a grid: one small sheet of pictures, cut from the run's, and words under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twoviews.report.explore.sheet import Sheet
from twoviews.report.pictures import data_uri
from twoviews.report.style import short

MOST_CELLS = 24
_LONGEST_NAME = 36


@dataclass(frozen=True)
class Words:
    """What is said of one image.

    Attributes:
        file: its full name.
        lines: short lines under the picture.
    """

    file: str
    lines: list[str]


@dataclass(frozen=True)
class GridImage:
    """One image of a grid.

    Attributes:
        file: its full name.
        name: the name, shortened to fit.
        lines: what is said of it.
        position: where its picture is on the sheet, as CSS wants it; empty for one without a picture.
    """

    file: str
    name: str
    lines: list[str]
    position: str


@dataclass(frozen=True)
class Grid:
    """What the template draws.

    Attributes:
        cells: the images.
        src: the sheet as a data URI; empty without pictures.
        size: of the sheet, as CSS wants it: how many times as wide and as high as one picture.
        is_small: whether pixels should be seen as such when pictures are made larger.
    """

    cells: list[GridImage]
    src: str
    size: str
    is_small: bool


def grid(said: Sequence[Words], rows: Sequence[int | None], sheet: Sheet | None) -> Grid:
    """A grid of images.

    Args:
        said: what is said of each.
        rows: of each its row of the sheet's ``places``, or None.
        sheet: the run's pictures, or None.
    """
    known = [i for i, row in enumerate(rows) if row is not None and sheet is not None and sheet.places[row] >= 0]
    part = sheet.part(np.array([rows[i] for i in known], dtype=np.int64)) if sheet is not None and known else None
    positions = [""] * len(said)
    across, down = (part.columns, -(-len(known) // part.columns)) if part else (1, 1)
    for i, place in zip(known, part.places.tolist() if part else [], strict=True):
        y, x = divmod(place, across)
        # In percent of what the sheet is larger than the cell.
        positions[i] = f"{100 * x / max(across - 1, 1):.4g}% {100 * y / max(down - 1, 1):.4g}%"
    cells = [
        GridImage(one.file, short(one.file, _LONGEST_NAME), one.lines, at)
        for one, at in zip(said, positions, strict=True)
    ]
    return Grid(
        cells=cells,
        src=data_uri(part.webp, "webp") if part else "",
        size=f"{100 * across}% {100 * down}%",
        is_small=bool(part and part.size < 64),
    )
