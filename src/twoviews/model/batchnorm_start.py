"""Getting BatchNorm's kernels (``batchnorm_kernels.py``): whether this process can have them, and on which threads.

They need numba, and its loops to run on the threads that PyTorch's run on.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_WIDTH = 256  # columns of a row at least, where the shape allows: several pixels of few channels, side by side


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

        set_threads()  # starts them
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


def was_forked() -> bool:
    """Whether this process was forked from one that had the kernels: it may not run them."""
    return _forked


def _say_why(error: Exception) -> None:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    warnings.warn(f"BatchNorm's kernels can't be compiled ({reason}); PyTorch's operations do it.", stacklevel=3)


@cache
def compiled_for(dtype: torch.dtype) -> bool:
    """Whether all kernels work on such maps: they are compiled here, and a full disk has room for none of it."""
    kernel = kernels()
    if kernel is None:
        return False
    rows, channel = rows_of(torch.zeros(2, 2, 1, 1, dtype=dtype)), torch.ones(2).numpy()
    per_channel, sums, floor = [channel] * 4, (channel.copy(), channel.copy()), np.float32(0)
    try:
        set_threads()
        kernel.moments(rows, *sums)
        for other in (None, rows):
            kernel.normalise(rows, other, *per_channel, floor, rows)
            for second in (None, rows):
                kernel.gradient_sums(rows, rows, second, other, *per_channel, floor, other, *sums)
            kernel.input_gradient(rows, rows, other, *per_channel, floor, *sums, rows)
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


def set_threads() -> None:
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
