"""CIFAR-10 from its official binary version: 50,000 training and 10,000 test images of 32×32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twoviews.dataset.download import Archive, Progress, ensure_archive
from twoviews.dataset.images import ImageSet, Indices, Pixels, Source
from twoviews.dataset.names import NumberedNames, read_class_names, unreadable
from twoviews.errors import DataError

RECORD_BYTES = 1 + 3 * 32 * 32
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
OFFICIAL_COUNTS = {"train": 50_000, "test": 10_000}

ARCHIVE = Archive(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    files=(*TRAIN_FILES, *TEST_FILES, "batches.meta.txt", "readme.html"),
    required=(*TRAIN_FILES, *TEST_FILES),
    download_size="about 163 MB",
    disk_size="about 185 MB",
    unpacked_bytes=185_000_000,
)


def load_cifar10(root: Path, download: bool = True, progress: Progress | None = None) -> Source:
    """Read CIFAR-10 under ``root/cifar-10-batches-bin``, downloading it first where it is missing.

    Images are N×3×32×32 uint8, RGB, held in memory (185 MB); labels are 0..9. The unlabeled images are the
    training images, labels left out: the same rows of the same array.

    Args:
        root: folder that holds (or will hold) ``cifar-10-batches-bin/``.
        download: fetch the official archive when files are missing.
        progress: called with bytes done, bytes in all, and what is going on.

    Raises:
        DataError: files are missing and can't be had, or are damaged.
        ResourceError: the disk is full.
    """
    folder = ensure_archive(ARCHIVE, root, download, progress)
    notes: list[str] = []
    names = read_class_names(folder / "batches.meta.txt", CLASS_NAMES, notes)
    train_pixels, train_labels = _records([folder / name for name in TRAIN_FILES], len(names))
    test_pixels, test_labels = _records([folder / name for name in TEST_FILES], len(names))
    for part, labels in (("train", train_labels), ("test", test_labels)):
        if len(labels) != OFFICIAL_COUNTS[part]:
            notes.append(
                f"The {part} part holds {len(labels):,} images; the official CIFAR-10 has {OFFICIAL_COUNTS[part]:,}."
            )
    train = ImageSet.whole(train_pixels, train_labels, NumberedNames("train", len(train_labels)))
    return Source(
        name="cifar10",
        class_names=names,
        unlabeled=train.without_labels(),
        train=train,
        test=ImageSet.whole(test_pixels, test_labels, NumberedNames("test", len(test_labels))),
        notes=notes,
    )


def _records(files: list[Path], classes: int) -> tuple[Pixels, Indices]:
    """Pixels N×3×32×32 and labels (N,) of all files; a record is a label, then R, G and B by rows."""
    parts = []
    for file in files:
        try:
            content = np.fromfile(file, dtype=np.uint8)
        except OSError as error:
            raise unreadable(file, error) from error
        if len(content) == 0 or len(content) % RECORD_BYTES:
            raise DataError(
                f"{file} holds {len(content):,} bytes, not a whole number of records of {RECORD_BYTES:,} "
                "bytes: delete it, and it is downloaded again."
            )
        records = content.reshape(-1, RECORD_BYTES)
        if records[:, 0].max() >= classes:
            wrong = int(np.flatnonzero(records[:, 0] >= classes)[0])
            raise DataError(
                f"{file} has label {records[wrong, 0]} at position {wrong}; labels are 0..{classes - 1}. "
                "Delete the file, and it is downloaded again."
            )
        parts.append(records)
    pixels = np.concatenate([records[:, 1:] for records in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([records[:, 0] for records in parts]).astype(np.int64)
    return pixels, labels
