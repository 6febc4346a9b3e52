"""Stop requests: what SIGTERM, SIGUSR1 and Ctrl-C do, outside the training loop and within it.

Outside, the first ends the command at once: every file is written whole or not at all, so what is there stays valid. A
second one, while the first still tidies up, ends the process without tidying. Within the loop the first asks it to
finish its step, save and stop. There a second Ctrl-C stops at once. A second SIGTERM or SIGUSR1 does not: schedulers
and ``torchrun`` send them twice, and it must not cost the checkpoint that the first one asked for.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from twoviews.errors import Stopped

_GRACE_SECONDS = 10.0  # for tidying up; what is on the disk is valid at any time
_EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 143, "SIGHUP": 143}


class StoppedAtOnce(KeyboardInterrupt):
    """A signal outside the training loop; no ``except Exception`` on its way holds it up.

    Attributes:
        name: of the signal.
        exit_code: what the process should end with.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"stopped by {name}; what is done is kept, and the same command goes on from it")
        self.name = name
        self.exit_code = _EXIT_CODES[name]


def _goes_on_unseen() -> bool:
    """Whether a closed terminal ends nothing: ``torchrun`` passes it on to its processes and then ends them."""
    return os.environ.get("WORLD_SIZE", "1") == "1" and "TORCHELASTIC_RUN_ID" not in os.environ


def _set_handlers(handle: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let ``handle`` take the signals; returns the handlers before it."""
    before: dict[int, Any] = {}
    # Python lets the main thread alone set handlers; Windows has no SIGUSR1 and no SIGHUP.
    if threading.current_thread() is threading.main_thread():
        for name in _EXIT_CODES:
            number = getattr(signal, name, None)
            if number is not None and not (name == "SIGHUP" and _goes_on_unseen()):
                before[number] = signal.signal(number, handle)
    return before


def _restore_handlers(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def stops_at_once() -> Iterator[None]:
    """Within this block SIGINT, SIGTERM and SIGUSR1 raise ``StoppedAtOnce``; a closed terminal ends nothing, or as they
    do under ``torchrun``."""
    own = os.getpid()
    stopping = False
    timers: list[threading.Timer] = []

    def later(seconds: float, action: Callable[[], None]) -> None:
        timers.append(threading.Timer(seconds, action))
        timers[-1].daemon = True
        timers[-1].start()

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        name = signal.Signals(number).name
        if os.getpid() != own:  # a process forked by a library, which ends it as it ends any
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if stopping:
            os._exit(_EXIT_CODES[name])
        stopping = True
        stop = StoppedAtOnce(name)
        later(_GRACE_SECONDS, lambda: end(stop))
        raise stop

    def end(stop: StoppedAtOnce) -> None:
        """Something on its way has swallowed the exception, or takes too long to tidy up."""
        print(f"twoviews: {stop}", file=sys.stderr, flush=True)
        os._exit(stop.exit_code)

    def again(ignored: Any) -> None:
        """Python runs the callbacks of its memory's clean-up at any time, and drops what is raised in them."""
        nonlocal stopping
        if isinstance(ignored.exc_value, StoppedAtOnce):
            number = signal.Signals[ignored.exc_value.name]
            stopping = False
            later(0.01, lambda: os.kill(own, number))
        else:
            hook(ignored)

    before, hook = _set_handlers(handle), sys.unraisablehook
    sys.unraisablehook = again
    if before and hasattr(signal, "SIGHUP") and _goes_on_unseen():
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = hook
        _restore_handlers(before)


class StopRequests:
    """Within its block, SIGINT, SIGTERM and SIGUSR1 (under ``torchrun`` SIGHUP too) set ``exit_code`` and end nothing.

    Raises:
        Stopped: at the end of the block, where a signal came too late for the loop to see it.
        KeyboardInterrupt: at a second Ctrl-C.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code is not None:
            if number == signal.SIGINT:
                raise StoppedAtOnce("SIGINT")
            return
        self.exit_code = _EXIT_CODES[signal.Signals(number).name]

    def __enter__(self) -> StopRequests:
        self._before = _set_handlers(self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        _restore_handlers(self._before)
        if kind is None and self.exit_code is not None:
            raise Stopped("stopped after the last step of a stage; the same command goes on.", self.exit_code)
