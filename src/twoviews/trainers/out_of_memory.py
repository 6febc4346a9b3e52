"""Which errors say that memory ran out."""

from __future__ import annotations

import torch

_SIGNS = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "ALLOC_FAILED", "bad allocation")
# What oneDNN and cuDNN say where they get no memory, and for other reasons too: memory it was if a small batch works.
_DOUBTFUL = (
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory",
    "unable to find an engine to execute",
)


def is_out_of_memory(error: BaseException, *, surely: bool = False) -> bool:
    """Whether an allocation failed, on a GPU or a CPU, or may have; ``surely``: whether it can be nothing else."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    signs = _SIGNS if surely else (*_SIGNS, *_DOUBTFUL)
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
