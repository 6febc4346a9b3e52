"""What each output pixel, or each tile of them, sees of an image that is padded with zeros."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

Sides = tuple[int, int]
"""Of rows and of columns."""


def windows(x: Tensor, size: Sides, step: Sides, grid: Sides, padding: int) -> Tensor:
    """N×H×W×C → N×(grid)×(size)×C, a view of a padded copy.

    Args:
        x: pixels, with their channels beside each other.
        size: of a window.
        step: from one window to the next.
        grid: how many there are; zeros follow as far as they reach.
        padding: zeros before the first row and column.
    """
    n, *lengths, channels = x.shape
    beyond = [
        max(0, (count - 1) * apart + side - padding - length)
        for count, apart, side, length in zip(grid, step, size, lengths, strict=True)
    ]
    x = F.pad(x, (0, 0, padding, beyond[1], padding, beyond[0]))
    image, row, column, channel = x.stride()
    return x.as_strided((n, *grid, *size, channels), (image, row * step[0], column * step[1], row, column, channel))


def weight_gradient(x: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Gradient of a convolution's weights, out×in×kernel×kernel, as one product of patches (im2col).

    Args:
        x: input, N×C×H×W, channels last.
        gradient: of the output, channels last.
    """
    out_channels, height, width = gradient.shape[1:]
    in_channels = x.shape[1]
    seen = windows(x.permute(0, 2, 3, 1), (kernel, kernel), (stride, stride), (height, width), padding)
    patches = seen.reshape(len(x) * height * width, kernel * kernel * in_channels)
    rows = gradient.permute(0, 2, 3, 1).reshape(-1, out_channels)
    return (rows.t() @ patches).view(out_channels, kernel, kernel, in_channels).permute(0, 3, 1, 2)
