"""Mean and deviation of a data set's pixels, for normalisation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twoviews.dataset.images import ImageSet, forget_pages
from twoviews.spacing import evenly_spaced

MAX_STATISTICS_IMAGES = 10_000
_BLOCK = 256
Channels = tuple[float, float, float]


def channel_statistics(images: ImageSet) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel in [0, 1] units, over at most 10,000 evenly spaced images.

    Sums of whole numbers in float64 are exact here, so the result is the same bit for bit on every machine.
    The deviation is at least 1/255, so that constant images can be divided by it.
    """
    positions = evenly_spaced(len(images), MAX_STATISTICS_IMAGES)
    count = len(positions)
    total: npt.NDArray[np.float64] = np.zeros(3)
    squares: npt.NDArray[np.float64] = np.zeros(3)
    for start in range(0, count, _BLOCK):
        block = images.read(positions[start : start + _BLOCK]).astype(np.float64)
        total += block.sum(axis=(0, 2, 3))
        squares += np.einsum("nchw,nchw->c", block, block)
        forget_pages(images.pixels)
    pixels = count * images.pixels.shape[2] * images.pixels.shape[3]
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1.0))
    red, green, blue = (float(value) for value in mean / 255.0)
    red_std, green_std, blue_std = (float(value) for value in std / 255.0)
    return (red, green, blue), (red_std, green_std, blue_std)
