"""The sprite sheet that a test stage left, as the page carries it: once, for all maps."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twoviews.files import read_json
from twoviews.report.values import items, number


@dataclass(frozen=True)
class Sheet:
    """Small pictures in one image.

    Attributes:
        webp: the sheet's bytes.
        size: width and height of a picture, pixels.
        columns: pictures in a line.
        places: of each image its place, counted line by line; −1 for one without a picture.
    """

    webp: bytes
    size: int
    columns: int
    places: NDArray[np.int64]

    def pictures(self) -> Iterator[NDArray[np.uint8] | None]:
        """The picture of each image in turn, ``size``×``size``×3, RGB; None where there is none.

        Raises:
            OSError, ValueError: the sheet is damaged.
        """
        with Image.open(io.BytesIO(self.webp), formats=["WEBP"]) as image:
            whole = np.asarray(image.convert("RGB"))
        size = self.size
        for place in self.places.tolist():
            down, right = divmod(place, self.columns)
            cut = whole[down * size : (down + 1) * size, right * size : (right + 1) * size]
            yield cut if place >= 0 else None

    def take(self, rows: NDArray[np.int64]) -> Sheet:
        """The same sheet, of whose pictures these images' alone are of interest."""
        return replace(self, places=self.places[rows])

    def part(self, rows: NDArray[np.int64]) -> Sheet:
        """A sheet of these images alone."""
        size, columns = self.size, max(1, round(len(rows) ** 0.5))
        cut = np.zeros((-(-len(rows) // columns) * size, columns * size, 3), dtype=np.uint8)
        for new, picture in enumerate(self.take(rows).pictures()):
            if picture is not None:
                y, x = divmod(new, columns)
                cut[y * size : (y + 1) * size, x * size : (x + 1) * size] = picture
        stream = io.BytesIO()
        Image.fromarray(cut).save(stream, "WEBP", quality=80)
        places = np.where(self.places[rows] >= 0, np.arange(len(rows)), -1)
        return Sheet(stream.getvalue(), size, columns, places)


def picture_id(split: str, number: int | str) -> int | str:
    """What ``thumbnails.json`` calls an image of ``index.csv``: ids are counted in each split anew."""
    return number if split == "test" else f"{split}/{_plain(number)}"


def read_sheet(folder: Path, ids: Sequence[int | str], problems: list[str]) -> Sheet | None:
    """The sheet of ``thumbnails.webp`` and ``thumbnails.json``; None where it is missing or doesn't fit.

    Args:
        folder: of the test stage.
        ids: of the images on the maps; test images' as ``index.csv`` has them, others' by `picture_id`.
        problems: what can't be read is noted here.
    """
    try:
        about = read_json(folder / "thumbnails.json")
        webp = (folder / "thumbnails.webp").read_bytes()
        size, columns = (int(number(about[key]) or 0) for key in ("size", "columns"))
        with Image.open(io.BytesIO(webp), formats=["WEBP"]) as image:
            width, height = image.size
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, Image.DecompressionBombError) as error:
        problems.append(f"test/thumbnails.webp can't be read ({error})")
        return None
    if size < 1 or columns < 1 or columns * size > width:
        problems.append("test/thumbnails.webp and test/thumbnails.json don't fit together")
        return None
    known = {_plain(one): place for place, one in enumerate(items(about.get("ids")))}
    room = columns * (height // size)
    places = np.array([known.get(_plain(one), -1) for one in ids], dtype=np.int64)
    return Sheet(webp, size, columns, np.where(places < room, places, -1))


def _plain(name: object) -> str:
    """An id as both files write it: 7 and "000007" are the same image."""
    text = str(name)
    return str(int(text)) if text.isdecimal() else text
