"""The SimCLR step as twoviews takes it, against the same step as PyTorch comes (float32, NCHW).

    python benchmarks/step_speed.py [--backbone resnet50] [--image-size 96] [--batch-size 32] [--steps 5] [--rounds 3]

Both steps do the same work on the same images: two views of each image by our augmentation, one 2N forward, InfoNCE,
backward, SGD with Nesterov momentum. The two are timed in turn, round by round, in one process; one JSON line a
variant and round gives images/s (an image has two views), the last line the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from machine import machine

from twoviews.dataset.augmentations import Augmentation, views
from twoviews.loss_functions.info_nce import info_nce
from twoviews.model.projection_head import SimCLR
from twoviews.model.resnet50 import create_backbone, feature_width, resolve_stem
from twoviews.settings import RunSettings
from twoviews.trainers.engine import Engine

MEAN, STD = (0.44, 0.43, 0.4), (0.26, 0.26, 0.27)


def make_step(engine: Engine, arguments: argparse.Namespace, fast: bool) -> Callable[[int], None]:
    """One variant's step."""
    torch.manual_seed(0)
    stem = resolve_stem("auto", arguments.image_size, arguments.backbone)
    backbone = create_backbone(arguments.backbone, stem)
    plain = SimCLR(backbone, feature_width(backbone), 128)
    model = engine.to_device(plain) if fast else plain.to(engine.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True if fast else None)
    size, count = arguments.image_size, arguments.batch_size
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, device=engine.device)
    rows = torch.arange(count, device=engine.device)
    augmentation = Augmentation(view_size=size)

    def step(number: int) -> None:
        x = views(images, rows, augmentation, seed=0, epoch=number, mean=MEAN, std=STD)
        if fast:
            with engine.autocast():
                projections = model(x)
        else:
            projections = model(x.contiguous())
        loss, _ = info_nce(projections, 0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    engine = Engine(RunSettings())
    steps = {"twoviews": make_step(engine, arguments, True), "float32 NCHW": make_step(engine, arguments, False)}
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(0)
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            engine.synchronize()
            started = time.perf_counter()
            for number in range(arguments.steps):
                step(number)
            engine.synchronize()
            rates[name].append(arguments.steps * arguments.batch_size / (time.perf_counter() - started))
            print(json.dumps({"variant": name, "images_per_second": round(rates[name][-1], 2)}), flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(
        json.dumps(
            {
                **vars(arguments),
                **{f"median {name}": round(value, 2) for name, value in medians.items()},
                "ratio": round(medians["twoviews"] / medians["float32 NCHW"], 2),
                **machine(),
                **{key: engine.describe()[key] for key in ("device", "precision", "threads")},
            }
        )
    )


if __name__ == "__main__":
    main()
