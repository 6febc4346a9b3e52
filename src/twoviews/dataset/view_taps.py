"""Views as sums of few rows, the form for CPUs.

Each row of a result is made of few rows: three channels for a colour, two or three pixels for a bilinear resampling,
the kernel's taps for a blur. So each operation is one ``embedding_bag``: a table of rows, and for each row wanted the
numbers and weights of those to add. As products of dense matrices (``view_matrices``) the same takes seven (with blur)
to twenty times the multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from twoviews.dataset.view_parameters import ViewColours, ViewParameters, blur_kernels, mirrored, resize_weights

_CHUNK_VALUES = 500_000  # of float32 a thread: the few copies of a chunk stay in a core's share of L3


def by_taps(images: Tensor, p: ViewParameters, colours: ViewColours, view_size: int, *, blur: bool) -> Tensor:
    """Views of images (n×3×H×W), number j·n + i of image i: N×view_size×view_size×3 float32, clipped."""
    device, (n, _, height, width), count = images.device, images.shape, len(p.top)
    scale, shift = colours.scale, colours.shift
    # Rows of pixels, because broadcasting over three channels alone is slow.
    low, high = shift.repeat(view_size), (scale + shift).repeat(view_size)
    chunk = _chunk(images, view_size)
    table_number = (torch.arange(n, device=device) % chunk).repeat(count // n)
    plan = _Plan(
        columns=_resize_taps(p.left, p.width, p.flip, width, view_size, table_number),
        rows=_resize_taps(p.top, p.height, torch.zeros_like(p.flip), height, view_size, table_number),
        colour=colours.matrix,
        added=colours.added,
        kernels=blur_kernels(p.sigma, view_size) if blur else None,
    )
    out = torch.empty(count, view_size, view_size * 3, device=device)
    for start in range(0, n, chunk):
        turned = images[start : start + chunk].permute(0, 3, 1, 2)
        table = torch.empty(turned.shape, device=device).copy_(turned)
        for first in range(start, count, n):
            part = slice(first, first + len(table))
            x, grey = _resample(table, plan[part])
            x += (grey * scale + shift).repeat(1, view_size)[:, None]
            torch.clamp(x, low, high, out=out[part])
    return out.view(count, view_size, view_size, 3)


def _chunk(images: Tensor, view_size: int) -> int:
    """Images that go through at once: as many as stay in the processor's cache."""
    values = 3 * max(images.shape[2], view_size) * max(images.shape[3], view_size)
    return max(1, _CHUNK_VALUES * torch.get_num_threads() // values)


@dataclass(frozen=True)
class _Taps:
    """Which rows make each row of a result: their numbers (n×B×K, int32) and weights (n×B×K).

    The numbers count through the tables of all images that go through at once. With ``starts``, the first of each sum,
    sums may differ in length, and numbers and weights lie behind each other in one dimension.
    """

    rows: Tensor
    weights: Tensor
    starts: Tensor | None = None

    def __getitem__(self, part: slice) -> _Taps:
        return _Taps(self.rows[part], self.weights[part])

    def mean(self) -> _Taps:
        """Taps that make the mean of all the rows that these make."""
        return _Taps(self.rows.flatten(1)[:, None], self.weights.flatten(1)[:, None] / self.rows.shape[1])

    def without_zeros(self) -> _Taps:
        """The same without the rows that weigh nothing."""
        some = self.weights != 0
        counts = some.sum(dim=2, dtype=torch.int32).view(-1)
        starts = counts.cumsum(0, dtype=torch.int32) - counts
        return _Taps(self.rows.masked_select(some), self.weights.masked_select(some), starts)


def _sum_rows(tables: Tensor, taps: _Taps) -> Tensor:
    """The sums n×B×D that ``taps`` describe of the rows of n tables (n×R×D)."""
    n, _, width = tables.shape
    rows, weights = taps.rows, taps.weights
    if taps.starts is None:
        rows, weights = rows.flatten(0, 1), weights.flatten(0, 1)
    sums = F.embedding_bag(rows, tables.view(-1, width), taps.starts, per_sample_weights=weights, mode="sum")
    return sums.view(n, -1, width)


@dataclass(frozen=True)
class _Plan:
    """What makes n views: taps of columns and rows, 3×3 colour matrix, what to add per mean colour, blur kernel."""

    columns: _Taps
    rows: _Taps
    colour: Tensor
    added: Tensor
    kernels: Tensor | None

    def __getitem__(self, part: slice) -> _Plan:
        kernels = self.kernels if self.kernels is None else self.kernels[part]
        return _Plan(self.columns[part], self.rows[part], self.colour[part], self.added[part], kernels)


def _resample(table: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
    """Crop, resize and flip n images, change their colours and blur them.

    Args:
        table: n×W×3×H, so that a row of an image's table is a column of its pixels.

    Returns:
        n×view_size×(view_size·3), channels last; n×1, the grey to add to each view.
    """
    n, _, channels, height = table.shape
    x = _sum_rows(table.flatten(2), plan.columns)
    by_row = x.mean(dim=1).view(n, channels, height).transpose(1, 2).contiguous()
    mean_colour = _sum_rows(by_row, plan.rows.mean()).view(n, channels)
    size = x.shape[1]
    x = _sum_rows(x.view(n, size * channels, height), _colour_taps(plan.colour, size)).view(x.shape)
    if plan.kernels is not None:
        blur = _blur_taps(plan.kernels, size).without_zeros()
        x = _sum_rows(x, blur)
    x = _sum_rows(x.view(n, size * channels, height).transpose(1, 2).contiguous(), plan.rows)
    if plan.kernels is not None:
        x = _sum_rows(x, blur)
    return x, (plan.added * mean_colour).sum(dim=1, keepdim=True)


def _colour_taps(colour: Tensor, width: int) -> _Taps:
    """Multiply the colours of n images, as tables of width·3 rows, by their 3×3 matrices."""
    rows = torch.arange(3 * width * len(colour), dtype=torch.int32, device=colour.device)
    rows = rows.view(-1, 1, 3).expand(-1, 3, -1).reshape(len(colour), -1, 3)
    return _Taps(rows, colour.reshape(-1, 1, 9).expand(-1, width, -1).reshape(rows.shape))


def _resize_taps(start: Tensor, extent: Tensor, flip: Tensor, size: int, view_size: int, table_number: Tensor) -> _Taps:
    pixels, weights = resize_weights(start, extent, flip, size, view_size)
    return _Taps(pixels.clamp_(0, size - 1).int() + (size * table_number).int()[:, None, None], weights)


def _blur_taps(kernels: Tensor, view_size: int) -> _Taps:
    """Blur n views along their rows by the kernels (n×K), edges mirrored."""
    (n, k), device = kernels.shape, kernels.device
    first = torch.arange(0, n * view_size, view_size, dtype=torch.int32, device=device)[:, None, None]
    return _Taps(mirrored(k, view_size, device) + first, kernels[:, None].expand(-1, view_size, -1))
