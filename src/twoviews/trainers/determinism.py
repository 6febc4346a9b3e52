"""``--deterministic``: on a GPU only operations that give the same bits every time, and what is said where one can't.

On a CPU a run repeats bit for bit in any case, with the same number of threads. On a GPU sums may be taken in another
order at every start (atomic additions, cuBLAS's workspaces, the algorithm that cuDNN finds fastest), so two runs of one
seed, or a run that was stopped and its twin that was not, end with other last bits. torch can be told to use nothing of
that kind (https://docs.pytorch.org/docs/stable/notes/randomness.html): the same bits then hold for one card, driver and
build of torch. On an H100 no operation of a ResNet, with the pooling stem or the small one, was refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from twoviews.errors import SettingsError

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_REPEATS = (":4096:8", ":16:8")  # workspaces with which cuBLAS sums in one order; the first is the faster
_ERROR = 2  # torch's mode in which an operation without such a form is an error (0: nothing, 1: a warning)
_NO_FORM = re.compile(r"(\S+) does not have a deterministic implementation")
_CUBLAS_TOO_LATE = re.compile(r"not deterministic because it uses CuBLAS")

# Torch's mode, and cuDNN's flags, from before a run of this process asked for the same bits.
_before: tuple[int, bool, bool] | None = None


def repeats_bits(deterministic: bool, device: str) -> bool:
    """Whether one command, given twice on this kind of device, ends with the same bits."""
    return device == "cpu" or (device == "cuda" and deterministic)


def seed_generators(seed: int, device: torch.device) -> None:
    """``torch.manual_seed`` for the CPU and, of GPUs, this process's current one alone.

    For each kind of GPU that a process does not use, that one notes the call's whole stack: 0.2 ms at every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def choose_algorithms(deterministic: bool, device: str) -> None:
    """Tell torch which operations it may use, before the device's first one; a run without the wish undoes another's.

    cuBLAS reads its workspaces from the environment when it is first used, so they are set here, unless the user has
    set some that repeat. A CPU needs nothing and gets nothing.

    Args:
        deterministic: ``--deterministic``.
        device: cpu, cuda or mps.

    Raises:
        SettingsError: torch has no such promise for the device.
    """
    global _before
    if deterministic and device == "mps":
        raise SettingsError(
            "--deterministic: PyTorch has no such operations for mps; leave it out, or use --device cpu."
        )
    if deterministic and device == "cuda":
        if _before is None:
            _before = _flags()
        if os.environ.get(CUBLAS) not in CUBLAS_REPEATS:
            os.environ[CUBLAS] = CUBLAS_REPEATS[0]
        _set_flags(_ERROR, cudnn_deterministic=True, cudnn_benchmark=False)
    elif _before is not None:
        _set_flags(*_before)
        _before = None


def what_it_does(device: str) -> str:
    """A line for the log of a run with ``--deterministic``."""
    if device == "cpu":
        return "--deterministic: changes nothing here, a CPU repeats a run bit for bit (with as many threads)"
    return "--deterministic: only operations that repeat bit for bit, which may be slower"


@contextmanager
def naming_operations() -> Iterator[None]:
    """Work on the device; what torch says of an operation that has no deterministic form becomes one line of ours.

    Raises:
        SettingsError: instead of torch's RuntimeError; any other error passes.
    """
    try:
        yield
    except RuntimeError as error:
        text = _refusal(str(error))
        if text is None:
            raise
        refusal = SettingsError(text)
        refusal.of_all = True  # every process of a run takes the same steps and comes to the same operation
        raise refusal from error


def _refusal(message: str) -> str | None:
    """What to say of torch's message, or None where it is about something else."""
    operation = _NO_FORM.search(message)
    if operation is not None:
        return (
            f"--deterministic: {operation[1]} has no form that repeats bit for bit on this GPU: leave --deterministic "
            "out, or use a --backbone without this operation."
        )
    if _CUBLAS_TOO_LATE.search(message):
        return (
            f"--deterministic: cuBLAS was used in this process before; start Python with {CUBLAS}={CUBLAS_REPEATS[0]}, "
            "or leave --deterministic out."
        )
    return None


def _flags() -> tuple[int, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.get_deterministic_debug_mode(), cudnn.deterministic, cudnn.benchmark


def _set_flags(mode: int, cudnn_deterministic: bool, cudnn_benchmark: bool) -> None:
    # use_deterministic_algorithms does the same and loads torch's compiler, seconds for something not used here.
    torch.set_deterministic_debug_mode(mode)
    torch.backends.cudnn.deterministic = cudnn_deterministic
    torch.backends.cudnn.benchmark = cudnn_benchmark
