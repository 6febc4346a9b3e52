"""Freed memory is kept while a command works, and given back afterwards; a user's word on malloc stands."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from twoviews.trainers import heap
from twoviews.trainers.heap import LARGE, USUAL, freed_memory_kept

# Each line: pages given for 16 MB that were used and freed before, and MiB that the process has.
PAGES = """
import resource, numpy
from twoviews.trainers.heap import freed_memory_kept

def again():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(1 << 24, numpy.uint8)
    resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, resident)

again()
with freed_memory_kept():
    again(), again()
    with freed_memory_kept():
        again()
    held = [numpy.ones(1 << 24, numpy.uint8) for _ in range(8)]
    del held
    again()
again()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_pages_are_given_once_and_go_back_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    (_, bare), _, (kept, _), (inner, _), (_, most), (last, after) = (
        map(int, line.split()) for line in done.stdout.splitlines()
    )
    assert max(kept, inner) < 5
    assert most > bare + 100
    assert last > 10  # at least as many as 16 MB have of the largest pages, and more of the usual ones
    assert after < bare + 40


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda name, value: calls.append((name, value)), malloc_trim=lambda pad: None)
    monkeypatch.setattr(heap, "_glibc", lambda: library)
    for name in (*heap._SAYS_ON_IT, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_the_outer_of_two_ends_it(told: list[tuple[int, int]]) -> None:
    keeps, returns = [(-3, LARGE), (-1, -1)], [(-3, USUAL), (-1, 2 * USUAL)]
    with freed_memory_kept():
        with freed_memory_kept():
            pass
        assert told == [*keeps, *keeps]
    assert told == [*keeps, *keeps, *returns]
    with pytest.raises(ValueError, match="work"), freed_memory_kept():
        raise ValueError("work failed")
    assert told == [*keeps, *keeps, *returns, *keeps, *returns]


@pytest.mark.parametrize(
    ("name", "value", "is_said"),
    [
        *((name, "1", True) for name in heap._SAYS_ON_IT),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1", True),
        ("GLIBC_TUNABLES", "glibc.pthread.rseq=1", False),
    ],
)
def test_what_the_user_says_of_malloc_holds(
    name: str, value: str, is_said: bool, told: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with freed_memory_kept():
        assert bool(told) != is_said


@pytest.mark.parametrize(("system", "symbols"), [("darwin", {}), ("linux", {})])
def test_without_glibc_nothing_is_done(system: str, symbols: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.sys, "platform", system)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: SimpleNamespace(**symbols))
    with freed_memory_kept():
        heap.give_back()
