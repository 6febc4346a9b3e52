"""What a run computes on, in which precision, and whether its network is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from twoviews.errors import SettingsError
from twoviews.processor import multiplies_in_bf16
from twoviews.trainers.progress import say

# Sizes of views that torch.compile makes code for; torch's 8 are fewer than growing views have.
_COMPILED_SIZES = 128


def choose_device(asked: str, processes: int = 1) -> str:
    """``auto`` becomes cuda, mps or cpu, by what is there.

    Raises:
        SettingsError: the device asked for is not there, or can't be shared by so many processes.
    """
    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    if asked == "auto":
        asked = "cuda" if has_cuda else "mps" if has_mps else "cpu"
    if asked == "mps" and has_mps and processes > 1:
        refusal = SettingsError(f"{processes} processes: there is one GPU behind mps; start one, or use --device cpu.")
        refusal.of_all = True
        raise refusal
    if (asked == "cuda" and not has_cuda) or (asked == "mps" and not has_mps):
        there = "mps and cpu" if has_mps else "cuda and cpu" if has_cuda else "cpu only"
        raise SettingsError(f"--device {asked}: not found on this machine, which has {there}; use --device auto.")
    return asked


def choose_precision(asked: str, device: str) -> str:
    """``auto`` becomes bf16 where the processor computes faster in it, else float32.

    Raises:
        SettingsError: fp16 without a GPU.
    """
    if asked == "fp16" and device != "cuda":
        raise SettingsError("--precision fp16 needs a CUDA GPU; use --precision auto.")
    if device == "cuda":
        has_bf16 = torch.cuda.get_device_capability()[0] >= 8  # Ampere and later; older cards emulate bf16 slowly
        if asked == "bf16" and not has_bf16:
            say("warning: --precision bf16: this GPU does not compute in bf16; where cuDNN finds no way, use fp16")
        if asked == "auto":
            return "bf16" if has_bf16 else "float32"
    if asked != "auto":
        return asked
    if device == "cpu":
        return "bf16" if multiplies_in_bf16() else "float32"
    return "float32"


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Within this block the CPU computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compile_for_sizes(module: nn.Module) -> Any:
    """The module compiled anew for each size of its input, however many views that grow come to.

    Sizes are few, and code for each is faster than code for all.
    Beyond its limit torch computes without compiled code, and what that gives differs in the last bits: a run that was
    stopped, which compiles the late sizes alone, would end as another.
    """
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, _COMPILED_SIZES)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, 8 * _COMPILED_SIZES)
    return torch.compile(module, dynamic=False)
