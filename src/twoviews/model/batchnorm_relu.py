"""BatchNorm with the addition of a shortcut and ReLU after it, as one operation on CPUs.

There they are passes over memory, and over a third of a step where products are fast. Where the kernels
(``batchnorm_kernels.py``) can't be had (``batchnorm_start.py``), and for what they are not made for, PyTorch's own
operations do it. ``benchmarks/batchnorm_relu.py`` measures both ways.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook

from twoviews.model.batchnorm_start import compiled_for, kernels, rows_of, set_threads, was_forked

_DTYPES = (torch.float32, torch.bfloat16)


class _BatchNormReLU(torch.autograd.Function):
    """y = relu(batchnorm(x) + addend) by the batch's own moments.

    It gives y, y once more in the same memory, so that both gradients of what is used twice come here, and the moments:
    mean and variance, C each.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, addend: Tensor | None, weight: Tensor, bias: Tensor, eps: float, floor: np.float32
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kernel = kernels()
        assert kernel is not None
        set_threads()
        mean, variance, y = torch.empty_like(weight), torch.empty_like(weight), torch.empty_like(x)
        rows = rows_of(x)
        kernel.moments(rows, mean.numpy(), variance.numpy())
        inverse = torch.rsqrt(variance + eps)
        _normalise(kernel, rows, addend, (weight, bias, mean, inverse), floor, y)
        ctx.save_for_backward(x, None if addend is None else y, weight, bias, mean, inverse)
        ctx.floor = floor
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, variance)
        return y, y.view_as(y), mean, variance

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        # Hooks on saved tensors may have laid them out otherwise.
        x, y, *channels = ctx.saved_tensors
        x = x.contiguous(memory_format=torch.channels_last)
        y = None if y is None else y.contiguous(memory_format=torch.channels_last)
        kernel = kernels()
        assert kernel is not None
        set_threads()
        given = [each.contiguous(memory_format=torch.channels_last) for each in gradients[:2] if each is not None]
        if not given:
            return (None,) * 6
        upstream, second = rows_of(given[0]), rows_of(given[1]) if len(given) > 1 else None
        per_channel, floor = [channel.detach().numpy() for channel in channels], ctx.floor
        for_weight, for_bias, for_x = torch.empty_like(channels[0]), torch.empty_like(channels[0]), torch.empty_like(x)
        passed = None if y is None else torch.empty_like(x)
        rows, out, let_through = rows_of(x), *(None if t is None else rows_of(t) for t in (y, passed))
        sums = for_weight.numpy(), for_bias.numpy()
        kernel.gradient_sums(rows, upstream, second, out, *per_channel, floor, let_through, *sums)
        if let_through is not None:  # the sum of both, and ReLU has been through
            upstream, second, floor = let_through, None, np.float32(-math.inf)
        kernel.input_gradient(rows, upstream, second, *per_channel, floor, *sums, rows_of(for_x))
        return for_x, passed, for_weight, for_bias, None, None


def _normalise(
    kernel: ModuleType, rows: Any, addend: Tensor | None, channels: tuple[Tensor, ...], floor: np.float32, y: Tensor
) -> None:
    per_channel = [channel.detach().numpy() for channel in channels]
    kernel.normalise(rows, None if addend is None else rows_of(addend), *per_channel, floor, rows_of(y))


def batchnorm_relu(norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None = None) -> Tensor:
    """relu(norm(x) + addend), with ``norm``'s statistics kept as it keeps them.

    Args:
        norm: BatchNorm over C channels.
        x: N×C×H×W; it may be overwritten.
        relu: what follows, or None.
        addend: N×C×H×W or None.
    """
    return batchnorm_relu_for_two(norm, x, relu, addend)[0]


def batchnorm_relu_for_two(
    norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``batchnorm_relu`` for an output that two layers use: the same numbers twice, one for each of them.

    Their gradients then need no operation that adds them. A hook on either tensor sees that one's gradient alone.
    """
    if not _takes_kernels(norm, x, relu, addend):
        out: Tensor = norm(x)
        if addend is not None:
            out += addend
        out = out if relu is None else relu(out)
        return out, out
    assert isinstance(norm, nn.BatchNorm2d)
    floor = np.float32(-math.inf if relu is None else 0)
    x = x.contiguous(memory_format=torch.channels_last)
    if addend is not None:
        addend = addend.contiguous(memory_format=torch.channels_last)
    if _by_batch(norm):
        y, again, mean, variance = _BatchNormReLU.apply(x, addend, norm.weight, norm.bias, norm.eps, floor)
        _update_statistics(norm, mean, variance, x.numel() // x.shape[1])
        return y, again
    assert norm.running_mean is not None
    assert norm.running_var is not None
    kernel = kernels()
    assert kernel is not None
    set_threads()
    y = torch.empty_like(x)
    inverse = torch.rsqrt(norm.running_var + norm.eps)
    _normalise(kernel, rows_of(x), addend, (norm.weight, norm.bias, norm.running_mean, inverse), floor, y)
    return y, y


def _takes_kernels(norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None) -> bool:
    if type(norm) is not nn.BatchNorm2d or not (relu is None or type(relu) is nn.ReLU):
        return False
    if x.device.type != "cpu" or x.dim() != 4 or x.dtype not in _DTYPES or x.shape[1] != norm.num_features:
        return False
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if is_altered(norm) or is_altered(relu):
        return False
    if addend is not None and (addend.shape != x.shape or addend.dtype != x.dtype):
        return False
    if norm.weight is None or norm.bias is None:
        return False
    by_batch = _by_batch(norm)
    if by_batch and x.numel() <= x.shape[1]:
        return False  # PyTorch says why one value a channel is too few
    if not by_batch and torch.is_grad_enabled():
        return False  # a frozen layer that gradients may pass
    kept = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    is_float32 = all(t is None or t.dtype == torch.float32 for t in kept)
    return is_float32 and x.numel() > 0 and not was_forked() and compiled_for(x.dtype)


def _by_batch(norm: nn.BatchNorm2d) -> bool:
    """Whether the batch's own moments are taken, as ``nn.BatchNorm2d`` decides it."""
    return norm.training or norm.running_mean is None


def is_altered(module: nn.Module | None) -> bool:
    """Whether somebody hooks into the layer, or calls something in its place: then it has to be called.

    So it is with the search for a first bad number, with ``module.compile()`` and with a ``forward`` of its own.
    """
    if module is None:
        return False
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    has_hooks = any(getattr(module, kind) for kind in kinds) or _has_any_global_hook()
    return has_hooks or "forward" in vars(module) or module._compiled_call_impl is not None


def _update_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """As ``nn.BatchNorm2d``: the unbiased variance, by ``momentum``, or of all batches alike where it is None."""
    if not (norm.training and norm.track_running_stats) or norm.running_mean is None or norm.running_var is None:
        return
    with torch.no_grad():
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance * (count / (count - 1)), share)
