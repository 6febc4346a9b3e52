"""Which of many are taken, where not all can be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt


def evenly_spaced(length: int, most: int) -> npt.NDArray[np.int64]:
    """At most ``most`` of the positions 0, ..., length - 1, spread evenly; all of them where they are fewer."""
    count = min(length, most)
    return np.arange(count, dtype=np.int64) * length // max(count, 1)


def evenly_spaced_parts(lengths: Sequence[int], most: int) -> list[npt.NDArray[np.int64]]:
    """The same of several parts in a row: positions in each of them, at most ``most`` in all."""
    taken = evenly_spaced(sum(lengths), most)
    ends = np.cumsum([0, *lengths])
    return [taken[(taken >= begin) & (taken < end)] - begin for begin, end in pairwise(ends)]
