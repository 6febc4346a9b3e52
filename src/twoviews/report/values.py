"""Values out of ``results.json``, read with forgiveness: None or nothing where one is missing or of another kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def dig(value: Any, *keys: str) -> Any:
    """What lies under these keys, or None where a level is missing or of another kind."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def items(value: Any) -> list[Any]:
    """A list as it is; nothing where there is no list."""
    return list(value) if isinstance(value, (list, tuple)) else []


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def pair(value: Any) -> tuple[float, float] | None:
    """The two ends of an interval, or None."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)
