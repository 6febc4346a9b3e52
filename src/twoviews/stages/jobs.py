"""``study --jobs N``: parts of a study in N processes at once, each with its share of the processors or GPUs.

One small training does not fill many processors, nor a GPU; several beside each other do. Which process does a part
changes none of its bits, and a part that was stopped goes on from its checkpoint, as in any study.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from twoviews import errors
from twoviews.errors import ResourceError, SettingsError, Stopped, TwoviewsError
from twoviews.processes import MOST_ON_WINDOWS, without_main
from twoviews.settings import StudyCommand
from twoviews.stages.comparison import Spent
from twoviews.stages.job_shares import environment_of, share_of
from twoviews.stages.part_worker import FAILED, IDLE, SAID, SPENT, work
from twoviews.stages.study_parts import StudyPart, next_part
from twoviews.trainers.engine import Engine
from twoviews.trainers.progress import say
from twoviews.trainers.signals import StopRequests

_LOOK_SECONDS = 0.5  # how long a stop request waits to be seen
_SIGKILL = 9  # which Windows has no name for


def require_one_process(settings: StudyCommand, engine: Engine) -> None:
    """Refuse ``--jobs`` where each training has several processes already.

    Raises:
        SettingsError: they are more than one.
    """
    if settings.jobs > 1 and engine.world_size > 1:
        refusal = SettingsError(
            f"--jobs {settings.jobs} with {engine.world_size} processes for each training: leave one of them out."
        )
        refusal.of_all = True
        raise refusal


class _Job:
    """One process and what it does."""

    def __init__(self, number: int, settings: StudyCommand, root: Path, engine: Engine) -> None:
        self.part: StudyPart | None = None
        self.is_idle = False  # while it loads the data it can't be given anything
        self.is_told_to_end = False
        own = settings.model_copy(update={"jobs": 1, **share_of(settings, engine)})
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, own.model_dump(mode="json"), root))
        with without_main(), environment_of(number, own.threads, engine), _deaf_to_ctrl_c():
            self.process.start()
        theirs.close()

    def give(self, part: StudyPart) -> None:
        self.part, self.is_idle = part, False
        self._send((str(part.folder), part.stages))

    def end(self) -> None:
        """Have it end: at once where it has nothing to do, else once its state is saved."""
        if self.is_told_to_end:
            return
        self.is_told_to_end = True
        if self.part is None and not self.is_idle:
            self.process.kill()  # it would hear of it only when it has loaded everything
        else:
            self._send(None)

    def _send(self, order: Any) -> None:
        with suppress(OSError):  # it died, which the end of its connection says
            self.connection.send(order)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A process that starts within this block ignores Ctrl-C while it loads: it would end in a traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)  # None: not set by Python


class Jobs:
    """The processes of a study, and the parts that are left; ``spent`` is told a stage's folder below the study's."""

    def __init__(
        self,
        parts: Sequence[StudyPart],
        settings: StudyCommand,
        root: Path,
        engine: Engine,
        spent: Spent = lambda stage, seconds, done: None,
    ) -> None:
        self._waiting = list(parts)
        self._root, self._spent = root, spent
        self._failure: TwoviewsError | None = None
        if engine.device.type == "cuda":
            torch.cuda.empty_cache()  # what pretraining has left, for the others
        self._jobs: list[_Job] = []
        self._begin = partial(_Job, settings=settings, root=root, engine=engine)
        self._count = min(settings.jobs, len(parts))
        if sys.platform == "win32":
            self._count = min(self._count, MOST_ON_WINDOWS)

    def run(self) -> None:
        """Until all parts are done.

        Raises:
            Stopped: by a signal; what was under way is saved.
            TwoviewsError: what failed in a part; the others are saved.
        """
        with StopRequests() as asked:
            try:
                self._start()
                while self._jobs:
                    ready = wait([job.connection for job in self._jobs], timeout=_LOOK_SECONDS)
                    self._look(asked)  # first: a signal that went to all processes is why one of them ends
                    for job in [job for job in self._jobs if job.connection in ready]:
                        self._hear(job)
                    if self._failure is not None:
                        self._waiting.clear()
                    self._hand_out()
            finally:
                for job in self._jobs:
                    job.process.kill()
                    job.process.join()
            if self._failure is not None:
                raise self._failure

    def _start(self) -> None:
        while len(self._jobs) < self._count:
            try:
                self._jobs.append(self._begin(len(self._jobs)))
            except OSError as error:
                raise ResourceError(
                    f"process {len(self._jobs) + 1} of --jobs {self._count} can't be started "
                    f"({error.strerror or error}): use fewer --jobs."
                ) from error

    def _fail(self, error: TwoviewsError) -> None:
        """Keep why the study ends: the first reason, but that a part failed rather than that all were stopped."""
        if self._failure is None or (isinstance(self._failure, Stopped) and not isinstance(error, Stopped)):
            self._failure = error

    def _look(self, asked: StopRequests) -> None:
        if asked.exit_code is not None:
            text = "study: stopped; the same command goes on from what each part has saved."
            self._fail(Stopped(text, asked.exit_code))

    def _hear(self, job: _Job) -> None:
        try:
            message = job.connection.recv()
        except (EOFError, OSError):
            self._ended(job)
        else:
            self._take(job, *message)

    def _take(self, job: _Job, kind: str, *what: Any) -> None:
        if kind == IDLE:
            job.part, job.is_idle = None, True
        elif kind == SAID and job.part is not None:
            say(f"{job.part.place(self._root)}{what[0]}")
        elif kind == SPENT and job.part is not None:
            stage, seconds, done = what
            self._spent((job.part.folder / stage).relative_to(self._root).as_posix(), seconds, done)
        elif kind == FAILED:
            name, text, exit_code = what
            place = job.part.place(self._root) if job.part else ""
            self._fail(_error(name, f"{place}{text}", exit_code))

    def _ended(self, job: _Job) -> None:
        job.process.join()
        job.connection.close()
        self._jobs.remove(job)
        if not job.is_told_to_end and self._failure is None:
            code = job.process.exitcode or 0
            how = f"was killed (signal {-code})" if code < 0 else f"ended (exit code {code})"
            likely = ", probably for lack of memory" if code == -_SIGKILL else ""
            self._fail(
                ResourceError(
                    f"a process of --jobs {how}{likely}; what is done is kept, and the same command goes on from it. "
                    "Fewer --jobs need less memory."
                )
            )

    def _hand_out(self) -> None:
        for job in self._jobs:
            if job.is_idle and (part := next_part(self._waiting, [j.part for j in self._jobs if j.part])):
                self._waiting.remove(part)
                job.give(part)
        for job in self._jobs:
            if self._failure is not None or (job.part is None and not self._waiting):
                job.end()


def _error(name: str, text: str, exit_code: int) -> TwoviewsError:
    """An error of another process, here."""
    if name == Stopped.__name__:
        return Stopped(text, exit_code)
    found: TwoviewsError = getattr(errors, name, TwoviewsError)(text)
    return found
