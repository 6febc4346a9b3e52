"""Batches: reading ahead changes nothing but the time, and memory does not grow with the images."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twoviews.dataset import batches as batches_module
from twoviews.dataset.batches import Batches, copied_to
from twoviews.dataset.images import ImageSet, forget_pages

CPU = torch.device("cpu")


def labelled(count: int = 20) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    whole = ImageSet.whole(pixels, np.arange(count, dtype=np.int64) % 3, [str(i) for i in range(count)])
    return whole.take(np.arange(count - 1, -1, -1))


def test_streamed_batches_are_those_that_get_gives() -> None:
    batches = Batches(labelled(), CPU)
    positions = [torch.tensor([3, 1, 4]), torch.tensor([1, 5]), torch.tensor([9])]
    streamed = list(batches.stream(iter(positions)))
    assert len(streamed) == 3
    for (pixels, rows, labels), wanted in zip(streamed, positions, strict=True):
        assert torch.equal(rows, 19 - wanted)
        assert torch.equal(pixels, torch.from_numpy(batches.images.pixels)[rows])
        assert labels is not None
        assert torch.equal(labels, rows % 3)
    assert list(batches.stream(iter([]))) == []


class _Slow(ImageSet):
    """Reading takes a while, and is noted."""

    def read(self, positions: object) -> np.ndarray:
        _reads.append((threading.current_thread().name, time.monotonic()))
        time.sleep(0.05)
        return super().read(positions)  # type: ignore[arg-type]


_reads: list[tuple[str, float]] = []


def test_images_reach_a_device_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images, read = labelled(), ImageSet.read
    parts: list[int] = []

    def noted(self: ImageSet, positions: Any) -> Any:
        found = read(self, positions)
        parts.append(len(found))
        return found

    monkeypatch.setattr(batches_module, "FORGET_BYTES", 7 * 48)
    monkeypatch.setattr(ImageSet, "read", noted)
    assert torch.equal(copied_to(CPU, images), torch.from_numpy(images.pixels[images.rows]))
    assert parts == [7, 7, 6]
    assert copied_to(CPU, images.take(np.arange(0))).shape == (0, 3, 4, 4)


def test_the_next_batch_is_read_while_this_one_trains() -> None:
    _reads.clear()
    slow = _Slow(**vars(labelled()))
    batches = Batches(slow, CPU)
    stream = batches.stream(torch.tensor([i]) for i in range(4))
    next(stream)
    waited_for_first = batches.waited_seconds
    assert waited_for_first > 0.01
    for _ in range(3):
        time.sleep(0.2)  # training
        next(stream)
    assert batches.waited_seconds - waited_for_first < 0.1  # of 0.15 seconds of reading
    assert {name.rsplit("_", 1)[0] for name, _ in _reads} == {"read-ahead"}
    assert len(_reads) == 4


def test_no_more_than_two_batches_are_in_memory() -> None:
    _reads.clear()
    stream = Batches(_Slow(**vars(labelled())), CPU).stream(torch.tensor([i]) for i in range(10))
    next(stream)
    time.sleep(0.3)
    assert len(_reads) == 2
    stream.close()


def test_an_error_of_reading_reaches_the_training() -> None:
    broken = replace(labelled(), pixels=np.zeros((2, 3, 4, 4), np.uint8))
    with pytest.raises(IndexError):
        list(Batches(broken, CPU).stream([torch.tensor([0])]))


def test_arrays_in_memory_are_not_forgotten() -> None:
    pixels = labelled().pixels.copy()
    before = pixels.copy()
    forget_pages(pixels)
    assert np.array_equal(pixels, before)


_MEASURE = """
import sys
import numpy as np, torch
from twoviews.dataset.batches import Batches
from twoviews.dataset.images import ImageSet

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) // 1024

pixels = np.load(sys.argv[1], mmap_mode="r")
images = ImageSet.whole(pixels, None, range(len(pixels)))
batches = Batches(images, torch.device("cpu"))
before, most = resident(), 0
for fetched in batches.stream(torch.randperm(len(images)).split(256)):
    most = max(most, resident())
print(most - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    path = tmp_path / "pixels.npy"
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(150_000, 3, 32, 32))
    pixels[::7] = 1
    pixels.flush()
    grown = subprocess.run([sys.executable, "-c", _MEASURE, path], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 250  # MiB; the file has 440
