"""Where a pretraining step's time goes, by kind of operation: BatchNorm, ReLU, additions, convolutions and the rest.

    python benchmarks/step_profile.py [--backbone resnet18_w16] [--image-size 32] [--view-size 24] [--batch-size 256]

The step is the one of ``twoviews pretrain``, through the ``Stepper`` of its training loop, on random images (or those
of ``--data``), under torch's profiler. An operation's own time goes to the outermost one that has a kind: copies that a
convolution makes are the convolution's. One JSON line a kind: share of the step in percent, which make up 100, and
milliseconds; medians over ``--rounds`` of ``--steps`` steps, with the least and the most. On a GPU it is the time of
kernels that counts, of a step that is computed and not played back. The last line: milliseconds of a step with and
without the profiler, taken in turn. ``twoviews bench step`` splits the same step by its pieces instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from machine import machine
from our_step import prepare, task_and_optimizer, twoviews_loop
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile

from twoviews.trainers.steps import Batch, Scalars
from twoviews.trainers.task import Task

STEP, VIEWS, LOSS = "step", "views", "loss"
# The first kind of which a word is in an operation's name, in small letters.
KINDS = {
    "views": (VIEWS,),
    "InfoNCE": (LOSS, "_symmetric", "_strips"),
    "optimizer": ("optimizer.",),
    "BatchNorm": ("batch_norm", "batchnorm"),
    "convolutions": ("conv", "winograd"),
    "ReLU": ("relu", "threshold"),
    "additions": ("aten::add_", "addbackward"),
    "pooling": ("pool", "mean"),
    "linear layers": ("linear", "addmm", "mmbackward"),
}
REST, BETWEEN = "other operations", "between operations, and waiting for images"
EXACTLY = {VIEWS, LOSS, "aten::add_"}  # these words are whole names


def kind_of(event: Any) -> str | None:
    """The kind that an operation's own time belongs to; None outside of a step."""
    path = [event]
    while path[-1].cpu_parent is not None:
        path.append(path[-1].cpu_parent)
    if path[-1].name != STEP:
        return None
    if event.name == "aten::add" and "evaluate_function" in path[1].name:
        return "additions"  # autograd adds the gradients of a value that was used twice, under the last of its users
    for name in (one.name.lower() for one in reversed(path)):
        for kind, words in KINDS.items():
            if any(name == word if word in EXACTLY else word in name for word in words):
                return kind
        if name == "aten::add":
            return "additions"
    return BETWEEN if len(path) == 1 else REST


def in_regions(task: Task) -> Task:
    """The same task; what makes its views and its loss is marked for the profiler."""
    opened: list[record_function] = []

    def begin(name: str) -> None:
        opened.append(record_function(name))
        opened[-1].__enter__()

    def end() -> None:
        opened.pop().__exit__(None, None, None)

    def step(module: nn.Module, batch: Batch) -> tuple[Tensor, Scalars]:
        begin(VIEWS)
        found = task.step(module, batch)
        end()
        return found

    task.module.register_forward_pre_hook(lambda *_: end())
    task.module.register_forward_hook(lambda *_: begin(LOSS))
    return replace(task, step=step)


def milliseconds(stream: Iterator[Tensor], steps: int) -> float:
    """Of a step without the profiler."""
    started = time.perf_counter()
    losses = [next(stream) for _ in range(steps)]
    float(losses[-1])  # on a GPU: waits until it is there
    return 1e3 * (time.perf_counter() - started) / steps


def profiled(stream: Iterator[Tensor], steps: int, *, on_gpu: bool) -> dict[str, float]:
    """Milliseconds a step of each kind."""
    found: dict[str, float] = defaultdict(float)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            with record_function(STEP):
                loss = next(stream)
        float(loss)
    for event in profiler.events() or ():
        if event.device_type.name == "CPU" and (kind := kind_of(event)):
            spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            found[kind] += spent / 1e3 / steps
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18_w16")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--view-size", type=int, help="default: the image size")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data", help="sample, stl10, cifar10 or a folder, as for twoviews pretrain")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    same = ("backbone", "image_size", "view_size", "batch_size", "threads", "device", "precision")
    options = {name: getattr(arguments, name) for name in same}
    settings, shared = prepare(arguments.data, 4 * arguments.batch_size, **options, cuda_graphs=False)
    task, optimizer = task_and_optimizer(settings, shared)
    stream = twoviews_loop(settings, shared, in_regions(task), optimizer)()
    on_gpu = shared.engine.device.type == "cuda"
    milliseconds(stream, 2)
    profiled(stream, 1, on_gpu=on_gpu)
    plain, rounds = [], []
    for _ in range(arguments.rounds):
        plain.append(milliseconds(stream, arguments.steps))
        rounds.append(profiled(stream, arguments.steps, on_gpu=on_gpu))
    totals = [sum(one.values()) for one in rounds]
    rows = []
    for kind in [*KINDS, REST, BETWEEN]:
        spent = [one.get(kind, 0.0) for one in rounds]
        share = [100 * part / whole for part, whole in zip(spent, totals, strict=True)]
        rows.append({"kind": kind, **_spread("percent", share), **_spread("ms", spent)})
    for row in sorted(rows, key=lambda row: -row["percent"]):
        print(json.dumps(row), flush=True)
    last = {**vars(arguments), **_spread("profiled_ms", totals), **_spread("plain_ms", plain), **machine()}
    print(json.dumps(last | {key: shared.engine.describe()[key] for key in ("device", "gpu", "precision", "threads")}))


def _spread(name: str, values: list[float]) -> dict[str, Any]:
    ends = [round(min(values), 1), round(max(values), 1)]
    return {name: round(statistics.median(values), 1), f"{name}_least_and_most": ends}


if __name__ == "__main__":
    main()
