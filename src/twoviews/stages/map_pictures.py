"""Single pictures out of a run's sprite sheet."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from twoviews.report.explore.sheet import Sheet


def pictures(sheet: Sheet) -> Iterator[Image.Image | None]:
    """The picture of each image in turn, RGB, ``sheet.size`` pixels each way; None where there is none."""
    with Image.open(io.BytesIO(sheet.webp), formats=["WEBP"]) as image:
        whole = image.convert("RGB")
    for place in sheet.places.tolist():
        down, right = divmod(place, sheet.columns)
        left, top = right * sheet.size, down * sheet.size
        yield whole.crop((left, top, left + sheet.size, top + sheet.size)) if place >= 0 else None
