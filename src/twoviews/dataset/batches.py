"""Batches of uint8 images on the device that trains."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from twoviews.dataset.images import ImageSet, forget_pages

RESIDENT_SHARE = 0.4  # of a GPU's free memory that images may take
FORGET_BYTES = 2**27  # of a memory map that may be in memory before its pages are given back
FAULT_BYTES = 2**16  # that Linux maps around each page that is touched

Fetched = tuple[Tensor, Tensor, Tensor | None]


def copied_to(device: torch.device, images: ImageSet) -> Tensor:
    """All images of a set on the device, N×3×H×W uint8; on the way there are never more than a part in memory."""
    whole = torch.empty((len(images), *images.pixels.shape[1:]), dtype=torch.uint8, device=device)
    at_once = max(1, FORGET_BYTES // max(1, whole[:1].numel()))
    for start in range(0, len(images), at_once):
        part = slice(start, start + at_once)
        whole[part] = torch.from_numpy(images.read(part))
        forget_pages(images.pixels)
    return whole


class Batches:
    """Images of a set by position; they live on the GPU where they fit in ``RESIDENT_SHARE`` of its free memory.

    Attributes:
        waited_seconds: time that ``stream`` has spent waiting for images to be read.
    """

    def __init__(self, images: ImageSet, device: torch.device) -> None:
        self.images = images
        self.device = device
        self.rows = torch.from_numpy(images.rows).to(device)
        self.labels = None if images.labels is None else torch.from_numpy(images.labels).to(device)
        self.waited_seconds = 0.0
        self._bytes = len(images) * int(np.prod(images.pixels.shape[1:]))
        self._mapped = 0
        self._free = 0
        self._resident: Tensor | None = None
        if device.type == "cuda":
            self._free, _ = torch.cuda.mem_get_info(device)
            if self._bytes <= RESIDENT_SHARE * self._free:
                self._resident = copied_to(device, images)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def place(self) -> str | None:
        """Where the images lie while a GPU trains, and by what rule, in words; None without a GPU."""
        if self.device.type != "cuda":
            return None
        fits = self._resident is not None
        return (
            f"{self._bytes / 2**30:.1f} GiB of images {'live on the GPU' if fits else 'are read ahead from the disk'}: "
            f"{'at most' if fits else 'more than'} {RESIDENT_SHARE:.0%} of its {self._free / 2**30:.1f} GiB free"
        )

    @property
    def order_device(self) -> torch.device:
        """Where positions should lie: with images on a GPU, or on the CPU that reads them."""
        return torch.device("cpu") if self._resident is None else self.device

    def get(self, positions: Tensor) -> Fetched:
        """Images (n×3×H×W uint8), their identities (n,) and labels (n,) or None, on the device.

        Args:
            positions: (n,) int64 on the CPU or the device.
        """
        return self._on_device(positions, None if self._resident is not None else self._read(positions))

    def stream(self, positions: Iterable[Tensor]) -> Generator[Fetched, None, None]:
        """``get`` for each of ``positions`` in turn; the next one is read by a thread meanwhile."""
        if self._resident is not None:
            yield from map(self.get, positions)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            reading: tuple[Tensor, Future[Tensor]] | None = None
            for upcoming in positions:
                following = upcoming, reader.submit(self._read, upcoming)
                if reading is not None:
                    yield self._arrived(*reading)
                reading = following
            if reading is not None:
                yield self._arrived(*reading)

    def _arrived(self, positions: Tensor, reading: Future[Tensor]) -> Fetched:
        started = time.perf_counter()
        pixels = reading.result()
        self.waited_seconds += time.perf_counter() - started
        return self._on_device(positions, pixels)

    def _read(self, positions: Tensor) -> Tensor:
        """Pixels in memory, pinned where a GPU will fetch them."""
        pixels = torch.from_numpy(self.images.read(positions.cpu().numpy()))
        self._mapped += pixels.numel() + len(pixels) * FAULT_BYTES
        if self._mapped > FORGET_BYTES:
            forget_pages(self.images.pixels)
            self._mapped = 0
        return pixels.pin_memory() if self.device.type == "cuda" else pixels

    def _bring(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; a GPU is not waited for."""
        if self.device.type != "cuda":
            # From memory that is not pinned, a copy that is not waited for may read what has been freed (MPS).
            return tensor.to(self.device)
        pinned = tensor if tensor.is_cuda or tensor.is_pinned() else tensor.pin_memory()
        return pinned.to(self.device, non_blocking=True)

    def _on_device(self, positions: Tensor, pixels: Tensor | None) -> Fetched:
        here = self._bring(positions)
        labels = None if self.labels is None else self.labels[here]
        if pixels is None:
            assert self._resident is not None
            return self._resident[here], self.rows[here], labels
        return self._bring(pixels), self.rows[here], labels
