"""Numbers of ``metrics.jsonl`` as the lines of a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twoviews.report.values import number

Rows = Sequence[Mapping[str, Any]]
Line = tuple[list[float], list[float | None]]

DIGITS = 6  # of each number: more than any screen shows, at half the bytes


def line(rows: Rows, key: str, scale: float = 1.0, most: int | None = None) -> Line:
    """Epochs and values of a key.

    An epoch without the key was not measured and has no point; one whose value is no number has None, a gap.

    Args:
        scale: what values are multiplied by.
        most: with more points than that, so many evenly spaced ones, the first and the last among them.
    """
    there = [row for row in rows if key in row and number(row.get("epoch")) is not None]
    if most is not None and len(there) > most:
        there = [there[i] for i in np.linspace(0, len(there) - 1, most).round().astype(int)]
    values = [number(row[key]) for row in there]
    return [short(row["epoch"]) for row in there], [None if y is None else short(y * scale) for y in values]


def short(value: float) -> float:
    """The number with `DIGITS` digits; whole ones as such, so that they are written without a point."""
    kept = float(f"{value:.{DIGITS}g}")
    return int(kept) if kept.is_integer() and abs(kept) < 1e9 else kept


class Places:
    """Lists of places along the axis, each kept once: most lines of a chart are measured at the same epochs."""

    def __init__(self) -> None:
        self.all: list[list[float]] = []

    def of(self, x: list[float]) -> int:
        """Number of this list."""
        if x not in self.all:
            self.all.append(x)
        return self.all.index(x)
