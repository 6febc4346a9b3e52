"""The k most similar rows of a bank for each query, exactly, tile by tile.

Where the processor multiplies in bf16, a large search is screened in bf16 first. Its candidates are compared again in
float32, and a bound on the rounding tells for each query whether a row that was not a candidate could belong to its
neighbours; such a query is searched in float32. So the neighbours are those of float32 either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from twoviews.evaluation.arrays import TILE_NUMBERS, Doubles, Singles, Whole
from twoviews.processor import multiplies_in_bf16

SCREENED_FROM = 1 << 36
"""Fewest products of two numbers that a search must take to be screened: below, float32 needs a second or two."""

SPARE_CANDIDATES = 32
"""Candidates beyond k are half of k, and at least so many."""

MOST_UNCERTAIN = 0.25
"""If more of a tile's queries have to be searched again, bf16 can't tell this bank's rows apart: it is given up."""

BF16_ROUNDING = 2.0**-8

Nearest = tuple[slice, Doubles, Whole]
"""Rows of the queries; cosine of their k nearest, nearest first; which rows of the bank those are."""


def nearest(queries: Singles, bank: Singles, k: int, left_out: Whole | None = None) -> Iterator[Nearest]:
    """The k rows of the bank with the largest product, for every query; of equal products, the first rows.

    Memory beyond what is given: tiles of fixed size, and half the bank once more where it is screened in bf16.

    Args:
        queries: N×D, rows of length 1 (or 0).
        bank: M×D, rows of length 1 (or 0).
        k: in [1, M], or in [1, M − 1] with ``left_out``.
        left_out: (N,) row of the bank that is no neighbour of each query.
    """
    begin, step = 0, max(1, TILE_NUMBERS // len(bank))
    if len(queries) * bank.size >= SCREENED_FROM and multiplies_in_bf16():
        screen = _Screen.of(bank)
        for rows in _slices(len(queries), 4 * step):
            cosines, found, certain = screen.search(queries[rows], k, None if left_out is None else left_out[rows])
            again = np.flatnonzero(~certain)
            for part in _slices(len(again), step):
                doubtful = again[part]
                banned = None if left_out is None else left_out[rows][doubtful]
                cosines[doubtful], found[doubtful] = _search(queries[rows][doubtful], bank, k, banned)
            yield rows, cosines.astype(np.float64), found
            begin = rows.stop
            if len(again) > MOST_UNCERTAIN * len(certain):
                break
    for rows in _slices(len(queries), step, begin):
        cosines, found = _search(queries[rows], bank, k, None if left_out is None else left_out[rows])
        yield rows, cosines.astype(np.float64), found


def _slices(length: int, step: int, begin: int = 0) -> Iterator[slice]:
    for start in range(begin, length, step):
        yield slice(start, min(start + step, length))


def _search(queries: Singles, bank: Singles, k: int, left_out: Whole | None) -> tuple[Singles, Whole]:
    """One tile in float32."""
    similarities = queries @ bank.T
    if left_out is not None:
        similarities[np.arange(len(similarities)), left_out] = -np.inf
    found = torch.from_numpy(similarities).topk(k, dim=1, sorted=False).indices.numpy()
    cosines = np.take_along_axis(similarities, found, axis=1)
    last = cosines.min(axis=1)
    # Of rows as similar as the k-th, topk takes any.
    for row in np.flatnonzero(np.count_nonzero(similarities >= last[:, None], axis=1) > k):
        level = np.flatnonzero(similarities[row] >= last[row])
        found[row] = level[np.argsort(-similarities[row, level], kind="stable")[:k]]
        cosines[row] = similarities[row, found[row]]
    return _in_order(cosines, found, k)


def _in_order(cosines: Singles, found: Whole, k: int) -> tuple[Singles, Whole]:
    """The k nearest of these, nearest first; of equals, the first in the bank."""
    order = np.lexsort((found, -cosines), axis=1)[:, :k]
    return np.take_along_axis(cosines, order, axis=1), np.take_along_axis(found, order, axis=1)


@dataclass(frozen=True)
class _Screen:
    """A bank in bf16, less its mean: that moves all products of a query alike, and leaves less to round.

    Attributes:
        bank: M×D float32.
        coarse: M×D bf16, ``bank - mean``.
        mean: (D,) float32.
        error: largest length of a row of ``bank - mean - coarse``.
        length: largest length of a row of ``coarse``.
    """

    bank: Tensor
    coarse: Tensor
    mean: Tensor
    error: float
    length: float

    @classmethod
    def of(cls, bank: Singles) -> _Screen:
        exact = torch.from_numpy(bank)
        mean, coarse = exact.mean(dim=0), torch.empty(exact.shape, dtype=torch.bfloat16)
        error = length = 0.0
        for rows in _slices(len(bank), max(1, TILE_NUMBERS // bank.shape[1])):
            part = exact[rows] - mean
            coarse[rows] = part
            rounded = coarse[rows].float()
            length = max(length, float(rounded.norm(dim=1).max()))
            error = max(error, float(part.sub_(rounded).norm(dim=1).max()))
        return cls(exact, coarse, mean, error, length)

    def search(self, queries: Singles, k: int, left_out: Whole | None) -> tuple[Singles, Whole, np.ndarray]:
        """One tile: cosines and rows of the k nearest, and for which queries they are certain."""
        exact = torch.from_numpy(queries)
        coarse = exact.bfloat16()
        similarities = coarse @ self.coarse.T
        if left_out is not None:
            similarities[torch.arange(len(exact)), torch.from_numpy(left_out)] = -torch.inf
        kept = min(len(self.bank) - (left_out is not None), k + max(k // 2, SPARE_CANDIDATES))
        best, candidates = similarities.topk(kept, dim=1, sorted=False)
        cosines, found = _in_order(self._products(exact, candidates).numpy(), candidates.numpy(), k)
        # A row that isn't a candidate was no higher than the lowest that is, before rounding to bf16; its exact
        # product differs by what was rounded off on both sides (Cauchy-Schwarz) and by the sums in float32.
        last = best.amin(dim=1).float()
        rounding = (exact - coarse.float()).norm(dim=1) * self.length + exact.norm(dim=1) * self.error
        rounding += last.abs() * BF16_ROUNDING + exact.shape[1] * 2.0**-22
        highest = (last + exact @ self.mean + rounding).numpy()
        certain = (cosines[:, -1] > highest) | (kept >= len(self.bank) - (left_out is not None))
        return cosines, found, certain

    def _products(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Products in float32 of each query with its own candidates, in the candidates' shape."""
        products = torch.empty(candidates.shape)
        # One query at a time: its rows of the bank stay in the cache between being gathered and multiplied.
        gathered = torch.empty(candidates.shape[1], queries.shape[1])
        for query, rows, product in zip(queries, candidates, products, strict=True):
            torch.index_select(self.bank, 0, rows, out=gathered)
            torch.mv(gathered, query, out=product)
        return products
