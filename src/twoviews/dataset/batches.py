"""Batches of uint8 images on the device that trains."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from twoviews.dataset.images import ImageSet

RESIDENT_SHARE = 0.4  # of a GPU's free memory that images may take


class Batches:
    """Images of a set by position; they live on the GPU where they fit in ``RESIDENT_SHARE`` of its free memory."""

    def __init__(self, images: ImageSet, device: torch.device) -> None:
        self.images = images
        self.device = device
        self.rows = torch.from_numpy(images.rows).to(device)
        self.labels = None if images.labels is None else torch.from_numpy(images.labels).to(device)
        self._resident: Tensor | None = None
        if device.type == "cuda":
            needed = len(images) * int(np.prod(images.pixels.shape[1:]))
            free, _ = torch.cuda.mem_get_info(device)
            if needed <= RESIDENT_SHARE * free:
                self._resident = torch.from_numpy(images.read(slice(None))).to(device)

    def __len__(self) -> int:
        return len(self.images)

    def get(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images (n×3×H×W uint8), their identities (n,) and labels (n,) or None, on the device.

        Args:
            positions: (n,) int64 on the CPU or the device.
        """
        here = positions.to(self.device)
        labels = None if self.labels is None else self.labels[here]
        rows = self.rows[here]
        if self._resident is not None:
            return self._resident[here], rows, labels
        pixels = torch.from_numpy(self.images.read(positions.cpu().numpy()))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels.to(self.device), rows, labels

    def in_order(self, batch_size: int) -> list[Tensor]:
        """Positions of every image once, in order, the last batch short."""
        return list(torch.arange(len(self)).split(batch_size))
