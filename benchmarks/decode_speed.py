"""Decoding of a folder of JPEGs against Pillow alone, on the same files.

    python benchmarks/decode_speed.py [--size 96] [--rounds 3] [--small 400] [--large 40] [--workers 2]

Photograph-like JPEGs (quality 90, smooth structure of every scale and a little noise) are made with a fixed seed in a
temporary folder: pictures of 500×375, and large ones of 4000×3000. Three ways decode them in turn, round by round:
Pillow alone (open, draft where it helps, RGB, centre square, resize) and twoviews' decoder, each in this one process,
and twoviews' decoder in processes as a run uses it, their start included. One JSON line a group of files and way:
images/s of the fastest round, and its ratio to Pillow's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import machine
from PIL import Image

from twoviews.cpus import usable_cpus
from twoviews.dataset.decode_workers import decode_all
from twoviews.dataset.scan import Scan, scan

MAX_PIXELS = 100_000_000
SMALL, LARGE = (500, 375), (4000, 3000)


def picture(width: int, height: int, generator: np.random.Generator) -> Image.Image:
    """Random structure of every scale, each half as strong as the one twice its size; colours go together."""
    total = np.zeros((height, width, 3), dtype=np.float32)
    cells, strength = 2, 70.0
    while cells < min(width, height) and strength > 1.0:
        coarse = generator.standard_normal((cells * height // width + 1, cells, 1)) * strength
        coarse = coarse + generator.standard_normal((*coarse.shape[:2], 3)) * strength / 3
        for channel in range(3):
            layer = Image.fromarray(coarse[:, :, channel].astype(np.float32))
            total[:, :, channel] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
        cells, strength = cells * 2, strength * 0.6
    total += generator.standard_normal((height, width, 1), dtype=np.float32) * 3.0
    return Image.fromarray(np.clip(total + 120.0, 0, 255).astype(np.uint8))


def make_folder(folder: Path, count: int, size: tuple[int, int], seed: int) -> Scan:
    """``count`` JPEGs; eight different pictures, each turned and cut a little differently."""
    generator = np.random.default_rng(seed)
    bases = [picture(size[0] + 64, size[1] + 64, generator) for _ in range(min(8, count))]
    folder.mkdir()
    for number in range(count):
        left, top = (int(v) for v in generator.integers(0, 65, 2))
        cut = bases[number % len(bases)].crop((left, top, left + size[0], top + size[1]))
        cut.save(folder / f"{number:04}.jpg", quality=90)
    return scan(folder, boundary=folder, follow_links=False)


def by_pillow(files: Scan, size: int) -> int:
    """What a careful loop with Pillow does."""
    for file in files.files:
        with Image.open(files.folder / file.path) as image:
            image.draft("RGB", (2 * size, 2 * size))
            rgb = image.convert("RGB")
        side = min(rgb.size)
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        square = rgb.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        np.asarray(square)
    return len(files.files)


def by_twoviews(files: Scan, size: int, workers: int) -> int:
    """The decoder, in ``workers`` processes; 1: in this one."""
    results = decode_all(str(files.folder), files.files, size, MAX_PIXELS, workers)
    return sum(result.pixels is not None for result in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=400)
    parser.add_argument("--large", type=int, default=40)
    parser.add_argument("--workers", type=int, default=usable_cpus())
    arguments = parser.parse_args()
    size, workers = arguments.size, arguments.workers
    with tempfile.TemporaryDirectory() as place:
        for name, count, shape in (("small", arguments.small, SMALL), ("large", arguments.large, LARGE)):
            files = make_folder(Path(place) / name, count, shape, seed=0)
            ways: dict[str, Callable[[], int]] = {
                "Pillow alone": lambda files=files: by_pillow(files, size),  # type: ignore[misc]
                "twoviews, 1 process": lambda files=files: by_twoviews(files, size, 1),  # type: ignore[misc]
                f"twoviews, {workers} processes": lambda files=files: by_twoviews(files, size, workers),  # type: ignore[misc]
            }
            best = dict.fromkeys(ways, (float("inf"), float("inf")))
            for _ in range(arguments.rounds):
                for way, work in ways.items():
                    started, worked = time.perf_counter(), time.process_time()
                    assert work() == count
                    seconds = time.perf_counter() - started, time.process_time() - worked
                    best[way] = min(best[way][0], seconds[0]), min(best[way][1], seconds[1])
            for way, (seconds_, processor) in best.items():
                line = {
                    "files": f"{count} JPEGs of {shape[0]}×{shape[1]}",
                    "way": way,
                    "images_per_second": round(count / seconds_, 1),
                    "ratio_to_pillow": round(best["Pillow alone"][0] / seconds_, 2),
                }
                if not way.endswith("processes"):
                    line["images_per_processor_second"] = round(count / processor, 1)
                    line["processor_ratio_to_pillow"] = round(best["Pillow alone"][1] / processor, 2)
                print(json.dumps(line, ensure_ascii=False), flush=True)
    print(json.dumps({"size": size, "rounds": arguments.rounds, **machine("pillow")}))


if __name__ == "__main__":
    main()
