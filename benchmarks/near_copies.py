"""What the search for near copies finds, what it mistakes for one, and how long a check of 113,000 images takes.

    python benchmarks/near_copies.py FOLDER [--images 10000] [--photos DIR] [--sheet FILE.png] [--speed]

FOLDER holds cifar10_train.npz and cifar10_test.npz of cifar10_npz.py: CIFAR-10 with each image as one JPEG. One JSON
line each:

- for every kind of change, the share of test images whose changed copy is found, as a copy of the image it was made
  of, among all test images; nearly blank images, which have no hash, count as missed;
- pairs found among the test images themselves, where the set has near duplicates of its own: ``--sheet`` draws them
  beside each other, to be judged by a person;
- the same between training and test images, and the seconds of it (its pairs are drawn in FILE-train.png);
- with ``--photos``, the first two for the images of a folder (all of one size, such as 96×96).

``--speed`` instead writes made-up images in STL-10's own layout (100,000 + 5,000 + 8,000 of 96×96 pixels, 3.1 GB, in a
temporary folder, some of them copies) and times `twoviews check stl10` on them: seconds and peak memory.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import machine
from PIL import Image

from twoviews.dataset.images import ImageSet, Pixels
from twoviews.dataset.near_copies import HASH_SIMILARITY, SIMILARITY, NearCopies, find_near_copies
from twoviews.dataset.picture_hash import WAYS, picture_hashes, turned

QUALITIES = (50, 60, 70, 75, 80, 90, 95)
Change = Callable[[Image.Image], Image.Image]


def read(file: Path, most: int | None = None) -> Pixels:
    """Images of one file: N×3×32×32."""
    with np.load(file, allow_pickle=False) as archive:
        joined, ends = archive["jpeg"].tobytes(), archive["offsets"][: most and most + 1]
    files = (io.BytesIO(joined[start:end]) for start, end in itertools.pairwise(ends))
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def as_set(pixels: Pixels) -> ImageSet:
    return ImageSet.whole(pixels, None, [str(i) for i in range(len(pixels))])


def encoded(image: Image.Image, quality: int, kind: str = "JPEG") -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return Image.open(stream).convert("RGB")


def halved(image: Image.Image, kernel: Image.Resampling) -> Image.Image:
    """Half the size, and back to the common size as the decoder does it."""
    small = image.resize((image.width // 2, image.height // 2), kernel)
    return small.resize(image.size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def turned_picture(image: Image.Image, way: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(turned(np.asarray(image).transpose(2, 0, 1), way).transpose(1, 2, 0)))


def changes() -> dict[str, Change]:
    """What may happen to a picture on its way into another folder."""
    made: dict[str, Change] = {f"JPEG, quality {q}": lambda image, q=q: encoded(image, q) for q in QUALITIES}  # type: ignore[misc]
    made["WebP, quality 75"] = lambda image: encoded(image, 75, "WEBP")
    for kernel in ("BOX", "BILINEAR", "BICUBIC", "LANCZOS", "NEAREST"):
        made[f"half size, {kernel.lower()}"] = lambda image, k=kernel: halved(image, Image.Resampling[k])  # type: ignore[misc]
    made["half size, then JPEG, quality 75"] = lambda image: encoded(
        image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC), 75
    ).resize(image.size, Image.Resampling.BICUBIC)
    for way in range(1, WAYS):
        made[f"turned or mirrored, way {way}"] = lambda image, w=way: turned_picture(image, w)  # type: ignore[misc]
    for way in (5, 6):
        made[f"turned, way {way}, then JPEG, quality 75"] = lambda image, w=way: encoded(turned_picture(image, w), 75)  # type: ignore[misc]
    return made


def apply(change: Change, pixels: Pixels) -> Pixels:
    images = [np.asarray(change(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))))) for image in pixels]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def say(line: dict[str, object]) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)


def read_folder(folder: Path) -> Pixels:
    """Images of a folder, all of one size: N×3×H×W."""
    images = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.iterdir())]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def rates(what: str, pixels: Pixels) -> None:
    """A line a change: share found."""
    images, hashes = as_set(pixels), picture_hashes(as_set(pixels))
    about = {"of": what, "images": len(pixels), "blank": int(hashes.blank.sum())}
    for name, change in changes().items():
        copies = as_set(apply(change, pixels))
        found = find_near_copies(copies, picture_hashes(copies), images, hashes)
        right = len(np.unique(found.first[found.first == found.second]))
        say({"change": name, **about, "found": round(right / len(pixels), 5)})


def mistakes(name: str, first: Pixels, second: Pixels | None, sheet: Path | None) -> None:
    """Pairs found where nothing was planted: between two sets, or within one."""
    started = time.perf_counter()
    one = as_set(first)
    other = one if second is None else as_set(second)
    hashes = picture_hashes(one)
    found = find_near_copies(
        one, hashes, other, hashes if second is None else picture_hashes(other), within=second is None
    )
    seconds = time.perf_counter() - started
    equal = sum(bool((one.pixels[i] == other.pixels[j]).all()) for i, j in zip(found.first, found.second, strict=True))
    line = {"pairs found": name, "images": [len(one), len(other)], "pairs": len(found.first), "of them exact": equal}
    say({**line, "images in them": len(np.unique(found.second)), "seconds": round(seconds, 2)})
    if sheet is not None:
        draw(sheet, one, other, found)


def draw(path: Path, one: ImageSet, other: ImageSet, found: NearCopies, columns: int = 12) -> None:
    """Pairs beside each other, the least similar first, three times as large."""
    order = np.argsort(found.similarity)
    lines = -(-len(order) // columns)
    sheet = Image.new("RGB", (columns * 204, max(1, lines) * 100), "white")
    for place, pair in enumerate(order):
        for side, (images, i) in enumerate(((one, found.first[pair]), (other, found.second[pair]))):
            picture = Image.fromarray(np.ascontiguousarray(images.pixels[i].transpose(1, 2, 0)))
            left = place % columns * 204 + side * 97
            sheet.paste(picture.resize((96, 96), Image.Resampling.NEAREST), (left, place // columns * 100))
    sheet.save(path)


def write_stl10_like(folder: Path, train: Pixels, test: Pixels) -> None:
    """STL-10's binaries from enlarged CIFAR-10 images, each tinted its own way; 1,000 copies are planted."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    planted = test[:0]
    for part, source, count in (("test", test, 8_000), ("train", test, 5_000), ("unlabeled", train, 100_000)):
        with open(folder / f"{part}_X.bin", "wb") as stream:
            for start in range(0, count, 1000):
                chosen = source[rng.integers(0, len(source), 1000)]
                large = chosen.repeat(3, axis=2).repeat(3, axis=3).astype(np.int16)
                large += rng.integers(-40, 41, (1000, 3, 6, 6), dtype=np.int16).repeat(16, axis=2).repeat(16, axis=3)
                block = large.clip(0, 255).astype(np.uint8)
                if start == 0:
                    planted = block if part == "test" else planted
                    block = planted if part == "unlabeled" else block
                stream.write(np.ascontiguousarray(block.transpose(0, 1, 3, 2)).tobytes())
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes(np.resize(np.arange(1, 11, dtype=np.uint8), count).tobytes())


