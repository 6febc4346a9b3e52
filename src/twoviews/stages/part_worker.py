"""A process of ``study --jobs``: it does the parts that it is told, one after the other, and says how they go.

It ends when it is told to, or when the study's own process is gone; a training under way saves its state first.
"""

from __future__ import annotations

import io
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from twoviews.errors import Stopped, TwoviewsError
from twoviews.settings import StudyCommand
from twoviews.stages.comparison import Comparison, first_stages, pretrained_stages, run_stages
from twoviews.stages.study_layout import layout, prepare_seeds
from twoviews.stages.tune import Sweep
from twoviews.stages.tune_trial import FOLDER
from twoviews.streams import unbroken_streams
from twoviews.trainers.resume import require_same_images
from twoviews.trainers.signals import StoppedAtOnce, stops_at_once

# What goes back: IDLE, and with more behind it SAID (a line), SPENT (a stage, seconds, whether it is done) and
# FAILED (the class of an error, its text, its exit code).
IDLE, SAID, SPENT, FAILED = "idle", "said", "spent", "failed"


class _Lines(io.TextIOBase):
    """Standard output, line by line to the study's process; what is said before the first part, as it has said that."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if self._worker.is_busy:
                self._worker.tell(SAID, line)
        return len(text)


class _Worker:
    """The connection to the study's process."""

    def __init__(self, connection: Connection) -> None:
        self.is_busy = False
        self._connection = connection
        self._sending = threading.Lock()
        self._orders: queue.SimpleQueue[tuple[str, Sequence[str]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        order: tuple[str, Sequence[str]] | None = ("", ())
        while order is not None:
            try:
                order = self._connection.recv()
            except (EOFError, OSError):
                order = None
            if order is not None:
                self.is_busy = True
            self._orders.put(order)
        if self.is_busy:
            signal.raise_signal(signal.SIGTERM)

    def tell(self, kind: str, *what: Any) -> None:
        """Send a message; a process that is gone hears nothing."""
        with self._sending, suppress(OSError):
            self._connection.send((kind, *what))

    def orders(self) -> Any:
        """Each part as it is told: its comparison's folder, and its stages."""
        while True:
            self.is_busy = False
            self.tell(IDLE)
            order = self._orders.get()
            if order is None:
                return
            yield order


def work(connection: Connection, values: dict[str, Any], root: Path) -> None:
    """Do parts of the study in ``root`` with these settings, until told to end."""
    with unbroken_streams():
        worker = _Worker(connection)
        sys.stdout = _Lines(worker)  # type: ignore[assignment]
        try:
            with stops_at_once():
                _work(worker, StudyCommand.model_validate(values), root)
        except TwoviewsError as error:
            worker.tell(FAILED, type(error).__name__, str(error), error.exit_code)
        except StoppedAtOnce as stop:
            worker.tell(FAILED, Stopped.__name__, str(stop), stop.exit_code)


def _work(worker: _Worker, settings: StudyCommand, root: Path) -> None:
    seeds = prepare_seeds(settings)
    # Parts that begin have no record of their own yet, and the study's own process may have loaded them hours ago.
    require_same_images(root, seeds[0].splits.fingerprint)
    seeds[0].data_written = True  # by the study's own process
    plan = layout(settings, seeds, root)
    comparisons = {str(one.folder): one for one in plan.all}
    sweep = Sweep.of(settings, plan, root)
    for folder, stages in worker.orders():
        if stages[0].startswith(f"{FOLDER}/"):
            sweep.run_one(stages[0])
        else:
            _do(worker, settings, comparisons[folder], stages)


def _do(worker: _Worker, settings: StudyCommand, one: Comparison, names: Sequence[str]) -> None:
    stages = [*first_stages(settings, one), *pretrained_stages(settings, one)]
    run_stages([stage for stage in stages if stage[0] in names], one, partial(worker.tell, SPENT))
