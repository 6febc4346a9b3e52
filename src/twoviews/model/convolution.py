"""Convolutions for CPUs: other ways where oneDNN's own kernels are slow, or multiply more than they need to.

oneDNN's kernels for the gradient of the weights fall to a third of the machine's matrix-product rate, and to a tenth,
where the output is a few pixels wide or the stride is 2: in bf16 on processors with AVX512-BF16 or AMX, in float32 on
those with AVX2 or AVX-512. Its kernels for the gradient of the input do so for 1×1 convolutions of stride 2. There the
patches are copied out (im2col) and multiplied. In float32, 3×3 convolutions of many channels take fewer multiplications
(``winograd.py``); in float32 and with AMX a convolution of a few pixels is one matrix (``small_maps.py``).
``benchmarks/convolutions.py`` measures both ways for each layer of a backbone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twoviews.model import small_maps, winograd
from twoviews.model.windows import weight_gradient
from twoviews.processor import multiplies_in_tiles, widest_vectors


class _Ways(NamedTuple):
    """Which ways pay in a precision on a kind of processor.

    ``products``: where the gradient of the weights is a matrix product, by kernel and stride (1, or more): the most
    pixels of the output and the fewest input channels. ``one_matrix``: the most pixels of an input whose convolution
    is one, and the fewest images to make it for. ``fewer_products``: where Winograd's way is taken.
    """

    products: dict[tuple[int, int], tuple[int, int]]
    one_matrix: tuple[int, int] = (0, 0)
    fewer_products: winograd.Limits | None = None


_BF16 = _Ways({(1, 1): (36, 1), (1, 2): (144, 1), (3, 1): (16, 1), (3, 2): (144, 1)})
# Of one image too: with AMX oneDNN's gradient of the weights reads memory that nobody wrote where the stride is larger
# than the map.
_BF16_AMX = _Ways({(1, 1): (36, 1), (1, 2): (144, 64), (3, 1): (16, 1), (3, 2): (36, 64)}, (16, 1))
_FLOAT32 = {
    "AVX2": _Ways(
        {(1, 1): (36, 1), (1, 2): (16, 1), (3, 1): (9, 256), (3, 2): (16, 256)},
        (4, 16),
        winograd.Limits(several=((0.34, 128 * 128),), one=64 * 64, channels_a_tile=8),
    ),
    "AVX512": _Ways(
        {(1, 1): (16, 512), (1, 2): (36, 128), (3, 1): (9, 512), (3, 2): (9, 256)},
        (4, 16),
        winograd.Limits(several=((0.26, 128 * 128), (0.32, 256 * 256)), one=64 * 128, channels_a_tile=4),
    ),
}


class _Convolution(torch.autograd.Function):
    """Convolution without bias, channels last; the gradient of the weights is one matrix product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        out_channels, in_channels, kernel, _ = weight.shape
        for_weight = weight_gradient(x, gradient, kernel, stride, padding)
        for_input = None
        # In float32 oneDNN is the faster one without a stride.
        if ctx.needs_input_grad[0] and kernel == 1 and (stride > 1 or x.dtype == torch.bfloat16):
            n, _, height, width = gradient.shape
            rows = gradient.permute(0, 2, 3, 1).reshape(-1, out_channels)
            small = (rows @ weight.view(out_channels, in_channels)).view(n, height, width, in_channels)
            for_input = small.permute(0, 3, 1, 2)
            if stride > 1:
                for_input = torch.zeros_like(x, memory_format=torch.channels_last)
                for_input[:, :, ::stride, ::stride] = small.permute(0, 3, 1, 2)
        elif ctx.needs_input_grad[0]:
            for_input = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        return for_input, for_weight, None, None


class CpuConv2d(nn.Conv2d):
    """A convolution as ``nn.Conv2d``, in one of the other ways where that is faster."""

    def forward(self, input: Tensor) -> Tensor:
        ways = _ways(input, self.weight)
        if ways is None:
            return super().forward(input)
        way: type[torch.autograd.Function]
        if self._is_one_matrix(input, *ways.one_matrix):
            way = small_maps.SmallMapConvolution
        elif ways.fewer_products is not None and self._takes_fewer_products(input, ways.fewer_products):
            fewer: Tensor = winograd.Winograd.apply(input, self.weight)
            return fewer
        elif torch.is_grad_enabled() and self.weight.requires_grad and self._multiplies_patches(input, ways):
            way = _Convolution
        else:
            return super().forward(input)
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else input.dtype
        x = input.to(dtype, memory_format=torch.channels_last)
        out: Tensor = way.apply(x, self.weight.to(dtype), *self._step())
        return out

    def _step(self) -> tuple[int, int]:
        return self.stride[0], int(self.padding[0])

    def _takes_fewer_products(self, input: Tensor, limits: winograd.Limits) -> bool:
        is_kind = (self.kernel_size[0], self.stride[0]) == (3, 1)
        # A compiler can't look into it, and would warn.
        return is_kind and not torch.compiler.is_compiling() and winograd.pays(self.out_channels, input.shape, limits)

    def _is_one_matrix(self, input: Tensor, most_pixels: int, fewest_images: int) -> bool:
        images, _, height, width = input.shape
        is_kind = 0 < height * width <= most_pixels and images >= fewest_images
        is_plain = is_kind and not torch.compiler.is_compiling()
        return is_plain and small_maps.pays(self.weight.shape, height, width, *self._step())

    def _multiplies_patches(self, input: Tensor, ways: _Ways) -> bool:
        kernel, stride = self.kernel_size[0], self.stride[0]
        largest, channels = ways.products[1 if kernel == 1 else 3, 1 if stride == 1 else 2]
        pixels = ((input.shape[2] - 1) // stride + 1) * ((input.shape[3] - 1) // stride + 1)
        return pixels <= largest and self.in_channels >= channels


def _ways(input: Tensor, weight: Tensor) -> _Ways | None:
    """What holds for these on this processor; None: oneDNN does it all, or says what is wrong."""
    if input.device.type != "cpu" or input.dim() != 4 or input.shape[1] != weight.shape[1]:
        return None
    if torch.is_autocast_enabled("cpu"):
        if torch.get_autocast_dtype("cpu") != torch.bfloat16:
            return None
        return _BF16_AMX if multiplies_in_tiles() else _BF16
    return _FLOAT32.get(widest_vectors()) if input.dtype == weight.dtype == torch.float32 else None


def _is_plain(conv: nn.Conv2d) -> bool:
    kernel, stride, padding = conv.kernel_size, conv.stride, conv.padding
    return (
        conv.bias is None
        and conv.groups == 1
        and tuple(conv.dilation) == (1, 1)
        and conv.padding_mode == "zeros"
        and kernel[0] == kernel[1]
        and stride[0] == stride[1]
        and padding in ((kernel[0] // 2,) * 2, [kernel[0] // 2] * 2)
    )


def speed_up_convolutions(module: nn.Module) -> nn.Module:
    """Replace the plain convolutions of ``module`` (square kernel, no bias, groups or dilation), weights kept.

    Some of their ways can be differentiated once.
    """
    for child in module.modules():
        if type(child) is nn.Conv2d and _is_plain(child):
            child.__class__ = CpuConv2d
    return module
