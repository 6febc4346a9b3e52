"""Memory of a step, of the loss and of the data: docs/scaling.md's formulas beside what a process takes on Linux.

    python benchmarks/memory.py [step|loss|data ...] [--precision float32] [--threads 2]

One JSON line a size, each measured in a process of its own: MiB by the formula, and the rise of the resident memory at
its peak. ``step`` is the pretraining step of ``twoviews bench step``. ``data`` walks an epoch's order, at most 400
batches of 256, through a memory map without content, which takes no room on the disk.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from info_nce_speed import kib
from machine import machine
from torch import nn

from twoviews.dataset.batches import FAULT_BYTES, FORGET_BYTES, Batches
from twoviews.dataset.images import ImageSet
from twoviews.dataset.random_numbers import epoch_order
from twoviews.loss_functions.tiles import CPU_TILE
from twoviews.model.resnet50 import create_backbone

MIB = 2**20
STEPS = (("resnet18_w16", 32, 64), ("resnet18_w16", 32, 128), ("resnet18_w16", 32, 256))
LOSSES, WIDTH = (2_048, 8_192, 16_384, 32_768, 65_536), 128
DATA, SIZE, BATCH, MOST_BATCHES = (1_000, 10_000, 100_000, 1_000_000), 32, 256, 400


def numbers_of_convolutions(backbone: nn.Module, size: int) -> int:
    """Numbers that all convolutions make of one view."""
    found = 0

    def count(module: nn.Module, arguments: Any, out: torch.Tensor) -> None:
        nonlocal found
        found += out[0].numel()

    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        backbone.eval()(torch.zeros(1, 3, size, size))
    return found


def steps(precision: str, threads: int) -> Iterator[dict[str, Any]]:
    """2·N views, each number kept before and after BatchNorm; weights, gradients and momentum; the views themselves."""
    for name, size, batch in STEPS:
        backbone = create_backbone(name, "small" if size <= 40 else "original")
        weights = sum(p.numel() for p in backbone.parameters())
        bytes_each = 4 if precision == "float32" else 2
        activations = 2 * batch * 2 * bytes_each * numbers_of_convolutions(backbone, size)
        words = ["--backbone", name, "--image-size", str(size), "--batch-size", str(batch), "--device", "cpu", "--json"]
        words += ["--precision", precision, "--threads", str(threads), "--steps", "1"]
        row = json.loads(output_of("-m", "twoviews", "bench", "step", *words))
        formula = activations + 12 * weights + 24 * batch * size**2
        peak = row["peak_memory_bytes"]
        about = {"what": "step", "backbone": name, "view_size": size, "batch_size": batch, "precision": precision}
        yield about | {"formula_mib": rounded(formula), "measured_mib": None if peak is None else rounded(peak)}


def losses(precision: str, threads: int) -> Iterator[dict[str, Any]]:
    """Two more copies of the projections, and two tiles; always float32."""
    for rows in LOSSES:
        formula = 2 * rows * WIDTH * 4 + 2 * CPU_TILE**2 * 4
        script = str(Path(__file__).with_name("info_nce_speed.py"))
        measured = float(output_of(script, "--rows", str(rows), "--width", str(WIDTH), "--peak-of", "tiles"))
        yield {"what": "loss", "rows": rows, "formula_mib": rounded(formula), "measured_mib": measured}


def data(precision: str, threads: int) -> Iterator[dict[str, Any]]:
    """Pages of a memory map that may be there before they are given back, and 56 bytes an image for rows and order."""
    for images in DATA:
        mapped = min(3 * SIZE**2 * images, FORGET_BYTES + BATCH * FAULT_BYTES)
        found = float(output_of(__file__, "--walk", str(images)))
        about = {"what": "data", "images": images, "file_mib": rounded(3 * SIZE**2 * images)}
        yield about | {"formula_mib": rounded(mapped + 56 * images), "measured_mib": round(found, 1)}


def walk(images: int) -> float:
    """MiB by which reading random batches of so many images raises this process's memory at most."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(images, 3, SIZE, SIZE))
        few = ImageSet.whole(np.zeros((2, 3, SIZE, SIZE), np.uint8), None, ["", ""])
        for _ in Batches(few, CPU).stream([FIRST]):
            epoch_order(0, 0, 2)  # what is loaded at first use is none of the images' doing
        stored = ImageSet.whole(np.load(path, mmap_mode="r"), None, [])
        before = kib("VmRSS")
        batches = Batches(stored, CPU)
        order = epoch_order(0, 0, images).split(BATCH)
        for _ in batches.stream(itertools.islice(order, MOST_BATCHES)):
            pass
        return (kib("VmHWM") - before) / 2**10


CPU, FIRST = torch.device("cpu"), torch.tensor([0])


def output_of(*words: str) -> str:
    return subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def rounded(size: float) -> float:
    return round(size / MIB, 1)


PARTS: dict[str, Callable[[str, int], Iterator[dict[str, Any]]]] = {"step": steps, "loss": losses, "data": data}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS), help="all when none is named")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--walk", type=int, help="only the rise while so many images are read, in this process")
    arguments = parser.parse_args()
    if arguments.walk:
        print(walk(arguments.walk))
        return
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    for part in arguments.parts or PARTS:
        for row in PARTS[part](arguments.precision, arguments.threads):
            print(json.dumps(row), flush=True)
    print(json.dumps({"threads": arguments.threads, **machine()}))


if __name__ == "__main__":
    main()
