"""Perceptual hashes of pictures: close for copies that were encoded anew or resized, and for turned or mirrored ones.

The hash is that of the low frequencies of a picture's brightness, as in pHash (Zauner 2010, *Implementation and
Benchmarking of Perceptual Image Hash Functions*), kept as signed bytes rather than single bits: pictures of 32 pixels
have many coefficients near zero, whose sign says nothing. Mirroring a picture changes signs and turning it also swaps
rows and columns, so the hashes of all eight ways that a square can lie come from one.

All sums are of whole numbers that float32 or float64 holds exactly, so the same images give the same hashes whatever
the block size, the number of threads and the machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twoviews.dataset.copies import images_a_block
from twoviews.dataset.images import ImageSet, Indices, Pixels, forget_pages, rows_of

GRID = 16  # a picture is seen as 16×16 areas of three colours
FREQUENCIES = 8  # of each direction, in the hash; the first is the mean
WAYS = 8  # that a square can lie
LENGTH = 127  # of a hash as a vector; no entry is larger, so that each fits a signed byte
BLANK_CONTRAST = 3.0  # standard deviation of brightness, of 255, under which a picture has no hash

Hashes = npt.NDArray[np.int8]
Grids = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PictureHashes:
    """What is kept of each of N images: 76 bytes.

    Attributes:
        hashes: (N, 8, 8) int8, weighted cosine coefficients of the brightness, rows by columns; the mean's is 0.
        means: (N,) float64, mean brightness, 0 to 255.
        blank: (N,) true for images of (nearly) one brightness; their hash means nothing.
    """

    hashes: Hashes
    means: npt.NDArray[np.float64]
    blank: npt.NDArray[np.bool_]

    def take(self, positions: Indices) -> PictureHashes:
        """Those of some of the images."""
        return PictureHashes(self.hashes[positions], self.means[positions], self.blank[positions])


def picture_hashes(images: ImageSet) -> PictureHashes:
    """The hash of each image; reads the pixels block by block, in the order in which they lie in memory."""
    parts = [_of_grids(small) for small in _blocks(images, np.arange(len(images), dtype=np.int64))]
    return PictureHashes(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.means for part in parts]),
        np.concatenate([part.blank for part in parts]),
    )


def grids(images: ImageSet, positions: Indices) -> Grids:
    """The mean colour of each of 16×16 areas: len(positions)×3×16×16 uint8, halves rounded up."""
    return np.concatenate(list(_blocks(images, positions)))


def _blocks(images: ImageSet, positions: Indices) -> Iterator[Grids]:
    """``grids`` of some images after the other; the first block is empty, so that there is always one."""
    yield np.empty((0, 3, GRID, GRID), dtype=np.uint8)
    each = images_a_block(images.pixels)
    for start in range(0, len(positions), each):
        yield _grids_of(images.pixels, images.rows[positions[start : start + each]])
        forget_pages(images.pixels)


def _grids_of(pixels: Pixels, rows: Indices) -> Grids:
    # STL-10 stores columns first: read so, what is read is one piece, and only the small result is transposed.
    by_columns = abs(pixels.strides[2]) < abs(pixels.strides[3])
    lying = pixels.transpose(0, 1, 3, 2) if by_columns else pixels
    block = np.ascontiguousarray(rows_of(lying, rows))
    count, colours, height, width = block.shape
    across, weight_across = _area_sums(width)
    if height % GRID == 0:
        weight = height // GRID
        lines = block.reshape(count, colours, GRID, weight, width).sum(axis=3, dtype=np.uint16)
    else:
        down, weight = _area_sums(height)
        lines = down @ block.astype(np.float64)
    total = weight * weight_across
    # Sums of whole numbers are exact in float32 up to 2^24, which is faster.
    kind = np.float32 if 255 * total < 1 << 24 else np.float64
    sums = lines.reshape(-1, width).astype(kind) @ across.T.astype(kind)
    small = np.floor(sums / kind(total) + kind(0.5)).astype(np.uint8).reshape(count, colours, GRID, GRID)
    return np.ascontiguousarray(small.transpose(0, 1, 3, 2)) if by_columns else small


def _area_sums(size: int) -> tuple[npt.NDArray[np.float64], int]:
    """GRID×size whole weights whose rows sum ``size`` pixels into GRID equal areas, and the sum of a row."""
    common = math.gcd(size, GRID)
    pixel, area = GRID // common, size // common  # lengths of both in the same unit
    starts = np.arange(size) * pixel
    begins = np.arange(GRID)[:, None] * area
    overlap = np.minimum(starts + pixel, begins + area) - np.maximum(starts, begins)
    return np.maximum(overlap, 0).astype(np.float64), area


def _of_grids(small: Grids) -> PictureHashes:
    red, green, blue = (small[:, channel].astype(np.float64) for channel in range(3))
    brightness = 5 * red + 9 * green + 2 * blue  # whole numbers, 16 times the weighted mean
    coefficients = (_COSINES @ brightness @ _COSINES.T) * _WEIGHTS
    squares = coefficients**2
    # The sum is that of a matrix equal to its transpose, so that turning a picture changes not even its last bit.
    lengths = np.sqrt((squares + squares.transpose(0, 2, 1)).reshape(-1, FREQUENCIES**2).sum(axis=1) / 2)
    flat = brightness.reshape(-1, GRID**2)
    means = flat.sum(axis=1) / (16 * GRID**2)
    variance = (flat**2).sum(axis=1) / (256 * GRID**2) - means**2
    blank = variance < BLANK_CONTRAST**2
    scale = np.divide(LENGTH, lengths, out=np.zeros_like(lengths), where=~blank & (lengths > 0))
    hashes = np.rint(coefficients * scale[:, None, None]).astype(np.int8)
    return PictureHashes(hashes, means, blank | (lengths == 0))


def _cosines() -> npt.NDArray[np.float64]:
    """FREQUENCIES×GRID: the cosine transform's rows in whole numbers, exactly even or odd."""
    angle = np.pi * np.outer(np.arange(FREQUENCIES), 2 * np.arange(GRID) + 1) / (2 * GRID)
    rows = np.rint(1024 * np.cos(angle))
    half = rows[:, : GRID // 2]
    return np.concatenate([half, half[:, ::-1] * _SIGNS[:, None]], axis=1)


def _weights() -> npt.NDArray[np.float64]:
    """FREQUENCIES×FREQUENCIES: pictures hold less the higher the frequency; this makes all count alike."""
    place = np.arange(FREQUENCIES)
    weights: npt.NDArray[np.float64] = np.rint(16 * np.hypot(place[:, None], place[None, :]))
    return weights


_SIGNS = np.where(np.arange(FREQUENCIES) % 2, -1.0, 1.0)  # what mirroring does to each frequency
_COSINES = _cosines()
_WEIGHTS = _weights()


def turned(squares: Grids, way: int) -> Grids:
    """Pictures (..., n, n) in one of the 8 ways a square can lie.

    Of ``way``, 4 swaps rows and columns, then 2 turns the rows' order round, and 1 that of the columns.
    """
    if way & 4:
        squares = squares.swapaxes(-1, -2)
    if way & 2:
        squares = squares[..., ::-1, :]
    return squares[..., ::-1] if way & 1 else squares


def turned_hashes(hashes: Hashes) -> npt.NDArray[np.float32]:
    """(N, 8, 64): the hash of each picture in each way it can lie, in the order of ``turned``."""
    plain = hashes.astype(np.float32)
    signs = _SIGNS.astype(np.float32)
    ways = []
    for way in range(WAYS):
        hashed = plain.swapaxes(1, 2) if way & 4 else plain
        if way & 2:
            hashed = hashed * signs[:, None]
        ways.append(hashed * signs if way & 1 else hashed)
    return np.stack(ways, axis=1).reshape(len(plain), WAYS, -1)


def shapes(hashes: Hashes) -> npt.NDArray[np.float32]:
    """(N, 36): what stays of each hash however the picture lies: the length of each pair of entries that swap."""
    squares = hashes.astype(np.float32) ** 2
    both = np.sqrt(squares + squares.swapaxes(1, 2))
    both[:, np.arange(FREQUENCIES), np.arange(FREQUENCIES)] = np.abs(np.diagonal(hashes, axis1=1, axis2=2))
    rows, columns = np.triu_indices(FREQUENCIES)
    return np.ascontiguousarray(both[:, rows, columns])
