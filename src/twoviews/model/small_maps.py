"""A convolution of maps of a few pixels as one matrix between all pixels: it multiplies by zeros, and moves nothing.

oneDNN's kernels are made for maps of many pixels. They fell to a tenth or less of the rate of a matrix product on maps
of 2×2 and 1×1 pixels: the last stage of a ResNet on images of 64 and 32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from twoviews.model.windows import weight_gradient

_MOST_OUT = 4  # pixels; beyond, most of the matrix is zeros
_MOST_NUMBERS = 2**25  # of the matrix: 64 MB in bf16, 128 in float32


def _pixels_out(pixels: int, kernel: int, stride: int, padding: int) -> int:
    return (pixels + 2 * padding - kernel) // stride + 1


def pays(weight: torch.Size, height: int, width: int, stride: int, padding: int) -> bool:
    """Whether a convolution of H×W maps of a few pixels can be one matrix: by how large it is, and how full."""
    out_channels, in_channels, kernel, _ = weight
    before = height * width
    after = _pixels_out(height, kernel, stride, padding) * _pixels_out(width, kernel, stride, padding)
    return kernel > 1 and 0 < after <= _MOST_OUT and before * in_channels * after * out_channels <= _MOST_NUMBERS


def _seen(at: int, pixels: int, kernel: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Along one side: the input's pixels that an output pixel sees, and the kernel's that lie on them."""
    start = at * stride - padding
    inside = slice(max(0, start), min(pixels, start + kernel))
    return inside, slice(inside.start - start, inside.stop - start)


def matrix_of(weight: Tensor, height: int, width: int, stride: int, padding: int) -> Tensor:
    """The convolution of an H×W map: (height out·width out·out channels)×(H·W·in channels).

    A map that lies channels last, as one row, times its transpose is the output, channels last too.
    """
    out_channels, in_channels, kernel, _ = weight.shape
    rows, columns = (_pixels_out(side, kernel, stride, padding) for side in (height, width))
    by_pixel = weight.permute(0, 2, 3, 1)
    matrix = weight.new_zeros(rows, columns, out_channels, height, width, in_channels)
    for row in range(rows):
        down, of_kernel = _seen(row, height, kernel, stride, padding)
        for column in range(columns):
            across, along = _seen(column, width, kernel, stride, padding)
            matrix[row, column, :, down, across] = by_pixel[:, of_kernel, along]
    return matrix.view(rows * columns * out_channels, height * width * in_channels)


def _rows(x: Tensor) -> Tensor:
    """N×C×H×W, channels last → N×(H·W·C), the same memory."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1)


def _maps(rows: Tensor, height: int, width: int) -> Tensor:
    """N×(H·W·C) → N×C×H×W, channels last, the same memory."""
    return rows.view(len(rows), height, width, -1).permute(0, 3, 1, 2)


class SmallMapConvolution(torch.autograd.Function):
    """Convolution without bias of N×C×H×W, channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        height, width, kernel = *x.shape[2:], weight.shape[2]
        matrix = matrix_of(weight, height, width, stride, padding)
        ctx.save_for_backward(x, matrix)
        ctx.kernel, ctx.stride, ctx.padding = kernel, stride, padding
        rows, columns = (_pixels_out(side, kernel, stride, padding) for side in (height, width))
        return _maps(_rows(x) @ matrix.t(), rows, columns)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, matrix = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        needs_input, needs_weight = ctx.needs_input_grad[:2]
        for_input = _maps(_rows(gradient) @ matrix, *x.shape[2:]) if needs_input else None
        for_weight = _for_weight(x, gradient, ctx.kernel, ctx.stride, ctx.padding) if needs_weight else None
        return for_input, for_weight, None, None


def _for_weight(x: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    out_channels, height, width = gradient.shape[1:]
    if height * width > 1:
        return weight_gradient(x, gradient, kernel, stride, padding)
    # Each number of the matrix is of a weight of its own.
    in_channels = x.shape[1]
    (down, of_kernel), (across, along) = (_seen(0, side, kernel, stride, padding) for side in x.shape[2:])
    full = (_rows(gradient).t() @ _rows(x)).view(out_channels, *x.shape[2:], in_channels)
    by_pixel = gradient.new_zeros(out_channels, kernel, kernel, in_channels)
    by_pixel[:, of_kernel, along] = full[:, down, across]
    return by_pixel.permute(0, 3, 1, 2)
