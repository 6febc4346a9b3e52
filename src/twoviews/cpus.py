"""How many processors there are to work with, and how threads wait on them. Loads no torch: decoders ask as well."""

from __future__ import annotations

import math
import os
import platform
from contextlib import suppress
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_WAITING = "OMP_WAIT_POLICY"
_OTHER_SAYS_ON_WAITING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# oneDNN's environment variables for the instructions it may use, and their values, later ones having more.
_ONEDNN_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_BELOW_BF16 = ("sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni")
_BELOW_AMX = (*_BELOW_BF16, "avx512_core_bf16", "avx512_core_fp16", "avx10_1_512", "avx10_2_512")
_BELOW = {"avx512_bf16": _BELOW_BF16, "amx_bf16": _BELOW_AMX}


def let_waiting_threads_sleep() -> None:
    """Threads that wait for the others of an operation sleep, unless the environment says how they wait.

    OpenMP's own default is to spin. Beside another busy process they then take the processor from the very thread that
    they wait for. A processor that multiplies in bf16 keeps that default: its operations are so short that waking up
    took 29 % of the speed (with AMX), and oneDNN's kernels for bf16 spin on their own. Libraries heed it that are
    loaded afterwards; results do not depend on it.
    """
    is_said = any(name in os.environ for name in (_WAITING, *_OTHER_SAYS_ON_WAITING))
    if not is_said and not _computes_in_bf16():
        os.environ[_WAITING] = "PASSIVE"


def _computes_in_bf16() -> bool:
    """As ``processor.multiplies_in_bf16``, from the system's word, on Linux; elsewhere it is not known.

    A system may name AMX and refuse it: then threads spin that had better sleep.
    """
    flags = said_of_processor("flags").split()
    avx512, amx = (name in flags and onednn_may_use(name) for name in _BELOW)
    return gains_by_bf16(avx512, amx)


def gains_by_bf16(avx512: bool, amx: bool) -> bool:
    """Whether products in bf16 are faster than in float32 on this processor, with what it has for them.

    Intel's that have AMX multiply in bf16 without it, where an older system or a virtual machine hides it, at 0.6 times
    the rate of float32 (measured on one); Cooper Lake, which has none, is taken to be like them.
    """
    return amx or (avx512 and not _is_made_by_intel())


def _is_made_by_intel() -> bool:
    return "GenuineIntel" in (said_of_processor("vendor_id") or platform.processor())


def onednn_may_use(instructions: str) -> bool:
    """Whether the environment leaves ``amx_bf16`` or ``avx512_bf16`` to oneDNN."""
    return onednn_limit() not in _BELOW[instructions]


def onednn_limit() -> str:
    """The newest instructions that oneDNN may use, as the environment names them, in small letters; "": all."""
    return next((os.environ[name].lower() for name in _ONEDNN_LIMITS if os.environ.get(name)), "")


def said_of_processor(key: str) -> str:
    """The system's word on the first processor, on Linux; elsewhere nothing."""
    with suppress(OSError), open(_CPUINFO, encoding="utf-8", errors="replace") as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith(key)), "")
    return ""


def usable_cpus() -> int:
    """Processors that this process may use; within a container, as many as its share of time comes to."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _share())))


def _share() -> float:
    """Processors' worth of time that a container's limit gives (Linux control groups, version 2 and 1), or infinity."""
    with suppress(OSError, ValueError):
        quota, period = (_GROUP / "cpu.max").read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (
            (_GROUP / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
        )
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf
