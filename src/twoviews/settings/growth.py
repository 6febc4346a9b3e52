"""How views grow as a training goes on: for training itself, and for what is said of it afterwards."""

from __future__ import annotations

_STEP = 4  # pixels: every new size costs the first step at it some set-up


def progress_at(epoch: int, epochs: int) -> float:
    """From 0 in the first epoch (number 0) to 1 in the last; a single epoch is the last one."""
    return epoch / (epochs - 1) if epochs > 1 else 1.0


def grown_size(first: int, last: int, progress: float) -> int:
    """Height and width of views that grow from ``first`` to ``last`` pixels, in steps of 4 between them."""
    if progress <= 0 or progress >= 1:
        return first if progress <= 0 else last
    between = round((first + (last - first) * progress) / _STEP) * _STEP
    return min(last, max(first, between))
