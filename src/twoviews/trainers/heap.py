"""Memory that was freed stays with the process while it works, for the next step asks for as much again.

glibc hands a large piece back to the system as it is freed, and the top of its heap with it. Training frees all
activations at the end of a step: the system then gives thousands of pages anew in the next one, each of them cleared
and mapped at its first touch. Other C libraries, a user's own word on glibc's, and processes of limited address space
are left alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's numbers of what it sets
_NEVER = -1
# Bytes; what is larger comes from the system and goes back to it, so that no heap has gaps as large.
LARGE = 2**28
USUAL = 2**25  # to which glibc lets this limit grow by itself, and that for the heap's top to twice as much
SAYS_ON_IT = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")

_depth = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within it freed memory is kept; at its end all is given back. One within another is the outer's to end."""
    global _depth
    _set(LARGE, _NEVER)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:  # as glibc does it by itself once large pieces were freed; before, it gives back smaller ones
            _set(USUAL, 2 * USUAL)
        give_back()


def give_back() -> None:
    """Hand freed memory back to the system now, as far as the C library does that."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _set(mmap_threshold: int, trim_threshold: int) -> None:
    said = any(name in os.environ for name in SAYS_ON_IT) or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    library = _glibc()
    if library is not None and not said and not _is_limited():
        if not library.mallopt(_MMAP_THRESHOLD, mmap_threshold):  # up to glibc 2.34 it may not be more than the usual
            library.mallopt(_MMAP_THRESHOLD, USUAL)
        library.mallopt(_TRIM_THRESHOLD, trim_threshold)


def _is_limited() -> bool:
    """Whether addresses are scarce (``ulimit -v``): gaps of a heap that is kept would count as used."""
    from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit  # not on Windows

    return getrlimit(RLIMIT_AS)[0] != RLIM_INFINITY


def _glibc() -> ctypes.CDLL | None:
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") else None
    return None
