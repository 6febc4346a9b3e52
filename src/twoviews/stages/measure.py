"""Measuring this machine: rates with their spread, peak memory, and the rate of plain matrix products."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from twoviews.trainers.engine import Engine
from twoviews.trainers.heap import give_back

ROUNDS = 3
ROUND_SECONDS = 0.5
_PRODUCTS, _PRODUCT_SECONDS = 9, 10.0
_SMALLEST_RISE = 2**20  # bytes
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Rate:
    """Images a second: the median of ``rounds`` rounds of ``calls`` calls, and the slowest and fastest of them."""

    median: float
    lowest: float
    highest: float
    rounds: int
    calls: int


def measure(
    work: Callable[[int], object],
    images: int,
    engine: Engine,
    at_least: int = 1,
    first: Callable[[float, int], None] = lambda seconds, calls: None,
) -> Rate:
    """Time ``work``, which gets the number of the call; the device is waited for at the ends of each round alone.

    Args:
        images: how many a call works on.
        at_least: calls a round; more where they don't fill ``ROUND_SECONDS``.
        first: gets the seconds of one call before the rounds start, and how many calls those are.
    """
    number = 0

    def seconds_for(count: int) -> float:
        nonlocal number
        engine.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            work(number)
            number += 1
        engine.synchronize()
        return time.perf_counter() - started

    seconds = seconds_for(1)
    if seconds < ROUND_SECONDS:
        seconds = seconds_for(1)  # the first call paid for what is set up once
    count = max(at_least, math.ceil(ROUND_SECONDS / max(seconds, 1e-6)))
    first(seconds, ROUNDS * count)
    rates = [count * images / seconds_for(count) for _ in range(ROUNDS)]
    return Rate(statistics.median(rates), min(rates), max(rates), ROUNDS, count)


def matrix_product_rate(engine: Engine) -> tuple[float, int]:
    """FLOP/s of a product of two square matrices in the run's precision (median), and their width.

    Of fewer products where they are slow: bf16 on a processor that only imitates it takes minutes for one.
    """
    width = 2048 if engine.device.type == "cpu" else 8192
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[engine.precision]
    a, b = (torch.randn(width, width, device=engine.device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(_PRODUCTS + 1):
        engine.synchronize()
        started = time.perf_counter()
        a @ b
        engine.synchronize()
        seconds.append(time.perf_counter() - started)
        if sum(seconds) > _PRODUCT_SECONDS:
            break
    return 2 * width**3 / statistics.median(seconds[1:] or seconds), width


class PeakMemory:
    """How far memory rises from here on: the device's on a GPU, else the process's resident memory.

    Resident memory is what the system has given. Memory that was freed before is handed back first, as far as the
    C library does that; what it kept and is used again does not count, so small rises say little.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before: int | None = None
        if engine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(engine.device)
            self._before = torch.cuda.memory_allocated(engine.device)
        elif sys.platform == "linux":
            give_back()
            with suppress(OSError):  # not allowed, as in some containers: then there is no figure
                _CLEAR.write_text("5")  # the peak so far is forgotten: proc(5)
                self._before = _from_status("VmRSS")

    def rise(self) -> int | None:
        """Bytes at the highest point beyond those at the start; None where it can't be known."""
        if self._before is None:
            return None
        if self._engine.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._engine.device) - self._before
        rise = _from_status("VmHWM") - self._before
        return rise if rise >= _SMALLEST_RISE else None


def _from_status(key: str) -> int:
    """A size in bytes from the kernel's account of this process."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
