"""What ``twoviews bench`` measures on: a folder's images, or random ones, in a memory map that does not stay."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twoviews import disk
from twoviews.dataset.decode import FORMATS_TEXT
from twoviews.dataset.decode_cache import decoded_folder
from twoviews.dataset.images import ImageSet
from twoviews.dataset.scan import scan
from twoviews.errors import DataError, ResourceError
from twoviews.settings import PretrainCommand
from twoviews.spacing import evenly_spaced

MAX_IMAGES = 4096  # decoded or made: enough that batches are random reads, few enough for a minute
MAX_BYTES = 2**28


@dataclass(frozen=True)
class BenchImages:
    """What is read: images in a memory map, what they are in words, and how they got there.

    ``decoded`` is the number of files and the seconds that they took, None where the images are random.
    """

    images: ImageSet
    text: str
    decoded: tuple[int, float] | None


@contextmanager
def bench_images(unlabeled: Path | None, training: PretrainCommand) -> Iterator[BenchImages]:
    """Images of the folder, or random ones, in a memory map that is removed afterwards.

    Raises:
        DataError: the folder holds no two images that can be read.
        ResourceError: the disk has no room for random ones.
    """
    size = training.image_size
    count = max(training.batch_size, min(MAX_IMAGES, MAX_BYTES // (3 * size**2)))
    with tempfile.TemporaryDirectory(prefix="twoviews-bench-", ignore_cleanup_errors=True) as name:
        if unlabeled is None:
            yield BenchImages(_random_images(Path(name) / "random.npy", count, size), "random images", None)
        else:
            yield _decode(unlabeled, Path(name), count, training)


def _random_images(file: Path, count: int, size: int) -> ImageSet:
    needed, free = count * 3 * size**2, disk.room(file.parent)
    if needed > free:  # a memory map that outgrows the disk would end the process
        raise ResourceError(
            f"{count:,} random images need {needed / 1e9:.2f} GB in {file.parent.parent}, {free / 1e9:.2f} GB are "
            "free: lower --batch-size, or name another folder with TMPDIR."
        )
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(count, 3, size, size))
    for image in array:
        image[:] = rng.integers(0, 256, image.shape, dtype=np.uint8)
    array.flush()
    del array
    stored = np.load(file, mmap_mode="r", allow_pickle=False)
    return ImageSet.whole(stored, None, [f"random {number}" for number in range(count)])


def _decode(folder: Path, cache: Path, count: int, training: PretrainCommand) -> BenchImages:
    """Decode at most ``count`` files, evenly chosen, as pretraining would."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: check --unlabeled.")
    found = scan(folder, boundary=folder, follow_links=False)
    found.files = [found.files[position] for position in evenly_spaced(len(found.files), count)]
    started = time.perf_counter()
    decoded = decoded_folder(
        found,
        "unlabeled",
        image_size=training.image_size,
        cache=cache,
        workers=None,
        max_pixels=training.max_pixels,
        progress=None,
    )
    seconds = time.perf_counter() - started
    if len(decoded.files) < 2:
        raise DataError(f"{folder} holds no two readable images ({FORMATS_TEXT}): check --unlabeled.")
    images = ImageSet.whole(decoded.pixels, None, decoded.files)
    return BenchImages(images, f"{len(images):,} images of {folder}", (len(decoded.files), seconds))
