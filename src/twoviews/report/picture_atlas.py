"""Many small pictures in one, for places that show some images several times: each is in the page once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from twoviews.report.explore.sheet import Sheet
from twoviews.report.pictures import data_uri

EDGE = 1
"""Pixels around each picture that repeat its rim, so that none shines into its neighbour when drawn larger."""

QUALITIES = (80, 65, 50)
"""Of WebP, the first that fits; below the last, pictures of 48 pixels are hard to judge."""


@dataclass(frozen=True)
class Atlas:
    """Pictures on a grid.

    Attributes:
        src: the whole as a data URI.
        size: width and height of a picture, pixels.
        step: from one picture to the next, pixels.
        columns, lines: of the grid.
        places: of an image's row the column and line of its picture.
    """

    src: str
    size: int
    step: int
    columns: int
    lines: int
    places: dict[int, tuple[int, int]]


def atlas(sheet: Sheet, rows: Sequence[int], most_bytes: int) -> Atlas | None:
    """The pictures of these images, each once; None where there are none or they don't fit.

    Args:
        sheet: the run's pictures.
        rows: of the sheet's ``places``; those without a picture are left out.
        most_bytes: of the data URI; quality is lowered as far as that needs, within `QUALITIES`.
    """
    known = sorted({row for row in rows if sheet.places[row] >= 0})
    if not known:
        return None
    size, step = sheet.size, sheet.size + 2 * EDGE
    columns = max(1, round(len(known) ** 0.5))
    lines = -(-len(known) // columns)
    grid = np.zeros((lines * step, columns * step, 3), dtype=np.uint8)
    places = {}
    rim = ((EDGE, EDGE), (EDGE, EDGE), (0, 0))
    for new, (row, picture) in enumerate(zip(known, sheet.take(np.array(known)).pictures(), strict=True)):
        assert picture is not None
        y, x = divmod(new, columns)
        grid[y * step : (y + 1) * step, x * step : (x + 1) * step] = np.pad(picture, rim, mode="edge")
        places[row] = (x, y)
    for quality in QUALITIES:
        stream = io.BytesIO()
        Image.fromarray(grid).save(stream, "WEBP", quality=quality)
        src = data_uri(stream.getvalue(), "webp")
        if len(src) <= most_bytes:
            return Atlas(src, size, step, columns, lines, places)
    return None
