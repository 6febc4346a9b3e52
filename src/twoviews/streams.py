"""Standard output and error that can't end a run: a closed pipe, a terminal that is gone, letters it does not have."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast


class Unbroken:
    """A text stream whose writes don't fail: what can't be shown is replaced, and from the first error on, dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what the stream can show of ``text``."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            self.write(text.encode(encoding, errors="replace").decode(encoding))
        except OSError:  # the reader of a pipe has ended, the terminal was closed, the disk of a log file is full
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        # What is still in its buffer has to go somewhere when the interpreter ends, so the stream itself stays open.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unbroken_streams() -> Iterator[None]:
    """Within this block ``sys.stdout`` and ``sys.stderr`` are ``Unbroken``, and there even if they were closed."""
    # A closed number would be given to the next file that is opened, and what is printed would end up in it.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    before = sys.stdout, sys.stderr
    streams = [Unbroken(stream or open(os.devnull, "w")) for stream in before]  # noqa: SIM115
    sys.stdout, sys.stderr = (cast(Any, stream) for stream in streams)
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before
