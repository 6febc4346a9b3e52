"""Exact copies of images, found by a hash of their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from twoviews.dataset.decode_workers import usable_cpus
from twoviews.dataset.images import ImageSet, Pixels

_BLOCK_BYTES = 16 << 20
_MAX_THREADS = 8


@dataclass(frozen=True)
class Leak:
    """An image that is a pixel-exact copy of one held out from training.

    Attributes:
        split: the set it was in ("unlabeled", "train" or "val"), and was left out of.
        file: its name.
        copy_of_split: "test" or "val".
        copy_of: name of the first image there with the same pixels.
    """

    split: str
    file: str
    copy_of_split: str
    copy_of: str


def image_digests(sets: Sequence[ImageSet]) -> list[list[bytes]]:
    """A 16-byte BLAKE2b digest of each image of each set; equal digests, equal pixels, across all ``sets``.

    Reads about 1 GB/s a processor and holds a few blocks of 16 MB, however large the sets. Images of
    different sizes never have equal digests.
    """
    order = _common_order([images.pixels for images in sets])
    done: list[tuple[ImageSet, list[bytes]]] = []
    for images in sets:
        before = next((digests for other, digests in done if _same_images(other, images)), None)
        done.append((images, _digests(images, order) if before is None else before))
    return [digests for _, digests in done]


def _same_images(one: ImageSet, other: ImageSet) -> bool:
    return one.pixels is other.pixels and np.array_equal(one.rows, other.rows)


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
    each = max(1, _BLOCK_BYTES // max(1, int(np.prod(images.pixels.shape[1:]))))

    def of(rows: npt.NDArray[np.int64]) -> list[bytes]:
        first, last = int(rows[0]), int(rows[-1])
        # Neighbouring rows are read where they lie, without a copy.
        dense = last - first == len(rows) - 1 and bool((np.diff(rows) == 1).all())
        block = np.ascontiguousarray(view[first : last + 1] if dense else view[rows])
        return [blake2b(image, digest_size=16, key=size).digest() for image in block]

    # Hashing leaves the interpreter lock, so threads are enough.
    threads = min(_MAX_THREADS, usable_cpus())
    digests: list[bytes] = []
    with ThreadPoolExecutor(threads) as pool:
        for blocks in _blocks(images.rows, each, threads):
            for part in pool.map(of, blocks):
                digests += part
    return digests


def _blocks(rows: npt.NDArray[np.int64], each: int, at_once: int) -> Iterator[list[npt.NDArray[np.int64]]]:
    for start in range(0, len(rows), each * at_once):
        stop = min(len(rows), start + each * at_once)
        yield [rows[i : min(i + each, stop)] for i in range(start, stop, each)]


def first_names(images: ImageSet, digests: Sequence[bytes]) -> dict[bytes, str]:
    """Digest → name of the first image that has it."""
    names: dict[bytes, str] = {}
    for position, digest in enumerate(digests):
        if digest not in names:
            names[digest] = images.name(position)
    return names


def find_leaks(
    split: str, images: ImageSet, digests: Sequence[bytes], held_out: Mapping[str, Mapping[bytes, str]]
) -> tuple[npt.NDArray[np.bool_], list[Leak]]:
    """Images that are exact copies of held-out ones.

    Args:
        split: what ``images`` are called.
        images: the set to look through.
        digests: of ``images``, from ``image_digests``.
        held_out: for each held-out split, digest → name; the first split that holds a digest is named.

    Returns:
        (N,) mask, true for copies, and one ``Leak`` for each, in the set's order.
    """
    mask = np.zeros(len(images), dtype=np.bool_)
    leaks: list[Leak] = []
    for position, digest in enumerate(digests):
        for held_out_split, names in held_out.items():
            if digest in names:
                mask[position] = True
                leaks.append(Leak(split, images.name(position), held_out_split, names[digest]))
                break
    return mask, leaks


def copy_groups(digests: Sequence[bytes]) -> list[list[int]]:
    """Positions of images that are copies of each other: a list for each picture that is there twice."""
    groups: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        groups.setdefault(digest, []).append(position)
    return [group for group in groups.values() if len(group) > 1]
