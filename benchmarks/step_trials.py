"""What was tried to make a pretraining step on a CPU faster, each timed in turn with what it would replace.

    python benchmarks/step_trials.py optimizer [--backbone resnet50] [--threads 2] [--repeats 15]
    python benchmarks/step_trials.py memory [--backbone resnet18_w16] [--image-size 32] [--view-size 24] [--repeats 28]

``optimizer``: an update of all weights by SGD with momentum, fused (taken) against ``foreach``. ``memory``: the step
where freed memory stays with the process (glibc's mallopt, so Linux alone; not taken) against the default, and how many
pages the system has to give in a step of each. One JSON line: medians of ``--repeats`` in milliseconds, and how many
times as fast the trial is, round by round.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from machine import machine
from our_step import prepare, task_and_optimizer, twoviews_loop
from torch import nn

from twoviews.settings import PretrainCommand
from twoviews.stages.backbones import new_backbone
from twoviews.trainers.optimizer import build_optimizer

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's numbers of what it sets
MOST, USUAL = 2**31 - 1, 2**25  # bytes; glibc lets the usual one grow to 2^25 by itself
Work = Callable[[], object]


def optimizer(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    settings = PretrainCommand(data="sample", backbone=arguments.backbone)
    both: list[Work] = []
    for fused in (True, False):
        backbone: nn.Module = new_backbone(settings, 96, seed=0)
        for parameter in backbone.parameters():
            parameter.grad = torch.randn_like(parameter)
        update = build_optimizer(backbone, settings, fused=fused)
        for group in update.param_groups:
            group["foreach"] = not fused
        both.append(update.step)
    yield {"backbone": arguments.backbone} | in_turn(both[0], both[1], arguments.repeats)


def memory(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    same = ("backbone", "image_size", "view_size", "batch_size", "threads")
    settings, shared = prepare(
        None, 4 * arguments.batch_size, device="cpu", **{name: getattr(arguments, name) for name in same}
    )
    stream = twoviews_loop(settings, shared, *task_and_optimizer(settings, shared))()
    from resource import RUSAGE_SELF, getrusage  # not on Windows

    libc = ctypes.CDLL(None)
    faults: dict[int, list[int]] = {MOST: [], USUAL: []}

    def step(threshold: int) -> None:
        before = getrusage(RUSAGE_SELF).ru_minflt
        next(stream)
        faults[threshold].append(getrusage(RUSAGE_SELF).ru_minflt - before)

    def switch(threshold: int) -> Work:
        def prepared() -> None:
            libc.mallopt(MMAP_THRESHOLD, threshold)
            libc.mallopt(TRIM_THRESHOLD, min(2 * threshold, MOST))
            next(stream)  # the first step after a change pays for what the other way left or gave back

        return prepared

    found = in_turn(lambda: step(MOST), lambda: step(USUAL), arguments.repeats, (switch(MOST), switch(USUAL)))
    pages = {name: round(statistics.median(faults[way])) for name, way in (("trial", MOST), ("usual", USUAL))}
    yield {name: getattr(arguments, name) for name in same} | found | {"pages_a_step": pages}


def in_turn(trial: Work, usual: Work, repeats: int, before: tuple[Work, Work] = (int, int)) -> dict[str, Any]:
    """Medians of both, and the median with the least and the most of the ratio in the same round."""
    spent: tuple[list[float], list[float]] = ([], [])
    both = list(zip(before, (trial, usual), spent, strict=True))
    for repeat in range(repeats + 1):
        for prepare_it, work, times in both[:: 1 if repeat % 2 else -1]:
            prepare_it()
            started = time.perf_counter()
            work()
            if repeat:
                times.append(1e3 * (time.perf_counter() - started))
    ratios = [b / a for a, b in zip(*spent, strict=True)]
    medians = [round(statistics.median(times), 2) for times in spent]
    ends = [round(min(ratios), 2), round(max(ratios), 2)]
    found = {"trial_ms": medians[0], "usual_ms": medians[1], "times_as_fast": round(statistics.median(ratios), 2)}
    return {**found, "least_and_most": ends}


def main() -> None:
    trials = {"optimizer": optimizer, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=trials)
    parser.add_argument("--backbone", help="default: resnet50 for optimizer, else resnet18_w16")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--view-size", type=int)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.backbone = arguments.backbone or ("resnet50" if arguments.trial == "optimizer" else "resnet18_w16")
    torch.set_num_threads(arguments.threads)
    for row in trials[arguments.trial](arguments):
        print(json.dumps({"trial": arguments.trial, **row}), flush=True)
    print(json.dumps({"repeats": arguments.repeats, "threads": arguments.threads, **machine()}))


if __name__ == "__main__":
    main()
