"""BatchNorm with the addition of a shortcut and ReLU after it, as one operation on CPUs.

There they are passes over memory, and over a third of a step where products are fast. Where the kernels
(``batchnorm_kernels.py``) can't be had (``batchnorm_start.py``), and for what they are not made for, PyTorch's own
operations do it. ``benchmarks/batchnorm_relu.py`` measures both ways.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook

from twoviews.model.batchnorm_start import KINDS, compiled_for, ready_kernels, was_forked

_RELU, _NO_FLOOR = np.float32(0), np.float32(-math.inf)


class _BatchNormReLU(torch.autograd.Function):
    """y = relu(batchnorm(x) + addend) by the batch's own moments; with ``twice`` y and y once more in the same memory.

    So both gradients of what is used twice come here. On small maps Python takes as long as the kernels do: each has
    one call for all that it does, and is given addresses.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, addend: Tensor | None, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d,
        floor: np.float32, twice: bool,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        channels = x.shape[1]
        pixels = x.numel() // channels
        y, moments = torch.empty_like(x), weight.new_empty(2, channels)
        ready_kernels().forward(
            KINDS[x.dtype], x.data_ptr(), _address(addend), y.data_ptr(), pixels, channels,
            weight.data_ptr(), bias.data_ptr(), floor, float(norm.eps), moments.data_ptr(), *_running(norm),
        )  # fmt: skip
        ctx.save_for_backward(x, None if addend is None else y, weight, bias, moments)
        ctx.floor, ctx.dtype = floor, x.dtype
        ctx.set_materialize_grads(False)
        return (y, y.view_as(y)) if twice else (y,)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [each.contiguous(memory_format=torch.channels_last) for each in gradients if each is not None]
        if not given:
            return (None,) * 7
        # Hooks on saved tensors may have laid them out otherwise, or given another kind of numbers.
        x, y, *channelwise = ctx.saved_tensors
        x = x.to(ctx.dtype).contiguous(memory_format=torch.channels_last)
        y = None if y is None else y.to(ctx.dtype).contiguous(memory_format=torch.channels_last)
        weight, bias, moments = (t.to(torch.float32).contiguous() for t in channelwise)
        channels = len(weight)
        for_x, for_weight, for_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
        passed = None if y is None else torch.empty_like(x)
        ready_kernels().backward(
            KINDS[x.dtype], x.data_ptr(), given[0].data_ptr(), _address(given[1] if len(given) > 1 else None),
            _address(y), _address(passed), x.numel() // channels, channels, weight.data_ptr(), bias.data_ptr(),
            ctx.floor, moments.data_ptr(), for_weight.data_ptr(), for_bias.data_ptr(), for_x.data_ptr(),
        )  # fmt: skip
        return for_x, passed, for_weight, for_bias, None, None, None


def _address(tensor: Tensor | None) -> int:
    """0 where there is none."""
    return 0 if tensor is None else tensor.data_ptr()


def _running(norm: nn.BatchNorm2d) -> tuple[float, int, int, int]:
    """The new moments' share in the running ones, below 0 where these stay, and where these and their number lie.

    As ``nn.BatchNorm2d`` has it: by ``momentum``, or of all batches alike where it is None.
    """
    if not _counts(norm):
        return -1.0, 0, 0, 0
    mean, variance, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None
    assert variance is not None
    assert count is not None
    share = 1 / (float(count) + 1) if norm.momentum is None else float(norm.momentum)
    return share, mean.data_ptr(), variance.data_ptr(), count.data_ptr()


def batchnorm_relu(norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None = None) -> Tensor:
    """relu(norm(x) + addend), with ``norm``'s statistics kept as it keeps them.

    Args:
        norm: BatchNorm over C channels.
        x: N×C×H×W; it may be overwritten.
        relu: what follows, or None.
        addend: N×C×H×W or None.
    """
    return _batchnorm_relu(norm, x, relu, addend, False)[0]


