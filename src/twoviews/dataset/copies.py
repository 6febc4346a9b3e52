"""Exact copies of images, found by a hash of their pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
import numpy.typing as npt

from twoviews.cpus import usable_cpus
from twoviews.dataset.images import ImageSet, Pixels, forget_pages, rows_of

_BLOCK_BYTES = 16 << 20
_MAX_THREADS = 8

Kind = Literal["exact", "near"]


@dataclass(frozen=True, kw_only=True)
class Leak:
    """An image that is a copy of one held out from training.

    Attributes:
        split: the set it was in ("unlabeled", "train" or "val").
        file: its name.
        copy_of_split: "test" or "val".
        copy_of: name of the image there: the first with the same pixels, or the most similar one.
        row, copy_of_row: where the pixels of both lie in their sets' arrays.
        kind: "exact", the same pixels, or "near": encoded anew, resized, turned or mirrored.
        similarity: 1 for exact copies.
    """

    split: str
    file: str
    copy_of_split: str
    copy_of: str
    row: int
    copy_of_row: int
    kind: Kind = "exact"
    similarity: float = 1.0


def image_digests(sets: Sequence[ImageSet]) -> list[list[bytes]]:
    """A 16-byte BLAKE2b digest of each image of each set; equal digests, equal pixels, across all ``sets``.

    Reads about 1 GB/s a processor and holds a few blocks of 16 MB, however large the sets. Images of
    different sizes never have equal digests.
    """
    order = _common_order([images.pixels for images in sets])
    done: list[tuple[ImageSet, list[bytes]]] = []
    for images in sets:
        before = next((digests for other, digests in done if same_images(other, images)), None)
        done.append((images, _digests(images, order) if before is None else before))
    return [digests for _, digests in done]


def same_images(one: ImageSet, other: ImageSet) -> bool:
    """Whether both are the same rows of the same array."""
    return one.pixels is other.pixels and np.array_equal(one.rows, other.rows)


def images_a_block(pixels: Pixels) -> int:
    """How many images are read at a time, so that memory stays flat however many there are."""
    return max(1, _BLOCK_BYTES // max(1, math.prod(pixels.shape[1:])))


def _common_order(arrays: Sequence[Pixels]) -> tuple[int, ...]:
    """The axes in the order in which the largest array lies in memory.

    Any order serves as long as it is the same for all; this one saves transposing most images, as
    STL-10's files would need.
    """
    largest = max(arrays, key=lambda array: array.nbytes)
    return (0, *sorted((1, 2, 3), key=lambda axis: -abs(largest.strides[axis])))


def _digests(images: ImageSet, order: tuple[int, ...]) -> list[bytes]:
    view = images.pixels.transpose(order)
    size = repr(images.pixels.shape[1:]).encode()
    each = images_a_block(images.pixels)

    def of(rows: npt.NDArray[np.int64]) -> list[bytes]:
        block = np.ascontiguousarray(rows_of(view, rows))
        return [blake2b(image, digest_size=16, key=size).digest() for image in block]

    # Hashing leaves the interpreter lock, so threads are enough.
    threads = min(_MAX_THREADS, usable_cpus())
    digests: list[bytes] = []
    with ThreadPoolExecutor(threads) as pool:
        for blocks in _blocks(images.rows, each, threads):
            for part in pool.map(of, blocks):
                digests += part
            forget_pages(images.pixels)
    return digests


def _blocks(rows: npt.NDArray[np.int64], each: int, at_once: int) -> Iterator[list[npt.NDArray[np.int64]]]:
    for start in range(0, len(rows), each * at_once):
        stop = min(len(rows), start + each * at_once)
        yield [rows[i : min(i + each, stop)] for i in range(start, stop, each)]


def first_positions(digests: Sequence[bytes]) -> dict[bytes, int]:
    """Digest → position of the first image that has it."""
    positions: dict[bytes, int] = {}
    for position, digest in enumerate(digests):
        positions.setdefault(digest, position)
    return positions


def find_leaks(
    split: str, images: ImageSet, digests: Sequence[bytes], held_out: Mapping[str, tuple[ImageSet, Mapping[bytes, int]]]
) -> tuple[npt.NDArray[np.bool_], list[Leak]]:
    """Images that are exact copies of held-out ones.

    Args:
        split: what ``images`` are called.
        images: the set to look through.
        digests: of ``images``, from ``image_digests``.
        held_out: for each held-out split its images, and digest → position there; the first split that holds a
            digest is named.

    Returns:
        (N,) mask, true for copies, and one ``Leak`` for each, in the set's order.
    """
    mask = np.zeros(len(images), dtype=np.bool_)
    leaks: list[Leak] = []
    for position, digest in enumerate(digests):
        for held_out_split, (held, positions) in held_out.items():
            if digest in positions:
                mask[position] = True
                leaks.append(leak_of(split, images, position, held_out_split, held, positions[digest]))
                break
    return mask, leaks


def leak_of(
    split: str,
    images: ImageSet,
    position: int,
    held_out_split: str,
    held_out: ImageSet,
    held_out_position: int,
    *,
    kind: Kind = "exact",
    similarity: float = 1.0,
) -> Leak:
    """The leak of the image at one position of a set, which is a copy of that at another of a held-out one."""
    return Leak(
        split=split,
        file=images.name(position),
        copy_of_split=held_out_split,
        copy_of=held_out.name(held_out_position),
        row=int(images.rows[position]),
        copy_of_row=int(held_out.rows[held_out_position]),
        kind=kind,
        similarity=similarity,
    )


def copy_groups(digests: Sequence[bytes]) -> list[list[int]]:
    """Positions of images that are copies of each other: a list for each picture that is there twice."""
    groups: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        groups.setdefault(digest, []).append(position)
    return [group for group in groups.values() if len(group) > 1]
