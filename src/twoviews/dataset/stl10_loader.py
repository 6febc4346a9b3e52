"""STL-10 from its official binaries: 100,000 unlabeled, 5,000 training and 8,000 test images of 96×96 pixels.

The files stay on disk and are memory-mapped. Each channel of an image is stored column by column, so the
arrays given here are transposed views of the map: ``pixels[n, channel, row, column]``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twoviews.dataset.download import Archive, Progress, ensure_archive
from twoviews.dataset.images import ImageSet, Indices, Pixels, Source
from twoviews.dataset.names import NumberedNames, read_class_names, unreadable
from twoviews.errors import DataError

IMAGE_BYTES = 3 * 96 * 96
CLASS_NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
OFFICIAL_COUNTS = {"unlabeled": 100_000, "train": 5_000, "test": 8_000}

_BINARIES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin")
ARCHIVE = Archive(
    title="STL-10",
    url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    md5="91f7769df0f17e558f3565bffb0c7dfb",
    folder="stl10_binary",
    files=(*_BINARIES, "class_names.txt", "fold_indices.txt"),
    required=_BINARIES,
    download_size="about 2.6 GB",
    disk_size="about 3.1 GB",
    unpacked_bytes=3_130_000_000,
)


def load_stl10(root: Path, download: bool = True, progress: Progress | None = None) -> Source:
    """Read STL-10 under ``root/stl10_binary``, downloading it first where it is missing.

    Images are read-only uint8 memory maps seen as N×3×96×96, RGB; labels are 0..9. ``class_names.txt`` and
    ``fold_indices.txt`` may be missing: the official names serve, and there are no folds.

    Args:
        root: folder that holds (or will hold) ``stl10_binary/``.
        download: fetch the official archive when files are missing.
        progress: called with bytes done, bytes in all, and what is going on.

    Raises:
        DataError: files are missing and can't be had, or don't fit together.
        ResourceError: the disk is full.
    """
    folder = ensure_archive(ARCHIVE, root, download, progress)
    notes: list[str] = []
    names = read_class_names(folder / "class_names.txt", CLASS_NAMES, notes)
    unlabeled = _images(folder / "unlabeled_X.bin")
    train = _images(folder / "train_X.bin")
    test = _images(folder / "test_X.bin")
    train_labels = _labels(folder / "train_y.bin", folder / "train_X.bin", len(train), len(names))
    test_labels = _labels(folder / "test_y.bin", folder / "test_X.bin", len(test), len(names))
    for part, images in (("unlabeled", unlabeled), ("train", train), ("test", test)):
        if len(images) != OFFICIAL_COUNTS[part]:
            notes.append(
                f"The {part} part holds {len(images):,} images; the official STL-10 has {OFFICIAL_COUNTS[part]:,}."
            )
    return Source(
        name="stl10",
        class_names=names,
        unlabeled=ImageSet.whole(unlabeled, None, NumberedNames("unlabeled", len(unlabeled))),
        train=ImageSet.whole(train, train_labels, NumberedNames("train", len(train))),
        test=ImageSet.whole(test, test_labels, NumberedNames("test", len(test))),
        folds=_folds(folder / "fold_indices.txt", len(train), notes),
        notes=notes,
    )


def _images(file: Path) -> Pixels:
    """N×3×96×96, a transposed view of the file; no byte is read here."""
    size = _size(file)
    if size == 0 or size % IMAGE_BYTES:
        raise DataError(
            f"{file} holds {size:,} bytes, not a whole number of images of {IMAGE_BYTES:,} bytes: "
            "delete it, and it is downloaded again."
        )
    try:
        stored = np.memmap(file, dtype=np.uint8, mode="r", shape=(size // IMAGE_BYTES, 3, 96, 96))
    except OSError as error:
        raise unreadable(file, error) from error
    return stored.transpose(0, 1, 3, 2)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise unreadable(file, error) from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error


def _labels(file: Path, images_file: Path, count: int, classes: int) -> Indices:
    """(N,) int64 in 0..classes-1; the file counts from 1."""
    stored = np.frombuffer(_read(file), dtype=np.uint8)
    if len(stored) != count:
        raise DataError(
            f"{images_file} holds {count:,} images and {file.name} {len(stored):,} labels: "
            "delete both, and they are downloaded again."
        )
    if stored.min() < 1 or stored.max() > classes:
        wrong = int(np.flatnonzero((stored < 1) | (stored > classes))[0])
        raise DataError(
            f"{file} has label {stored[wrong]} at position {wrong}; labels are 1..{classes}. "
            "Delete the file, and it is downloaded again."
        )
    return stored.astype(np.int64) - 1


def _folds(file: Path, count: int, notes: list[str]) -> list[Indices] | None:
    """Positions of each fold's training images; int64, as larger numbers than 255 wrap in a byte."""
    if not file.is_file():
        notes.append(f"{file.name} is missing; the official folds are not available.")
        return None
    folds: list[Indices] = []
    for number, line in enumerate(_read(file).decode("ascii", "replace").splitlines()):
        if not line.strip():
            continue
        try:
            fold = np.array([int(word) for word in line.split()], dtype=np.int64)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{file}, line {number + 1}, is not a list of numbers; delete the file.") from error
        outside = fold[(fold < 0) | (fold >= count)]
        if len(outside):
            raise DataError(
                f"{file}, line {number + 1}, names image {outside[0]}, but the training images "
                f"are 0..{count - 1}; delete the file to go without folds."
            )
        if len(np.unique(fold)) < len(fold):
            raise DataError(f"{file}, line {number + 1}, names an image twice; delete the file to go without folds.")
        folds.append(fold)
    return folds or None
