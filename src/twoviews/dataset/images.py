"""Images as every part of twoviews sees them: uint8, N×3×H×W, often a memory map that is never copied."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """A choice of rows from an array of images; taking a part of it copies no pixel.

    Attributes:
        pixels: M×3×H×W uint8, possibly memory-mapped; RGB.
        rows: (N,) int64; which rows of ``pixels`` belong to this set, in the set's order. A row number is an
            image's identity: augmentations are drawn from it, so that they don't change when others leave.
        labels: (N,) int64 class numbers aligned with ``rows``, or None for unlabeled images.
        names: (M,) what a person calls each row of ``pixels``: a file path, or "train/00012".
    """

    pixels: Pixels
    rows: Indices
    labels: Indices | None
    names: Sequence[str]

    @classmethod
    def whole(cls, pixels: Pixels, labels: Indices | None, names: Sequence[str]) -> ImageSet:
        """Every row of ``pixels``, in order."""
        return cls(pixels, np.arange(len(pixels), dtype=np.int64), labels, names)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def image_size(self) -> int:
        """Height of the images in pixels (all are square)."""
        return int(self.pixels.shape[2])

    def take(self, positions: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> ImageSet:
        """The images at these positions of the set (indices or a mask)."""
        labels = None if self.labels is None else self.labels[positions]
        return replace(self, rows=self.rows[positions], labels=labels)

    def without_labels(self) -> ImageSet:
        """The same images, labels left out."""
        return replace(self, labels=None)

    def read(self, positions: Indices | slice) -> Pixels:
        """Pixels of the images at ``positions``: len(positions)×3×H×W uint8, a copy in memory."""
        return np.ascontiguousarray(self.pixels[self.rows[positions]])

    def name(self, position: int) -> str:
        """What a person calls the image at this position."""
        return self.names[int(self.rows[position])]


def rows_of(pixels: Pixels, rows: Indices) -> Pixels:
    """These rows; neighbours are seen where they lie, without a copy."""
    if len(rows) and bool((np.diff(rows) == 1).all()):
        return pixels[int(rows[0]) : int(rows[-1]) + 1]
    return pixels[rows]


def forget_pages(pixels: Pixels) -> None:
    """Give the pages of a memory map back to the system: they count as this process's memory until then.

    They stay in the system's cache of the disk while it has room. Arrays in memory are left alone.
    """
    array: object = pixels
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    path: str
    reason: str
    bytes: int


@dataclass(frozen=True)
class Source:
    """What a data source gives, before validation is split off and copies are removed.

    Attributes:
        name: short name used in run folders, for example "stl10" or the folder's own name.
        class_names: name of each class number.
        unlabeled: images for pretraining; labels None.
        train: labelled training images.
        val: labelled validation images where the source brings its own, else None.
        test: labelled test images, or None where there are none.
        folds: positions in ``train`` of each official fold, or None.
        notes: sentences a user should read (printed once, kept in results).
        skipped: files left out.
        no_pictures: how many files were left out that are none by their names, and so not among the skipped.
    """

    name: str
    class_names: tuple[str, ...]
    unlabeled: ImageSet
    train: ImageSet
    val: ImageSet | None = None
    test: ImageSet | None = None
    folds: list[Indices] | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    no_pictures: int = 0
