"""When a training saves a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

# Between two saves at ends of epochs: with few labels an epoch is a step, and flushing files would take longer.
EPOCH_SECONDS = 10.0
SAVE_PAUSE = 50.0  # times as long as a save takes: on a GPU epochs are short, and weights large


class SaveTimes:
    """When to save a checkpoint: ``seconds`` after the last one; at the end of an epoch sooner, if saving is short."""

    def __init__(self, seconds: float) -> None:
        self._wait = seconds
        self._last, self._took = time.monotonic(), 0.0

    def is_due(self, at_end_of_epoch: bool) -> bool:
        """Whether it is time for one."""
        sooner = min(self._wait, max(EPOCH_SECONDS, SAVE_PAUSE * self._took))
        return time.monotonic() - self._last > (sooner if at_end_of_epoch else self._wait)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around a save."""
        started = time.monotonic()
        yield
        self._last = time.monotonic()
        self._took = self._last - started
