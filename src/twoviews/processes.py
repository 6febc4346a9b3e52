"""Processes of our own beside this one."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

MOST_ON_WINDOWS = 61  # processes, that its way of waiting for several allows


@contextmanager
def without_main() -> Iterator[None]:
    """Hide the main module while a process starts.

    A spawned process first runs the main module again. Ours need nothing from it, and a script that lacks a
    ``__name__ == "__main__"`` guard, or came through standard input, would start over in each of them or fail.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