def batchnorm_relu_for_two(
    norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``batchnorm_relu`` for an output that two layers use: the same numbers twice, one for each of them.

    Their gradients then need no operation that adds them. A hook on either tensor sees that one's gradient alone.
    """
    outputs = _batchnorm_relu(norm, x, relu, addend, True)
    return outputs[0], outputs[-1]


def _batchnorm_relu(
    norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None, twice: bool
) -> tuple[Tensor, ...]:
    if not _takes_kernels(norm, x, relu, addend):
        out: Tensor = norm(x)
        if addend is not None:
            out += addend
        return (out if relu is None else relu(out),)
    assert isinstance(norm, nn.BatchNorm2d)
    floor = _NO_FLOOR if relu is None else _RELU
    x = x.contiguous(memory_format=torch.channels_last)
    if addend is not None:
        addend = addend.contiguous(memory_format=torch.channels_last)
    if _by_batch(norm):
        outputs: tuple[Tensor, ...] = _BatchNormReLU.apply(x, addend, norm.weight, norm.bias, norm, floor, twice)
        return outputs
    assert norm.running_mean is not None
    assert norm.running_var is not None
    y, channels = torch.empty_like(x), x.shape[1]
    ready_kernels().evaluated(
        KINDS[x.dtype], x.data_ptr(), _address(addend), y.data_ptr(),
        x.numel() // channels, channels, norm.weight.data_ptr(), norm.bias.data_ptr(), floor, float(norm.eps),
        norm.running_mean.data_ptr(), norm.running_var.data_ptr(),
    )  # fmt: skip
    return (y,)


def _takes_kernels(norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None) -> bool:
    if type(norm) is not nn.BatchNorm2d or not (relu is None or type(relu) is nn.ReLU):
        return False
    if not _is_plain(x) or x.dim() != 4 or x.dtype not in KINDS or x.shape[1] != norm.num_features:
        return False
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if is_altered(norm) or is_altered(relu):
        return False
    if addend is not None and (not _is_plain(addend) or addend.shape != x.shape or addend.dtype != x.dtype):
        return False
    by_batch = _by_batch(norm)
    if by_batch and x.numel() <= x.shape[1]:
        return False  # PyTorch says why one value a channel is too few
    if not by_batch and torch.is_grad_enabled():
        return False  # a frozen layer that gradients may pass
    return _has_what_is_read(norm) and x.numel() > 0 and not was_forked() and compiled_for(x.dtype)


def _has_what_is_read(norm: nn.BatchNorm2d) -> bool:
    """Whether the kernels may go by the addresses of its weights and statistics; else PyTorch says what is wrong."""
    has_none = norm.running_mean is None and norm.running_var is None
    for tensor in (norm.weight, norm.bias, *(() if has_none else (norm.running_mean, norm.running_var))):
        if tensor is None or not _is_plain(tensor) or tensor.dtype != torch.float32 or not tensor.is_contiguous():
            return False
        if tensor.numel() != norm.num_features:
            return False
    count = norm.num_batches_tracked
    return not _counts(norm) or (count is not None and _is_plain(count) and count.dtype == torch.int64)


def _counts(norm: nn.BatchNorm2d) -> bool:
    """Whether its running moments follow the batch's."""
    return norm.training and norm.track_running_stats and norm.running_mean is not None


def _is_plain(tensor: Tensor) -> bool:
    """Whether its address is that of its numbers, in this process's memory: it is no stand-in for another."""
    return type(tensor) in (Tensor, nn.Parameter) and tensor.is_cpu


def _by_batch(norm: nn.BatchNorm2d) -> bool:
    """Whether the batch's own moments are taken, as ``nn.BatchNorm2d`` decides it."""
    return norm.training or norm.running_mean is None


def is_altered(module: nn.Module | None) -> bool:
    """Whether somebody hooks into the layer, or calls something in its place: then it has to be called.

    So it is with the search for a first bad number, with ``module.compile()`` and with a ``forward`` of its own.
    """
    if module is None:
        return False
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    if hooks or "forward" in vars(module) or module._compiled_call_impl is not None:
        return True
    return bool(_has_any_global_hook())
