"""Near copies of images: encoded anew, resized, turned or mirrored; screened by their hashes, confirmed on pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from twoviews.dataset.images import ImageSet, Indices
from twoviews.dataset.picture_hash import (
    FREQUENCIES,
    GRID,
    LENGTH,
    WAYS,
    Grids,
    PictureHashes,
    grids,
    shapes,
    turned,
    turned_hashes,
)

# Chosen by benchmarks/near_copies.py, which measures what they find and what they mistake; docs/data.md.
HASH_SIMILARITY = 0.9  # cosine of two hashes from which on pictures are looked at
SIMILARITY = 0.9  # of pictures from which on one is a near copy of the other
MEAN_TOLERANCE = 8.0  # of brightness, of 255: encoding moves the mean by 3 at most, and turning does not

_CANDIDATES = 3  # best hashes of each picture that are looked at
_ROWS, _COLUMNS = 512, 4096  # shapes compared at a time
_PAIRS = 8192  # hashes compared at a time, the first in all ways


class NearCopies(NamedTuple):
    """Pairs of images that show the same picture, by ascending ``first``, the most similar first.

    Attributes:
        first, second: (P,) positions in the two sets.
        similarity: (P,) from ``SIMILARITY`` to 1.
    """

    first: Indices
    second: Indices
    similarity: npt.NDArray[np.float64]


def find_near_copies(
    first: ImageSet,
    first_hashes: PictureHashes,
    second: ImageSet,
    second_hashes: PictureHashes,
    *,
    within: bool = False,
) -> NearCopies:
    """Images of ``first`` that show the same picture as one of ``second``, exact copies among them.

    Only pictures of nearly the same mean brightness are compared: by their shapes, then by their hashes in all eight
    ways, then, of each image the three of ``second`` with the most similar hashes, by ``similarity``. Blank images are
    left out.

    Args:
        first, second: the sets; their images have one size, or sizes of their own.
        first_hashes, second_hashes: from ``picture_hashes``.
        within: both sets are the same one: no image is compared with itself, and a pair is given once.
    """
    mine, others, ways = _screen(first_hashes, second_hashes, within)
    like = np.empty(len(mine))
    for start in range(0, len(mine), 1024):
        part = slice(start, start + 1024)
        like[part] = _similarity_of_pairs(first, mine[part], second, others[part], ways[part])
    keep = like >= SIMILARITY
    mine, others, like = mine[keep], others[keep], like[keep]
    order = np.lexsort((others, -like, mine))
    return NearCopies(mine[order], others[order], like[order])


def _screen(first: PictureHashes, second: PictureHashes, within: bool) -> tuple[Indices, Indices, Indices]:
    """Positions of pairs with similar hashes and the way that makes them so, a few for each of ``first``.

    Two hashes are as similar as their ``shapes`` in no way they can lie, or less. So one product of shapes that is too
    small rules out all eight ways.
    """
    mine, others = _by_brightness(first), _by_brightness(second)
    means, least = second.means[others], HASH_SIMILARITY * LENGTH**2
    none = np.empty(0, dtype=np.int64)
    found = [(none, none, none)]
    for start in range(0, len(mine), _ROWS):
        rows = mine[start : start + _ROWS]
        left = torch.from_numpy(shapes(first.hashes[rows]))
        low = int(np.searchsorted(means, first.means[rows[0]] - MEAN_TOLERANCE, "left"))
        high = int(np.searchsorted(means, first.means[rows[-1]] + MEAN_TOLERANCE, "right"))
        pairs = [(none, none)]
        for begin in range(low, high, _COLUMNS):
            columns = others[begin : min(begin + _COLUMNS, high)]
            products = left @ torch.from_numpy(shapes(second.hashes[columns])).T
            # Products of shapes are rounded; those of hashes, which decide, are not.
            line, column = np.divmod(np.flatnonzero(products.numpy() >= least - 1), len(columns))
            pairs.append((rows[line], columns[column]))
        one, two = (np.concatenate(part) for part in zip(*pairs, strict=True))
        keep = np.abs(first.means[one] - second.means[two]) <= MEAN_TOLERANCE
        keep &= (one < two) | (not within)
        found.append(_best(one[keep], two[keep], first, second, least))
    one, two, way = (np.concatenate(part) for part in zip(*found, strict=True))
    return one, two, way


def _by_brightness(hashes: PictureHashes) -> Indices:
    """Positions of all that aren't blank, by ascending mean brightness."""
    order = np.argsort(hashes.means, kind="stable")
    return order[~hashes.blank[order]].astype(np.int64)


def _best(
    mine: Indices, others: Indices, first: PictureHashes, second: PictureHashes, least: float
) -> tuple[Indices, Indices, Indices]:
    """Of each image the few others with the most similar hashes, each in its best way."""
    scores, ways = np.empty(len(mine), dtype=np.float32), np.empty(len(mine), dtype=np.int64)
    for start in range(0, len(mine), _PAIRS):
        part = slice(start, start + _PAIRS)
        left = torch.from_numpy(turned_hashes(first.hashes[mine[part]]))
        right = torch.from_numpy(second.hashes[others[part]].reshape(-1, FREQUENCIES**2, 1).astype(np.float32))
        products = (left @ right).squeeze(2).numpy()
        ways[part] = products.argmax(axis=1)
        scores[part] = products.max(axis=1)
    keep = np.flatnonzero(scores >= least)
    keep = keep[np.lexsort((others[keep], -scores[keep], mine[keep]))]
    starts = np.searchsorted(mine[keep], mine[keep], "left")
    keep = keep[np.arange(len(keep)) - starts < _CANDIDATES]
    return mine[keep], others[keep], ways[keep]


def _similarity_of_pairs(
    first: ImageSet, mine: Indices, second: ImageSet, others: Indices, ways: Indices
) -> npt.NDArray[np.float64]:
    left, right = _grids_of(first, mine), _grids_of(second, others)
    for way in range(WAYS):
        left[ways == way] = turned(left[ways == way], way)
    return similarity(left, right)


def _grids_of(images: ImageSet, positions: Indices) -> Grids:
    """``grids`` of positions that may stand there more than once."""
    alone, place = np.unique(positions, return_inverse=True)
    return grids(images, alone)[place]


def similarity(first: Grids, second: Grids) -> npt.NDArray[np.float64]:
    """How alike pictures are that lie the same way: (P, 3, 16, 16) uint8 each → (P,), 1 for equal ones.

    One minus the squared difference of the areas' colours over the sum of both pictures' variances: Lin's
    concordance coefficient (1989) with equal means. Different pictures are at 0 on average.
    """
    one, two = (part.reshape(len(part), 3, -1).astype(np.float64) for part in (first, second))
    count = GRID**2
    difference = one - two
    # Sums of whole numbers, exact. The mean colour may differ a little, so that it is taken out of the difference.
    squared = count * (difference**2).sum(axis=2) - difference.sum(axis=2) ** 2
    spread = count * (one**2 + two**2).sum(axis=2) - one.sum(axis=2) ** 2 - two.sum(axis=2) ** 2
    alike: npt.NDArray[np.float64] = 1.0 - squared.sum(axis=1) / np.maximum(spread.sum(axis=1), 1.0)
    return alike
