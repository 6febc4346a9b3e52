"""Copies of held-out images as pairs of pictures, from the sheet that a run leaves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from twoviews.report.number_words import count
from twoviews.report.pictures import Picture, data_uri
from twoviews.report.run import Run
from twoviews.report.values import dig, items, number

GAP = 4  # pixels between the two, before the pair is made larger
SMALLEST = 96  # pixels; smaller pictures are made larger by whole factors, so that their pixels can be seen
_MOST_PAIRS = 100


def leak_pairs(run: Run) -> list[Picture]:
    """Each pair that data.json says is on leaks.webp: the training side's image, and the held-out one."""
    leaks = items(run.data.get("leaks"))
    size, shown = number(dig(run.data, "leak_pictures", "size")), items(dig(run.data, "leak_pictures", "leaks"))
    places = [i for i in shown[:_MOST_PAIRS] if isinstance(i, int) and 0 <= i < len(leaks)]
    sheet = _sheet(run.folder / "leaks.webp", run.problems) if size and places else None
    if sheet is None or not size:
        return []
    side = int(size)
    if sheet.size != (2 * side, len(places) * side) or len(places) != len(shown):
        run.problems.append("leaks.webp and data.json don't fit together")
        return []
    return [_pair(sheet, row, side, leaks[place]) for row, place in enumerate(places)]


def _sheet(path: Path, problems: list[str]) -> Image.Image | None:
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            image.load()
            return image.convert("RGB")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        problems.append(f"{path.name} can't be read ({error})")
        return None


def _pair(sheet: Image.Image, row: int, side: int, leak: Any) -> Picture:
    """Both pictures of a row beside each other."""
    factor = max(1, SMALLEST // side)
    large = (side * factor, side * factor)
    pair = Image.new("RGB", (2 * large[0] + GAP, large[1]), "white")
    for column in range(2):
        left, top = column * side, row * side
        one = sheet.crop((left, top, left + side, top + side)).resize(large, Image.Resampling.NEAREST)
        pair.paste(one, (column * (large[0] + GAP), 0))
    stream = io.BytesIO()
    pair.save(stream, format="WEBP", quality=85)
    said = leak if isinstance(leak, Mapping) else {}
    names = f"{said.get('file', '')} and {said.get('copy_of_split', '')} image {said.get('copy_of', '')}"
    return Picture(data_uri(stream.getvalue(), "webp"), f"Two pictures: {names}.", _title(said))


def _title(leak: Mapping[str, Any]) -> str:
    similarity = number(leak.get("similarity"))
    kind = "exact copy" if leak.get("kind") != "near" else "near copy"
    alike = f", similarity {similarity:.3f}" if similarity is not None and kind == "near copy" else ""
    return f"{leak.get('file', '')} | {leak.get('copy_of', '')}: {kind}{alike}"


def exact_copies_sentence(run: Run) -> str:
    """What became of exact copies; nothing where results.json has no such figure. Notes speak of near ones."""
    removed = number(dig(run.results, "data", "leaks_removed"))
    if removed is None:
        return ""
    leaks = [leak for leak in items(run.data.get("leaks")) if isinstance(leak, Mapping)]
    found = removed or sum(leak.get("kind", "exact") == "exact" for leak in leaks)
    if not found:
        return "No training image is an exact copy of a validation or test image."
    copies, were = ("copy", "was") if found == 1 else ("copies", "were")
    what = "taken out of the training images" if removed else "found in the training images and left there"
    return f"{count(found)} exact {copies} of validation or test images {were} {what}."
