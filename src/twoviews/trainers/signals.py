"""Stop requests: the first asks the loop to save and stop at the end of its step, a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 143}


class StopRequests:
    """Within its block, SIGINT, SIGTERM and SIGUSR1 set ``exit_code`` instead of ending the process."""

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = _EXIT_CODES[signal.Signals(number).name]

    def __enter__(self) -> StopRequests:
        # Python lets the main thread alone set handlers.
        if threading.current_thread() is threading.main_thread():
            for name in _EXIT_CODES:
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
