"""Convolutions whose gradients are matrix products where oneDNN's own kernels are slow: bf16 on CPUs.

On a processor with AVX512-BF16, oneDNN's kernel for the gradient of the weights falls to a third of the machine's
matrix-product rate, and now and then to a fifth, where the output is a few pixels wide or the stride is 2; its kernel
for the gradient of the input does so for 1×1 convolutions of stride 2. There the patches are copied out (im2col) and
multiplied. ``benchmarks/convolutions.py`` measures both ways for each layer of a backbone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Largest output, in pixels, whose weights' gradient is a matrix product: by kernel (1 or more) and stride (1 or more).
_LARGEST_OUTPUT = {(1, 1): 36, (1, 2): 144, (3, 1): 16, (3, 2): 144}


def _patches(x: Tensor, kernel: int, stride: int, padding: int, height: int, width: int) -> Tensor:
    """N×C×H×W, channels last → (N·height·width)×(kernel·kernel·C): what each output pixel sees."""
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    n, _, _, channels = pixels.shape
    image, row, column, channel = pixels.stride()
    windows = pixels.as_strided(
        (n, height, width, kernel, kernel, channels), (image, row * stride, column * stride, row, column, channel)
    )
    return windows.reshape(n * height * width, kernel * kernel * channels)


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
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, out_channels)
        patches = _patches(x, kernel, stride, padding, *gradient.shape[2:])
        for_weight = (rows.t() @ patches).view(out_channels, kernel, kernel, in_channels).permute(0, 3, 1, 2)
        for_input = None
        if ctx.needs_input_grad[0] and kernel == 1:
            n, _, height, width = gradient.shape
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


class Bf16Conv2d(nn.Conv2d):
    """A convolution as ``nn.Conv2d``, with the gradients of this module where they are the faster ones."""

    def forward(self, input: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and self.weight.requires_grad and self._pays(input)):
            return super().forward(input)
        x = input.to(torch.bfloat16, memory_format=torch.channels_last)
        out: Tensor = _Convolution.apply(x, self.weight.to(torch.bfloat16), self.stride[0], int(self.padding[0]))
        return out

    def _pays(self, input: Tensor) -> bool:
        """Whether this is bf16 on a CPU, a plain convolution, and its output small."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        limit = _LARGEST_OUTPUT[1 if kernel == 1 else 3, 1 if stride == 1 else 2]
        pixels = ((input.shape[2] - 1) // stride + 1) * ((input.shape[3] - 1) // stride + 1)
        return (
            pixels <= limit
            and input.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.bfloat16
        )


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
    """Replace the plain convolutions of ``module`` (square kernel, no bias, groups or dilation), weights kept."""
    for child in module.modules():
        if type(child) is nn.Conv2d and _is_plain(child):
            child.__class__ = Bf16Conv2d
    return module
