"""BatchNorm with the addition of a shortcut and ReLU after it, as one operation on CPUs.

There they are passes over memory, and over a third of a step where products are fast. The kernels
(``batchnorm_kernels.py``) need numba, and its loops to run on the threads that PyTorch's run on; elsewhere, and for
what they are not made for, PyTorch's own operations do it. ``benchmarks/batchnorm_relu.py`` measures both ways.
"""

from __future__ import annotations

import math
import os
import warnings
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_WIDTH = 256  # columns of a row at least, where the shape allows: several pixels of few channels, side by side
_DTYPES = (torch.float32, torch.bfloat16)


@cache
def kernels() -> ModuleType | None:
    """The compiled kernels, or None where they can't be had or would not run on PyTorch's threads."""
    if not _torch_has_the_openmp_that_numba_loads():
        return None
    threads = torch.get_num_threads()
    try:
        import numba

        if numba.config.DISABLE_JIT:
            return None
        if numba.config.THREADING_LAYER == "default":
            numba.config.THREADING_LAYER = "omp"
        from twoviews.model import batchnorm_kernels

        _set_threads()  # starts them
        if numba.threading_layer() != "omp":
            return None
    except ImportError:
        return None
    except Exception as error:
        _say_why(error)
        return None
    finally:
        torch.set_num_threads(threads)  # numba starts with as many threads as there are processors, PyTorch's too
    os.register_at_fork(after_in_child=_note_fork)
    return batchnorm_kernels


_forked = False


def _note_fork() -> None:
    """GNU's OpenMP does not work in a process forked from one that used it, and numba ends such a process."""
    global _forked
    _forked = True


def _say_why(error: Exception) -> None:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    warnings.warn(f"BatchNorm's kernels can't be compiled ({reason}); PyTorch's operations do it.", stacklevel=3)


@cache
def _compiled_for(dtype: torch.dtype) -> bool:
    """Whether all kernels work on such maps: they are compiled here, and a full disk has room for none of it."""
    kernel = kernels()
    if kernel is None:
        return False
    rows, channel = rows_of(torch.zeros(2, 2, 1, 1, dtype=dtype)), torch.ones(2).numpy()
    per_channel, sums, floor = [channel] * 4, (channel.copy(), channel.copy()), np.float32(0)
    try:
        _set_threads()
        kernel.moments(rows, *sums)
        for other in (None, rows):
            kernel.normalise(rows, other, *per_channel, floor, rows)
            kernel.gradient_sums(rows, rows, other, *per_channel, floor, other, *sums)
        kernel.input_gradient(rows, rows, *per_channel, floor, *sums, rows)
    except Exception as error:
        _say_why(error)
        return False
    return True


def _torch_has_the_openmp_that_numba_loads() -> bool:
    """Whether this process has GNU's OpenMP under the name by which numba asks for it, as with PyTorch's Linux wheels.

    With an OpenMP of its own each, the threads of one would wait on the cores that the other's need.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return any("/libgomp.so." in line for line in maps)
    except OSError:
        return False


def rows_of(x: Tensor) -> Any:
    """N×C×H×W, channels last → the same memory as rows×width, width k·C; bf16 as uint16. It never copies."""
    n, channels, height, width = x.shape
    pixels, together = n * height * width, 1
    while together * channels < _WIDTH and pixels % (2 * together) == 0:
        together *= 2
    rows = x.detach().permute(0, 2, 3, 1).view(pixels // together, together * channels)
    return (rows.view(torch.uint16) if x.dtype == torch.bfloat16 else rows).numpy()


def _set_threads() -> None:
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


class _BatchNormReLU(torch.autograd.Function):
    """relu(batchnorm(x) + addend) by the batch's own moments, which come back too: mean and variance, C each."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, addend: Tensor | None, weight: Tensor, bias: Tensor, eps: float, floor: np.float32
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel = kernels()
        assert kernel is not None
        _set_threads()
        mean, variance, y = torch.empty_like(weight), torch.empty_like(weight), torch.empty_like(x)
        rows = rows_of(x)
        kernel.moments(rows, mean.numpy(), variance.numpy())
        inverse = torch.rsqrt(variance + eps)
        _normalise(kernel, rows, addend, (weight, bias, mean, inverse), floor, y)
        ctx.save_for_backward(x, None if addend is None else y, weight, bias, mean, inverse)
        ctx.floor = floor
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Hooks on saved tensors may have laid them out otherwise.
        x, y, *channels = ctx.saved_tensors
        x = x.contiguous(memory_format=torch.channels_last)
        y = None if y is None else y.contiguous(memory_format=torch.channels_last)
        kernel = kernels()
        assert kernel is not None
        _set_threads()
        upstream = rows_of(gradients[0].contiguous(memory_format=torch.channels_last))
        per_channel, floor = [channel.detach().numpy() for channel in channels], ctx.floor
        for_weight, for_bias, for_x = torch.empty_like(channels[0]), torch.empty_like(channels[0]), torch.empty_like(x)
        passed = None if y is None else torch.empty_like(x)
        rows, out, let_through = rows_of(x), *(None if t is None else rows_of(t) for t in (y, passed))
        sums = for_weight.numpy(), for_bias.numpy()
        kernel.gradient_sums(rows, upstream, out, *per_channel, floor, let_through, *sums)
        if let_through is not None:
            upstream, floor = let_through, np.float32(-math.inf)  # ReLU has been through
        kernel.input_gradient(rows, upstream, *per_channel, floor, *sums, rows_of(for_x))
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
    if not _takes_kernels(norm, x, relu, addend):
        out: Tensor = norm(x)
        if addend is not None:
            out += addend
        return out if relu is None else relu(out)
    assert isinstance(norm, nn.BatchNorm2d)
    floor = np.float32(-math.inf if relu is None else 0)
    x = x.contiguous(memory_format=torch.channels_last)
    if addend is not None:
        addend = addend.contiguous(memory_format=torch.channels_last)
    if _by_batch(norm):
        y: Tensor
        y, mean, variance = _BatchNormReLU.apply(x, addend, norm.weight, norm.bias, norm.eps, floor)
        _update_statistics(norm, mean, variance, x.numel() // x.shape[1])
        return y
    assert norm.running_mean is not None
    assert norm.running_var is not None
    kernel = kernels()
    assert kernel is not None
    _set_threads()
    y = torch.empty_like(x)
    inverse = torch.rsqrt(norm.running_var + norm.eps)
    _normalise(kernel, rows_of(x), addend, (norm.weight, norm.bias, norm.running_mean, inverse), floor, y)
    return y


def _takes_kernels(norm: nn.Module, x: Tensor, relu: nn.Module | None, addend: Tensor | None) -> bool:
    if type(norm) is not nn.BatchNorm2d or not (relu is None or type(relu) is nn.ReLU):
        return False
    if x.device.type != "cpu" or x.dim() != 4 or x.dtype not in _DTYPES or x.shape[1] != norm.num_features:
        return False
    if (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or _has_hooks(norm)
        or _has_hooks(relu)
    ):
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
    return is_float32 and x.numel() > 0 and not _forked and _compiled_for(x.dtype)


def _by_batch(norm: nn.BatchNorm2d) -> bool:
    """Whether the batch's own moments are taken, as ``nn.BatchNorm2d`` decides it."""
    return norm.training or norm.running_mean is None


def _has_hooks(module: nn.Module | None) -> bool:
    """Whether somebody wants to see what goes through the layer, as does the search for a first bad number."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return module is not None and any(getattr(module, kind) for kind in kinds)


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
