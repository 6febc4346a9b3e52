"""The whole pretraining step, data and views included: twoviews beside lightly's loop and a plain tutorial loop.

    python benchmarks/against_lightly.py --backbone resnet50 --image-size 96 --batch-size 32
    python benchmarks/against_lightly.py --backbone resnet18_w16 --image-size 32 --batch-size 256

Four loops train the same backbone on the same images in one process, taken in turn round by round: lightly as its
README writes SimCLR, with a DataLoader worker for each core and with none; torchvision's PIL transforms and one
concatenated forward, with workers; and twoviews' own task through the ``Stepper`` that its training loop calls at each
step. Each round starts a loop's DataLoader anew, lets it run ``--warmup`` steps untimed, times ``--steps`` steps in the
middle of it, and ends its workers, so that nothing of one loop runs while another is timed.

One JSON line a loop and round: images/s (an image has two views) and the mean loss. The last line: medians, least and
most, and twoviews' images/s over each other's in the same round. Images: those of DATA (the bundled sample at
32 pixels), or random ones where none are named. Needs ``pip install -e '.[benchmark]'``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import torch
from machine import machine
from our_step import Loop, prepare, task_and_optimizer, twoviews_loop
from peers import lightly_dataset, lightly_peer, loader, tutorial_dataset, tutorial_peer

from twoviews.settings import PretrainCommand
from twoviews.stages.backbones import new_backbone
from twoviews.stages.setup import Shared
from twoviews.trainers.engine import Engine

IN_FLIGHT = 2  # batches that each DataLoader worker prepares ahead


def make_loops(arguments: argparse.Namespace, settings: PretrainCommand, shared: Shared) -> dict[str, Loop]:
    """Each loop by its name; all start from the same weights of the backbone."""
    pixels, device, size = shared.splits.unlabeled.read(slice(None)), shared.engine.device, arguments.image_size
    workers = arguments.workers
    # More batches than are used: workers that have run out of work would leave the cores to the last steps.
    batches = arguments.warmup + arguments.steps + IN_FLIGHT * workers + 1
    options = {"cj_prob": 0.5}  # the README's
    loops: dict[str, Loop] = {}
    for count in (workers, 0):
        data = loader(lightly_dataset(pixels, size, **options), arguments.batch_size, count, device, batches)
        peer = lightly_peer(new_backbone(settings, size, seed=0), data, device)
        loops[f"lightly, {count} workers"] = peer.steps
    data = loader(tutorial_dataset(pixels, size), arguments.batch_size, workers, device, batches)
    loops[f"tutorial, {workers} workers"] = tutorial_peer(new_backbone(settings, size, seed=0), data, device).steps
    loops["twoviews"] = twoviews_loop(settings, shared, *task_and_optimizer(settings, shared))
    return loops


def time_round(loop: Loop, warmup: int, steps: int, engine: Engine) -> tuple[float, float]:
    """Seconds of ``steps`` steps after ``warmup`` others, and their mean loss."""
    stream = loop()
    for _ in range(warmup):
        next(stream)
    engine.synchronize()
    started = time.perf_counter()
    losses = [next(stream) for _ in range(steps)]
    engine.synchronize()
    seconds = time.perf_counter() - started
    del stream  # ends the workers
    return seconds, float(torch.stack(losses).mean())


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of a loop in a round")
    parser.add_argument("--warmup", type=int, default=4, help="untimed steps before them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=cores, help="of the DataLoaders; default: one for each core")
    parser.add_argument("--data", help="sample, stl10, cifar10 or a folder, as for twoviews pretrain")
    parser.add_argument("--images", type=int, default=1024, help="how many random ones there are")
    parser.add_argument(
        "--only", nargs="+", default=[], help="beside twoviews, loops whose name begins so: 'lightly, 16'"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="of twoviews; the others compute in float32")
    arguments = parser.parse_args()
    settings, shared = prepare(
        arguments.data or ("sample" if arguments.image_size == 32 else None),
        arguments.images,
        image_size=arguments.image_size,
        backbone=arguments.backbone,
        batch_size=arguments.batch_size,
        device=arguments.device,
        precision=arguments.precision,
    )
    loops = make_loops(arguments, settings, shared)
    wanted = ("twoviews", *arguments.only) if arguments.only else ("",)
    loops = {name: loop for name, loop in loops.items() if name.startswith(wanted)}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(arguments.rounds):
        for name, loop in loops.items():
            seconds, loss = time_round(loop, arguments.warmup, arguments.steps, shared.engine)
            rates[name].append(arguments.steps * arguments.batch_size / seconds)
            line = {
                "loop": name,
                "round": number,
                "images_per_second": round(rates[name][-1], 2),
                "loss": round(loss, 3),
            }
            print(json.dumps(line), flush=True)
    ours = rates["twoviews"]
    ratios = {name: [a / b for a, b in zip(ours, other, strict=True)] for name, other in rates.items()}
    del ratios["twoviews"]
    last = {
        **vars(arguments),
        "images_per_second": {name: _spread(values) for name, values in rates.items()},
        "twoviews_over": {name: _spread(values) for name, values in ratios.items()},
        **machine("torchvision", "lightly", "pillow"),
        **{key: shared.engine.describe()[key] for key in ("device", "gpu", "precision", "threads")},
    }
    print(json.dumps(last))


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
    }


if __name__ == "__main__":
    main()
