"""Decode many files in parallel processes, in order; a file that kills its decoder is named."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from twoviews.cpus import usable_cpus
from twoviews.dataset.decode import Decoded, decode_batch
from twoviews.dataset.scan import FoundFile
from twoviews.errors import DataError, ResourceError
from twoviews.processes import MOST_ON_WINDOWS, without_main

_BATCH = 16
# Below this many files, starting processes takes longer than decoding.
MIN_FILES_FOR_PROCESSES = 256


def decode_all(
    folder: str, files: Sequence[FoundFile], size: int, max_pixels: int, workers: int | None
) -> Iterator[Decoded]:
    """Decode ``files`` below ``folder``: one result each, in order.

    Args:
        workers: processes; None for one per processor, and none for few files. 0 or 1 decodes in this
            process.

    Raises:
        DataError: a file kills its decoder.
        ResourceError: decoders die and no single file is to blame.
    """
    batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
    if workers is None:
        workers = usable_cpus() if len(files) >= MIN_FILES_FOR_PROCESSES else 1
    if sys.platform == "win32":
        workers = min(workers, MOST_ON_WINDOWS)
    pool = _start(min(workers, len(batches))) if workers > 1 and len(batches) > 1 else None
    if pool is None:
        for batch in batches:
            yield from decode_batch(folder, batch, size, max_pixels)
    else:
        yield from _in_processes(pool, folder, batches, size, max_pixels, window=4 * workers)


def _start(workers: int) -> ProcessPoolExecutor | None:
    try:
        # Spawned, not forked: a fork of a process that runs threads (torch, a progress bar) can hang.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    except (OSError, NotImplementedError):
        return None  # no semaphores, as in some containers


def _in_processes(
    pool: ProcessPoolExecutor,
    folder: str,
    batches: Sequence[Sequence[FoundFile]],
    size: int,
    max_pixels: int,
    window: int,
) -> Iterator[Decoded]:
    waiting: deque[tuple[Sequence[FoundFile], Future[list[Decoded]]]] = deque()
    upcoming = deque(batches)
    broken = False
    try:
        while upcoming or waiting:
            # A bounded window, so that results never pile up in memory.
            while upcoming and len(waiting) < window:
                with without_main():
                    future = pool.submit(decode_batch, folder, upcoming[0], size, max_pixels)
                waiting.append((upcoming.popleft(), future))
            results = waiting[0][1].result()
            waiting.popleft()
            yield from results
    except BrokenProcessPool:
        broken = True
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if broken:
        _find_culprit(folder, [*(batch for batch, _ in waiting), *list(upcoming)[:1]], size, max_pixels)


def _find_culprit(folder: str, suspects: Sequence[Sequence[FoundFile]], size: int, max_pixels: int) -> None:
    """Decode the files that were under way one by one; always raises."""
    pool = _start(1)
    assert pool is not None
    try:
        for file in (file for batch in suspects for file in batch):
            try:
                with without_main():
                    future = pool.submit(decode_batch, folder, [file], size, max_pixels)
                future.result()
            except BrokenProcessPool:
                raise DataError(
                    f"Decoding {os.path.join(folder, file.path)} kills the decoder: move the file out "
                    "of the folder and start again."
                ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    raise ResourceError(
        f"The processes that decode {folder} were killed, probably for lack of memory: close other programs, or "
        "leave large images out with --max-pixels."
    )


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
