"""What each figure shows, as the rows of its CSV file: the numbers as they were measured, named as elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from twoviews.report.figure_files import Plotted
from twoviews.report.figures import PRETRAINING_PANELS
from twoviews.report.values import dig, number, pair

CLASSIFIER_KEYS = ("train_loss", "val_loss", "train_top1", "val_top1")
PRETRAINING_KEYS = tuple(key for keys, _, _ in PRETRAINING_PANELS.values() for key in keys)


def curve_data(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Plotted:
    """An epoch a row, with those of the keys of ``metrics.jsonl`` that were measured at all."""
    kept = [key for key in keys if any(number(row.get(key)) is not None for row in rows)]
    return Plotted(["epoch", *kept], [[row.get("epoch", ""), *(cell(row.get(key)) for key in kept)] for row in rows])


def matrix_data(values: ArrayLike, class_names: Sequence[str]) -> Plotted:
    """A C×C matrix: a true class a row, a predicted class a column; fractions with four digits."""
    table = np.asarray(values)
    shown = [[f"{x:.4f}" for x in row] for row in table] if table.dtype.kind == "f" else table.tolist()
    return Plotted(["true class", *class_names], [[name, *row] for name, row in zip(class_names, shown, strict=True)])


def map_data(points: ArrayLike, labels: ArrayLike, class_names: Sequence[str], **more: Iterable[Any]) -> Plotted:
    """An image a row: what ``more`` says of it, such as its ``id``; then its class and its place on the map.

    Args:
        points: N×2.
        labels: N class numbers; the class of -1 is empty.
        more: N cells each, by the name of their column.
    """
    places, groups = np.asarray(points, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    names = [class_names[group] if group >= 0 else "" for group in groups]
    texts = [[f"{x:.6g}" if np.isfinite(x) else "" for x in place] for place in places]
    rows = [[*about, name, *xy] for *about, name, xy in zip(*more.values(), names, texts, strict=True)]
    return Plotted([*more, "class", "x", "y"], rows)


def dots_data(models: Mapping[str, Mapping[str, Any]]) -> Plotted:
    """A model a row: test accuracy with its interval, and that of each seed, as fractions."""
    rows = []
    for name, row in models.items():
        top1 = number(row.get("test_top1"))
        if top1 is not None:
            each = [str(value) for value in dig(row, "per_seed") or [] if number(value) is not None]
            rows.append([name, top1, *(pair(row.get("ci95")) or ("", "")), " ".join(each)])
    return Plotted(["model", "test_top1", "ci95_low", "ci95_high", "per_seed"], rows)


def cell(value: Any) -> Any:
    """A number as it is; what isn't a finite number is empty."""
    return "" if number(value) is None else value
