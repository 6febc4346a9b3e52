"""The speed of an epoch, over all the starts that it took."""

from __future__ import annotations

import time

from twoviews.dataset.batches import Batches


class Pace:
    """Counts an epoch's seconds and those of them spent waiting for images.

    Args:
        batches: what the epoch reads.
        seconds, waited: of the epoch's part that was trained before this process began.
    """

    def __init__(self, batches: Batches, seconds: float = 0.0, waited: float = 0.0) -> None:
        self._batches = batches
        self._started = time.monotonic() - seconds
        self._waited = batches.waited_seconds - waited

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return max(time.monotonic() - self._started, 1e-9)

    @property
    def waited(self) -> float:
        """Seconds of them in which training waited for images."""
        return self._batches.waited_seconds - self._waited

    def figures(self, images: int) -> dict[str, float]:
        """A row of timing.jsonl, after this many images of the epoch."""
        seconds = self.seconds
        return {
            "seconds": seconds,
            "images_per_second": images / seconds,
            "data_wait": min(1.0, self.waited / seconds),
        }