def speed(train: Pixels, test: Pixels) -> None:
    """`twoviews check stl10` on 113,000 images of 96 pixels."""
    with tempfile.TemporaryDirectory() as place:
        write_stl10_like(Path(place) / "stl10_binary", train, test)
        started = time.perf_counter()
        command = [sys.executable, "-m", "twoviews", "check", "stl10", "--data-root", place]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        copies = next(line for line in done.stdout.splitlines() if line.startswith("exact copies"))
        say(
            {
                "check": "stl10-like, 113,000 images",
                "seconds": round(seconds, 1),
                "peak_gb": round(peak, 2),
                "said": copies,
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--photos", type=Path, help="a folder of images of one size, to measure as well")
    parser.add_argument("--sheet", type=Path, help="draw the pairs found, those with training images in FILE-train")
    parser.add_argument("--speed", action="store_true", help="time a check of 113,000 made-up images instead")
    arguments = parser.parse_args()
    test = read(arguments.folder / "cifar10_test.npz", arguments.images)
    train = read(arguments.folder / "cifar10_train.npz")
    if arguments.speed:
        speed(train, test)
    else:
        rates("CIFAR-10 test", test)
        mistakes("among test images", test, None, arguments.sheet)
        sheet = arguments.sheet and arguments.sheet.with_stem(f"{arguments.sheet.stem}-train")
        mistakes("training and test images", train, test, sheet)
        if arguments.photos is not None:
            photos = read_folder(arguments.photos)
            rates(arguments.photos.name, photos)
            mistakes(f"among {arguments.photos.name}", photos, None, None)
    say({**machine("numpy", "pillow"), "hash_similarity": HASH_SIMILARITY, "similarity": SIMILARITY})


if __name__ == "__main__":
    main()
