"""What each process of ``study --jobs`` has of the machine: its threads, or its GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from twoviews.cpus import usable_cpus
from twoviews.settings import StudyCommand
from twoviews.trainers.engine import Engine

# Libraries that count processors by themselves read these when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GPUS = "CUDA_VISIBLE_DEVICES"
_AMD_S_GPUS = "HIP_VISIBLE_DEVICES"  # which there comes before the other


def threads_of_part(settings: StudyCommand, engine: Engine) -> int:
    """CPU threads of one part: as asked for, or its share."""
    return settings.threads or max(1, engine.threads // settings.jobs)


def at_full_speed(settings: StudyCommand, engine: Engine) -> int:
    """How many parts at once take as long as one: those that have a GPU each, or processors for all their threads."""
    kind = engine.device.type
    if kind == "cpu":
        there = usable_cpus() // threads_of_part(settings, engine)
    else:
        there = torch.cuda.device_count() if kind == "cuda" else 1
    return max(1, min(settings.jobs, there))


def two_at_once_pay(settings: StudyCommand, engine: Engine) -> bool:
    """Whether a study that does one part after another has processors or GPUs for two."""
    alone = settings.jobs == 1 and engine.world_size == 1
    return alone and at_full_speed(settings.model_copy(update={"jobs": 2}), engine) > 1


def share_of(settings: StudyCommand, engine: Engine) -> dict[str, Any]:
    """The settings of a process that are its own."""
    share: dict[str, Any] = {"threads": threads_of_part(settings, engine)}
    if engine.device.type == "cuda":
        # GPUs of several kinds, or one that can't be had, must not make two parts differ in what they compute.
        share |= {"device": "cuda", "precision": engine.precision}
    return share


@contextmanager
def environment_of(number: int, threads: int | None, engine: Engine) -> Iterator[None]:
    """What the process of this number finds in its environment when it starts within this block."""
    changed = dict.fromkeys(_THREADS, str(threads))
    if engine.device.type == "cuda":
        variable = _AMD_S_GPUS if torch.version.hip and _AMD_S_GPUS in os.environ else _GPUS
        gpus = _visible_gpus(os.environ.get(variable, ""))
        changed[variable] = gpus[number % len(gpus)]
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _visible_gpus(named_here: str) -> list[str]:
    """The GPUs of this process by number or name, as the environment of another can name them."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in named_here.split(",")]
    if not named[0]:
        return [str(number) for number in range(count)]
    # Of MIG instances CUDA shows a process one at most. Of other names it stops at the first that is none, such as -1.
    return named if named[0].startswith("MIG-") else named[:count]
