"""What was tried to make a pretraining step on a CPU faster, each timed in turn with what it would replace.

    python benchmarks/step_trials.py optimizer [--backbone resnet50] [--threads 2] [--repeats 15]
    python benchmarks/step_trials.py memory [--backbone resnet18_w16] [--image-size 32] [--view-size 24] [--repeats 28]

``optimizer``: an update of all weights by SGD with momentum, fused (taken) against ``foreach``. ``memory``: the step
where freed memory stays with the process (trainers/heap.py; Linux with glibc; taken) against the C library's default,
each time in a process of its own: milliseconds of a step, pages that the system has to give in it, and the process's
greatest memory in MiB. The last line but one: medians of ``--repeats``, and how many times as fast the trial is, round
by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from machine import machine
from our_step import prepare, task_and_optimizer, twoviews_loop
from torch import nn

from twoviews.settings import PretrainCommand
from twoviews.stages.backbones import new_backbone
from twoviews.trainers.heap import SAYS_ON_IT
from twoviews.trainers.optimizer import build_optimizer

SAME = ("backbone", "image_size", "view_size", "batch_size", "threads")
FIGURES = ("ms", "pages", "peak_mib")
OWN_WORD = {"GLIBC_TUNABLES": "glibc.malloc.check=0"}  # the default; a user's word on malloc is left to stand
SILENT = {name: value for name, value in os.environ.items() if name not in (*SAYS_ON_IT, *OWN_WORD)}
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
    """Both ways in turn, each time in a process of its own: a heap that was kept once is not the usual one any more."""
    found: dict[str, list[dict[str, float]]] = {"kept": [], "usual": []}
    for repeat in range(arguments.repeats):
        for way, rows in list(found.items())[:: 1 if repeat % 2 else -1]:
            options = [
                f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in SAME if vars(arguments)[name]
            ]
            called = [sys.executable, __file__, "steps", *options, f"--steps={arguments.steps}"]
            environment = SILENT | ({} if way == "kept" else OWN_WORD)
            done = subprocess.run(called, env=environment, check=True, capture_output=True, text=True)
            row = json.loads(done.stdout.splitlines()[0])
            rows.append({key: row[key] for key in FIGURES})
            yield {"way": way, **rows[-1]}
    ratios = [usual["ms"] / kept["ms"] for kept, usual in zip(found["kept"], found["usual"], strict=True)]
    medians = {
        way: {key: statistics.median(row[key] for row in rows) for key in FIGURES} for way, rows in found.items()
    }
    yield {name: getattr(arguments, name) for name in SAME} | medians | spread(ratios)


def steps(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A process of ``memory``: the median of so many steps, after three."""
    from resource import RUSAGE_SELF, getrusage  # not on Windows

    options = {name: getattr(arguments, name) for name in SAME}
    settings, shared = prepare(None, 4 * arguments.batch_size, device="cpu", **options)
    stream = twoviews_loop(settings, shared, *task_and_optimizer(settings, shared))()
    for _ in range(3):
        next(stream)
    spent, pages = [], []
    for _ in range(arguments.steps):
        before, started = getrusage(RUSAGE_SELF).ru_minflt, time.perf_counter()
        next(stream)
        spent.append(1e3 * (time.perf_counter() - started))
        pages.append(getrusage(RUSAGE_SELF).ru_minflt - before)
    values = statistics.median(spent), statistics.median(pages), getrusage(RUSAGE_SELF).ru_maxrss / 1024
    yield dict(zip(FIGURES, (round(value, 1) for value in values), strict=True))


def in_turn(trial: Work, usual: Work, repeats: int, before: tuple[Work, Work] = (int, int)) -> dict[str, Any]:
    """Medians of both in milliseconds, and the ratio in the same round."""
    spent: tuple[list[float], list[float]] = ([], [])
    both = list(zip(before, (trial, usual), spent, strict=True))
    for repeat in range(repeats + 1):
        for prepare_it, work, times in both[:: 1 if repeat % 2 else -1]:
            prepare_it()
            started = time.perf_counter()
            work()
            if repeat:
                times.append(1e3 * (time.perf_counter() - started))
    medians = [round(statistics.median(times), 2) for times in spent]
    ratios = [b / a for a, b in zip(*spent, strict=True)]
    return {"trial_ms": medians[0], "usual_ms": medians[1], **spread(ratios)}


def spread(ratios: list[float]) -> dict[str, Any]:
    ends = [round(min(ratios), 2), round(max(ratios), 2)]
    return {"times_as_fast": round(statistics.median(ratios), 2), "least_and_most": ends}


def main() -> None:
    trials = {"optimizer": optimizer, "memory": memory, "steps": steps}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=trials)
    parser.add_argument("--backbone", help="default: resnet50 for optimizer, else resnet18_w16")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--view-size", type=int)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="of each process of memory")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.backbone = arguments.backbone or ("resnet50" if arguments.trial == "optimizer" else "resnet18_w16")
    torch.set_num_threads(arguments.threads)
    for row in trials[arguments.trial](arguments):
        print(json.dumps({"trial": arguments.trial, **row}), flush=True)
    print(json.dumps({"repeats": arguments.repeats, "threads": arguments.threads, **machine()}))


if __name__ == "__main__":
    main()
