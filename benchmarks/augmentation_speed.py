"""Two augmented views of an image: images/s of one core, ours beside lightly's and torchvision's.

    python benchmarks/augmentation_speed.py [--rounds 5] [--batch-size 128]
    python benchmarks/augmentation_speed.py --image-size 32 --view-size 24 --blur 0

All run on one thread over the same random uint8 images, with SimCLR's distribution (Chen et al. 2020), and end in
normalised float32 tensors; lightly's blur is Pillow's, the others' has one kernel size. The
variants are timed in turn, round by round, in one process, in CPU time of the thread, so that a busy machine distorts
them less. One JSON line a variant: median, least and most images/s (an image has two views), and the ratio of the
medians to lightly's; the last line has the machine. A batch whose result is over 32 MiB is slower: the C library asks
the system for fresh memory each time.

lightly is needed for this benchmark only: pip install "lightly>=1.5"; without it its line is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from machine import machine
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from twoviews.dataset import apply_views
from twoviews.dataset.augmentations import Augmentation, views
from twoviews.dataset.view_matrices import by_matrices
from twoviews.dataset.view_parameters import blur_kernel
from twoviews.dataset.view_taps import by_taps

MEAN, STD = (0.44, 0.43, 0.4), (0.26, 0.26, 0.27)
SLOW_IMAGES = 64  # a round of the pipelines that take one image at a time

Variant = Callable[[int], int]  # number of a round → images that it augmented


def ours(images: torch.Tensor, arguments: argparse.Namespace, *, dense: bool = False) -> Variant:
    """Our views; ``dense`` by products of matrices, as a GPU makes them, and not by sums of few rows."""
    augmentation = Augmentation(view_size=arguments.view_size, blur=arguments.blur)
    rows = torch.arange(len(images))

    def run(number: int) -> int:
        with patch.object(apply_views, "by_taps", by_matrices if dense else by_taps):
            views(images, rows, augmentation, seed=0, epoch=number, mean=MEAN, std=STD)
        return len(images)

    return run


def image_by_image(inputs: list[Any], transform: Callable[[Any], Any], views_a_call: int) -> Variant:
    def run(number: int) -> int:
        for image in inputs:
            for _ in range(2 // views_a_call):
                transform(image)
        return len(inputs)

    return run


def torchvision_pipeline(arguments: argparse.Namespace, *, tensors: bool) -> Callable[[Any], Any]:
    """The paper's augmentation in torchvision's own words."""
    t: Any = v2 if tensors else transforms
    blur = t.GaussianBlur(blur_kernel(arguments.view_size), (0.1, 2.0))
    convert = [v2.ToDtype(torch.float32, scale=True)] if tensors else [transforms.ToTensor()]
    pipeline: Callable[[Any], Any] = t.Compose(
        [
            t.RandomResizedCrop(arguments.view_size, antialias=True),
            t.RandomHorizontalFlip(),
            t.RandomApply([t.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            t.RandomGrayscale(p=0.2),
            *([t.RandomApply([blur], p=arguments.blur)] if arguments.blur else []),
            *convert,
            t.Normalize(MEAN, STD),
        ]
    )
    return pipeline


def lightly_pipeline(arguments: argparse.Namespace) -> Callable[[Any], Any] | None:
    """lightly's SimCLRTransform: both views of a PIL image; None where lightly is not installed."""
    try:
        from lightly.transforms import SimCLRTransform
    except ImportError:
        print('lightly is not here: pip install "lightly>=1.5"', file=sys.stderr)
        return None
    # Its strengths are multiples of cj_strength; these give 0.8, 0.8, 0.8, 0.2 as ours.
    pipeline: Callable[[Any], Any] = SimCLRTransform(
        input_size=arguments.view_size,
        cj_strength=1.0,
        gaussian_blur=arguments.blur,
        sigmas=(0.1, 2.0),
        normalize={"mean": list(MEAN), "std": list(STD)},
    )
    return pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--view-size", type=int, default=96)
    parser.add_argument("--blur", type=float, default=0.5, help="share of the views that are blurred")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = (arguments.batch_size, 3, arguments.image_size, arguments.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    few = images[:SLOW_IMAGES]
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in few]
    variants = {
        "twoviews": ours(images, arguments),
        "twoviews, dense matrices": ours(images, arguments, dense=True),
        "torchvision v2, tensors": image_by_image(list(few), torchvision_pipeline(arguments, tensors=True), 1),
        "torchvision, PIL": image_by_image(pictures, torchvision_pipeline(arguments, tensors=False), 1),
    }
    lightly = lightly_pipeline(arguments)
    if lightly is not None:
        variants["lightly SimCLRTransform"] = image_by_image(pictures, lightly, 2)
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for variant in variants.values():
        variant(0)
    for number in range(1, arguments.rounds + 1):
        for name, variant in variants.items():
            started = time.thread_time()
            count = variant(number)
            rates[name].append(count / (time.thread_time() - started))
    reference = statistics.median(rates["lightly SimCLRTransform"]) if lightly is not None else None
    setting = {key: getattr(arguments, key) for key in ("image_size", "view_size", "batch_size", "blur", "rounds")}
    for name, values in rates.items():
        median = statistics.median(values)
        line: dict[str, object] = {
            "variant": name,
            "images_per_second": round(median, 1),
            "least": round(min(values), 1),
            "most": round(max(values), 1),
        }
        if reference is not None:
            line["times_lightly"] = round(median / reference, 2)
        print(json.dumps(line | setting), flush=True)
    print(json.dumps(machine("torchvision", "pillow", *(["lightly"] if lightly is not None else []))))


if __name__ == "__main__":
    main()
