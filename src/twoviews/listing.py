"""Lists that are cut short where they are said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def first_few(items: Sequence[T], most: int) -> tuple[list[T], int]:
    """The first ``most`` of a list, and how many more there are; never 1, which would take the place of that one."""
    shown = len(items) if len(items) <= most + 1 else most
    return list(items[:shown]), len(items) - shown
