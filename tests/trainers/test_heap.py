"""Freed memory is kept while a command works, and given back afterwards; a user's word on malloc stands."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from twoviews.trainers import heap
from twoviews.trainers.heap import LARGE, USUAL, freed_memory_kept

# Each line: pages given for 40 MB that were used and freed before, and MiB that the process has.
PAGES = """
import resource, numpy
from twoviews.trainers.heap import freed_memory_kept

def again():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(40 << 20, numpy.uint8)
    resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, resident)

again()
with freed_memory_kept():
    again(), again()
    with freed_memory_kept():
        again()
    held = [numpy.ones(40 << 20, numpy.uint8) for _ in range(8)]
    del held
    again()
again()
"""


LIBC, VERSION = platform.libc_ver()


@pytest.mark.skipif(LIBC != "glibc" or VERSION.split(".") < ["2", "36"], reason="a recent glibc's malloc")
def test_pages_are_given_once_and_go_back_at_the_end() -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in (*heap.SAYS_ON_IT, "GLIBC_TUNABLES")
    }
    called = [sys.executable, "-c", PAGES]
    done = subprocess.run(called, env=environment, capture_output=True, text=True, check=True)
    (_, bare), _, (kept, _), (inner, _), (_, most), (last, after) = (
        map(int, line.split()) for line in done.stdout.splitlines()
    )
    assert max(kept, inner) < 5
    assert most > bare + 250
    assert last > 10  # at least as many as 40 MB have of the largest pages, and more of the usual ones
    assert after < bare + 40


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []

    def mallopt(name: int, value: int) -> int:
        calls.append((name, value))
        return 1

    library = SimpleNamespace(mallopt=mallopt, malloc_trim=lambda pad: None)
    monkeypatch.setattr(heap, "_glibc", lambda: library)
    for name in (*heap.SAYS_ON_IT, "GLIBC_TUNABLES"):
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


def test_an_older_glibc_keeps_what_it_may(told: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def mallopt(name: int, value: int) -> bool:
        taken = name != -3 or value <= 2**25
        calls.extend([(name, value)] * taken)
        return taken

    library = SimpleNamespace(mallopt=mallopt, malloc_trim=lambda pad: None)
    monkeypatch.setattr(heap, "_glibc", lambda: library)
    with freed_memory_kept():
        assert calls == [(-3, 2**25), (-1, -1)]


@pytest.mark.parametrize(
    ("name", "value", "is_said"),
    [
        *((name, "1", True) for name in heap.SAYS_ON_IT),
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


def test_where_addresses_are_scarce_the_heap_is_left_alone(
    told: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**40, resource.RLIM_INFINITY))
    with freed_memory_kept():
        pass
    assert told == []


@pytest.mark.parametrize(("system", "symbols"), [("darwin", {}), ("linux", {})])
def test_without_glibc_nothing_is_done(system: str, symbols: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.sys, "platform", system)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: SimpleNamespace(**symbols))
    with freed_memory_kept():
        heap.give_back()
