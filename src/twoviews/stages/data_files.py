"""What a run says about its images: data.json, lists of what was left out or copied, and pictures of copies."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twoviews.dataset.copies import Leak
from twoviews.dataset.images import Pixels
from twoviews.dataset.splits import Splits
from twoviews.files import write_bytes, write_csv, write_json
from twoviews.spacing import evenly_spaced

SHOWN_PAIRS, SHOWN_NEAR = 24, 18  # in the report; near copies are what a person has to judge
PICTURE = 96  # pixels, at most
LEAK_COLUMNS = ("split", "file", "copy_of_split", "copy_of", "kind", "similarity")
CONFLICT_COLUMNS = ("split", "file", "label", "other_split", "other_file", "other_label", "kind", "similarity")
SKIPPED_COLUMNS = ("path", "reason", "bytes")


def data_results(splits: Splits, *, keep_leaks: bool, drop_near: bool) -> dict[str, Any]:
    """The ``data`` part of results.json."""
    near = sum(leak.kind == "near" for leak in splits.leaks)
    return {
        "name": splits.name,
        "classes": list(splits.class_names),
        "counts": splits.counts,
        "leaks_removed": 0 if keep_leaks else len(splits.leaks) - near,
        "near_copies": near,
        "near_copies_removed": near if drop_near else 0,
        "test_copies_pretrained_on": sum(
            leak.split == "unlabeled" and leak.copy_of_split == "test"
            for leak in splits.leaks
            if (keep_leaks if leak.kind == "exact" else not drop_near)
        ),
        "label_conflicts": len(splits.conflicts),
        "blank_images": splits.blank,
        "skipped": len(splits.skipped),
    }


def write_data(folder: Path, splits: Splits) -> None:
    """Write data.json for the report, the lists that aren't empty, and leaks.webp with pairs of pictures."""
    shown = _shown(splits.leaks)
    size = min(PICTURE, splits.unlabeled.image_size)
    if shown:
        write_bytes(folder / "leaks.webp", _sheet(splits, [splits.leaks[i] for i in shown], size))
    write_lists(folder, splits, empty=False)
    write_json(
        folder / "data.json",
        {
            "notes": splits.notes,
            "leaks": _rows(splits.leaks, LEAK_COLUMNS),
            "leak_pictures": {"size": size, "leaks": shown},
            "conflicts": _rows(splits.conflicts, CONFLICT_COLUMNS),
            "skipped": _rows(splits.skipped, SKIPPED_COLUMNS),
        },
    )


def write_lists(folder: Path, splits: Splits, *, empty: bool) -> None:
    """Write skipped.csv, leaks.csv and conflicts.csv; where there is nothing to list, only with ``empty``."""
    lists: list[tuple[str, Sequence[Any], tuple[str, ...]]] = [
        ("skipped.csv", splits.skipped, SKIPPED_COLUMNS),
        ("leaks.csv", splits.leaks, LEAK_COLUMNS),
        ("conflicts.csv", splits.conflicts, CONFLICT_COLUMNS),
    ]
    for name, items, columns in lists:
        if items or empty:
            write_csv(folder / name, columns, [list(row.values()) for row in _rows(items, columns)])


def _rows(items: Sequence[Any], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """These fields of each; similarities to four places."""
    rows = []
    for item in items:
        found = asdict(item)
        rows.append({key: round(found[key], 4) if key == "similarity" else found[key] for key in columns})
    return rows


def _shown(leaks: Sequence[Leak]) -> list[int]:
    """Which leaks to show: near ones from the least to the most similar, then exact ones, spread over the list."""
    near = sorted((i for i, leak in enumerate(leaks) if leak.kind == "near"), key=lambda i: leaks[i].similarity)
    exact = [i for i, leak in enumerate(leaks) if leak.kind == "exact"]
    most_near = max(SHOWN_NEAR, SHOWN_PAIRS - len(exact))
    chosen = [near[i] for i in evenly_spaced(len(near), most_near)]
    return chosen + [exact[i] for i in evenly_spaced(len(exact), SHOWN_PAIRS - len(chosen))]


def _sheet(splits: Splits, leaks: Sequence[Leak], size: int) -> bytes:
    """A pair a row: the image of the training side, and the held-out one."""
    sheet = Image.new("RGB", (2 * size, len(leaks) * size))
    for row, leak in enumerate(leaks):
        pair = (splits.pixels_of(leak.split)[leak.row], splits.pixels_of(leak.copy_of_split)[leak.copy_of_row])
        for column, pixels in enumerate(pair):
            sheet.paste(_picture(pixels, size), (column * size, row * size))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def _picture(pixels: Pixels, size: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return picture if picture.width == size else picture.resize((size, size), Image.Resampling.LANCZOS)
