"""The batches of a training, one ahead of it, with steps left out; it can be sent back."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator

from twoviews.dataset.batches import Fetched
from twoviews.trainers.engine import Engine
from twoviews.trainers.task import Task, shares


class Feed:
    """This process's part of the batch of each step.

    Args:
        task: whose images.
        size: of the batch, over all processes.
        steps: of the whole training.
        seed: the order follows from it.
        engine: which process this is.
    """

    def __init__(self, task: Task, size: int, steps: int, seed: int, engine: Engine) -> None:
        self._task, self._size, self._steps, self._seed, self._engine = task, size, steps, seed, engine
        self._next, self._left_out = 0, frozenset[int]()
        self._stream = self._read()

    def go_to(self, step: int, left_out: Collection[int] = ()) -> None:
        """Go on from this step, without the images of some steps."""
        self.close()
        self._next, self._left_out = step, frozenset(left_out)
        self._stream = self._read()

    def __iter__(self) -> Iterator[tuple[int, Fetched | None]]:
        """Each step with what was read for it; None where it is left out."""
        while self._next < self._steps:
            step, self._next = self._next, self._next + 1
            yield step, None if step in self._left_out else next(self._stream)

    def close(self) -> None:
        """Stop reading ahead."""
        self._stream.close()

    def _read(self) -> Generator[Fetched, None, None]:
        wanted = (step for step in range(self._next, self._steps) if step not in self._left_out)
        return self._task.batches.stream(shares(self._task, self._size, wanted, self._seed, self._engine))
