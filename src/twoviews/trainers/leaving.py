"""How one of several processes ends where it fails: at once, and with it those that it started.

The others wait for it, in a sum or at a barrier. Fabric has NCCL closed when Python ends, and that waits for every sum
to end: the process that failed would wait for the others as they do for it, and torchrun, which ends the others when
one has ended, would see none end.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from twoviews.trainers.progress import speaks

# What goes wrong in all processes is said by the first one, which is ended as soon as another has ended.
_TIME_TO_SPEAK = 3.0


class Started(Protocol):
    """A process that this one started."""

    def kill(self) -> None: ...


_started: Sequence[Started] | None = None  # None: this process is alone


def is_one_of_several(started: Sequence[Started]) -> None:
    """From here on this process is one of several; it started these itself (``--devices``, not torchrun)."""
    global _started
    _started = started


def leave(code: int) -> None:
    """End this process with an exit code, if it is one of several; else return.

    Of an error that is being handled the traceback is printed, as Python would do at its end.
    """
    if _started is None:
        return
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, SystemExit):
        traceback.print_exc()
    if not speaks():
        time.sleep(_TIME_TO_SPEAK)
    for process in _started:
        with suppress(OSError):  # it has ended
            process.kill()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
