"""Getting BatchNorm's kernels (``batchnorm_kernels.py``): whether this process can have them, and on which threads.

They need numba, and its loops to run on the threads that PyTorch's run on.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from types import ModuleType

import numpy as np
import torch

from twoviews.errors import first_line

# What the kernels are told of a map's numbers: they read bf16 as its bits.
KINDS = {torch.float32: np.float32(0), torch.bfloat16: np.uint16(0)}


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
    warnings.warn(
        f"BatchNorm's kernels can't be compiled ({first_line(error)}); PyTorch's operations do it.", stacklevel=3
    )


@cache
def compiled_for(dtype: torch.dtype) -> bool:
    """Whether all kernels work on such maps: they are compiled here, and a full disk has room for none of it."""
    kernel = kernels()
    if kernel is None:
        return False
    maps = torch.zeros(8, dtype=dtype, device="cpu")  # whatever the defaults are: the kernels take addresses
    channels = torch.ones(12, dtype=torch.float32, device="cpu")
    kind, x, c = KINDS[dtype], maps.data_ptr(), channels.data_ptr()
    shape, floor = (4, 2), np.float32(0)
    try:
        set_threads()
        for other in (0, x):
            kernel.forward(kind, x, other, x, *shape, c, c, floor, 0.1, c + 16, -1.0, 0, 0, 0)
            kernel.evaluated(kind, x, other, x, *shape, c, c, floor, 0.1, c, c)
            for second in (0, x):
                kernel.backward(kind, x, x, second, other, other, *shape, c, c, floor, c + 16, c + 32, c + 40, x)
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


def set_threads() -> None:
    """Let the kernels run on as many threads as PyTorch's operations do, where they are called from here."""
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


def ready_kernels() -> ModuleType:
    """The kernels, on PyTorch's threads; to be asked where there are any."""
    kernel = kernels()
    assert kernel is not None
    set_threads()
    return kernel
