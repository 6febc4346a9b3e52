"""BatchNorm with the addition of a shortcut and ReLU after it, as one operation on CPUs.

There they are passes over memory, and a quarter to a third of a step where products are fast. The kernels
(``batchnorm_kernels.py``) need numba, and its loops to run on the threads that PyTorch's run on; elsewhere, and for
what they are not made for, PyTorch's own operations do it. ``benchmarks/batchnorm_relu.py`` measures both ways.
"""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType
from typing import Any

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

        x, channel = torch.zeros(1, 2, 1, 1), torch.zeros(2).numpy()
        batchnorm_kernels.moments(rows_of(x), channel, channel.copy())
        return batchnorm_kernels if numba.threading_layer() == "omp" else None
    except (ImportError, OSError, ValueError):  # no numba, nowhere to keep what it compiles, or no OpenMP for it
        return None
    finally:
        torch.set_num_threads(threads)  # numba starts with as many threads as there are processors, PyTorch's too


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
    """N×C×H×W, channels last → the same memory as rows×width, width k·C; bf16 as uint16."""
    n, channels, height, width = x.shape
    pixels, together = n * height * width, 1
    while together * channels < _WIDTH and pixels % (2 * together) == 0:
        together *= 2
    rows = x.detach().permute(0, 2, 3, 1).reshape(pixels // together, together * channels)
    return (rows.view(torch.uint16) if x.dtype == torch.bfloat16 else rows).numpy()


def _set_threads() -> None:
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


class _BatchNormReLU(torch.autograd.Function):
    """relu(batchnorm(x) + addend) by the batch's own moments, which come back too: mean and variance, C each."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, addend: Tensor | None, weight: Tensor, bias: Tensor, eps: float, floor: float
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
        x, y, *channels = ctx.saved_tensors
        kernel = kernels()
        assert kernel is not None
        _set_threads()
        upstream = rows_of(gradients[0].contiguous(memory_format=torch.channels_last))
        line, floor = [channel.detach().numpy() for channel in channels], ctx.floor
        for_weight, for_bias, for_x = torch.empty_like(channels[0]), torch.empty_like(channels[0]), torch.empty_like(x)
        passed = None if y is None else torch.empty_like(x)
        rows, out, let_through = rows_of(x), *(None if t is None else rows_of(t) for t in (y, passed))
        sums = for_weight.numpy(), for_bias.numpy()
        kernel.gradient_sums(rows, upstream, out, *line, floor, let_through, *sums)
        if let_through is not None:
            upstream, floor = let_through, -math.inf  # ReLU has been through
        kernel.input_gradient(rows, upstream, *line, floor, *sums, rows_of(for_x))
        return for_x, passed, for_weight, for_bias, None, None


def _normalise(
    kernel: ModuleType, rows: Any, addend: Tensor | None, channels: tuple[Tensor, ...], floor: float, y: Tensor
) -> None:
    line = [channel.detach().numpy() for channel in channels]
    kernel.normalise(rows, None if addend is None else rows_of(addend), *line, floor, rows_of(y))


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
    floor = -math.inf if relu is None else 0.0
    x = x.contiguous(memory_format=torch.channels_last)
    if addend is not None:
        addend = addend.contiguous(memory_format=torch.channels_last)
    if norm.training or norm.running_mean is None:
        y: Tensor
        y, mean, variance = _BatchNormReLU.apply(x, addend, norm.weight, norm.bias, norm.eps, floor)
        _update_statistics(norm, mean, variance, x.numel() // x.shape[1])
        return y
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
    if x.device.type != "cpu" or x.dim() != 4 or x.dtype not in _DTYPES or torch.compiler.is_compiling():
        return False
    if addend is not None and (addend.shape != x.shape or addend.dtype != x.dtype):
        return False
    by_batch = norm.training or norm.running_mean is None
    if by_batch and x.numel() <= x.shape[1]:
        return False  # PyTorch says why one value a channel is too few
    if not by_batch and torch.is_grad_enabled():
        return False  # a frozen layer that gradients pass
    is_float32 = norm.weight is not None and norm.weight.dtype == torch.float32
    return is_float32 and x.numel() > 0 and kernels() is not None


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
