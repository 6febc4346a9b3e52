"""Which of many are taken, where not all can be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def evenly_spaced(length: int, most: int) -> npt.NDArray[np.int64]:
    """At most ``most`` of the positions 0, ..., length - 1, spread evenly; all of them where they are fewer."""
    count = min(length, most)
    return np.arange(count, dtype=np.int64) * length // max(count, 1)
