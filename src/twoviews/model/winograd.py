"""3×3 convolutions with a fraction of the multiplications, in float32 on CPUs (Winograd's minimal filtering).

The output is cut into tiles of m×m pixels. The (m+2)×(m+2) pixels under a tile and the kernel are values of
polynomials' coefficients; multiplied point by point, summed over channels and brought back, they give the tile with
(m+2)² products for each pair of channels in place of 9·m²: 16 for 36 with m = 2, 36 for 144 with m = 4. All three steps
are matrix products, and both gradients are their transposes. Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (CVPR 2016), sections 3 and 4. ``benchmarks/convolutions.py`` measures where it is the faster way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from twoviews.model.windows import windows

# Where the polynomials are evaluated, and at infinity. A tile of m pixels takes the first m + 1.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)
_LARGEST_TILE = len(_POINTS) - 1
# At least so many tiles at a time, and as many as there are channels: the kernel at its points is read once for them,
# while what belongs to them should stay in a cache.
_TILES_AT_A_TIME = 256
# Fewer tiles than that in a batch, and the kernel's part is too dear.
_FEWEST_TILES = 64


class Limits(NamedTuple):
    """Where this is the faster way on a kind of processor, by ``benchmarks/convolutions.py``.

    ``several``: where several tiles make a map, for up to a share of a direct convolution's products the fewest pairs
    of an input and an output channel. ``one``: the fewest pairs where one tile is the map; it needs no padding and
    overlaps with none. ``channels_a_tile``: several tiles are too few if there are more input channels for each.
    """

    several: tuple[tuple[float, int], ...]
    one: int
    channels_a_tile: int


class _Plan(NamedTuple):
    """How a map of height × width is computed, each side at least 2.

    ``tile`` and ``grid``: pixels of a tile and number of tiles, by side. ``to_points``: P×(pixels under a tile), with P
    the number of points; of a single tile only the pixels that are not padding. ``kernel``: P×9. ``to_pixels``:
    (pixels of a tile)×P.
    """

    tile: tuple[int, int]
    grid: tuple[int, int]
    to_points: Tensor
    kernel: Tensor
    to_pixels: Tensor

    @property
    def tiles(self) -> int:
        """Of one image."""
        return self.grid[0] * self.grid[1]


def pays(out_channels: int, shape: torch.Size, limits: Limits) -> bool:
    """Whether this is the faster way for an input N×C×H×W.

    It is where there are many channels, tiles enough to share the kernel, and little of them beyond the map.
    """
    images, in_channels, height, width = shape
    if min(height, width) < 2:
        return False
    plan = _plan(height, width)
    tiles, pairs = images * plan.tiles, in_channels * out_channels
    if plan.tiles == 1:
        return tiles >= _FEWEST_TILES and pairs >= limits.one
    share = plan.tiles * len(plan.to_points) / (9 * height * width)
    has_tiles = tiles >= max(_FEWEST_TILES, in_channels // limits.channels_a_tile)
    return has_tiles and any(share <= most and pairs >= fewest for most, fewest in limits.several)


def _matrices(tile: int) -> tuple[Any, Any, Any]:
    """Of one side: input → points (m+2)×(m+2), kernel → points (m+2)×3, points → output m×(m+2)."""
    points = np.array(_POINTS[: tile + 1])
    others = [np.delete(points, i) for i in range(len(points))]
    to_points = np.zeros((tile + 2, tile + 2))
    for row, roots in zip(to_points, [*others, points], strict=True):
        row[: len(roots) + 1] = np.poly(roots)[::-1]
    scale = np.array([np.prod(point - rest) for point, rest in zip(points, others, strict=True)])
    kernel = np.vstack([np.vander(points, 3, increasing=True) / scale[:, None], [0, 0, 1]])
    to_pixels = np.hstack([np.vander(points, tile, increasing=True).T, np.eye(tile)[:, -1:]])
    return to_points, kernel, to_pixels


@lru_cache(maxsize=64)
def _plan(height: int, width: int) -> _Plan:
    """The tiles by which each side has the fewest points."""
    tile_h, tile_w = (
        min(range(2, _LARGEST_TILE + 1), key=lambda tile: -(-size // tile) * (tile + 2)) for size in (height, width)
    )
    grid = (-(-height // tile_h), -(-width // tile_w))
    (in_h, kernel_h, out_h), (in_w, kernel_w, out_w) = _matrices(tile_h), _matrices(tile_w)
    if grid == (1, 1):
        in_h, in_w = in_h[:, 1:-1], in_w[:, 1:-1]
    pairs = [(in_h, in_w), (kernel_h, kernel_w), (out_h, out_w)]
    return _Plan((tile_h, tile_w), grid, *(torch.from_numpy(np.kron(a, b)).float() for a, b in pairs))


def _tiles(x: Tensor, plan: _Plan) -> Tensor:
    """b×h×w×C → tiles×(pixels under a tile)×C."""
    b, height, width, channels = x.shape
    tile_h, tile_w = plan.tile
    if plan.tiles == 1:
        return x.reshape(b, height * width, channels)
    under = windows(x, (tile_h + 2, tile_w + 2), plan.tile, plan.grid, padding=1)
    return under.reshape(b * plan.tiles, (tile_h + 2) * (tile_w + 2), channels)


def _add_tiles(under: Tensor, plan: _Plan, x: Tensor) -> None:
    """The transpose of ``_tiles``: what lies under each tile is added up where tiles overlap, into b×h×w×C."""
    b, height, width, channels = x.shape
    (tile_h, tile_w), (rows, columns) = plan.tile, plan.grid
    if plan.tiles == 1:
        x.copy_(under.view(x.shape))
        return
    under = under.view(b, rows, columns, tile_h + 2, tile_w + 2, channels).transpose(2, 3)
    padded = x.new_zeros(b, rows + 1, tile_h, columns + 1, tile_w, channels)
    for down, h in ((0, tile_h), (1, 2)):
        for right, w in ((0, tile_w), (1, 2)):
            target = padded[:, down : down + rows, :h, right : right + columns, :w]
            target += under[:, :, down * tile_h : down * tile_h + h, :, right * tile_w : right * tile_w + w]
    whole = padded.view(b, (rows + 1) * tile_h, (columns + 1) * tile_w, channels)
    x.copy_(whole[:, 1 : 1 + height, 1 : 1 + width])


def _split(gradient: Tensor, plan: _Plan) -> Tensor:
    """b×h×w×K → tiles×(pixels of a tile)×K."""
    b, height, width, channels = gradient.shape
    (tile_h, tile_w), (rows, columns) = plan.tile, plan.grid
    if rows * tile_h > height or columns * tile_w > width:
        gradient = F.pad(gradient, (0, 0, 0, columns * tile_w - width, 0, rows * tile_h - height))
    tiles = gradient.reshape(b, rows, tile_h, columns, tile_w, channels).transpose(2, 3)
    return tiles.reshape(b * plan.tiles, tile_h * tile_w, channels)


def _join(tiles: Tensor, plan: _Plan, out: Tensor) -> None:
    """The inverse of ``_split``, into b×h×w×K."""
    b, height, width, channels = out.shape
    (tile_h, tile_w), (rows, columns) = plan.tile, plan.grid
    whole = tiles.view(b, rows, columns, tile_h, tile_w, channels).transpose(2, 3)
    out.copy_(whole.reshape(b, rows * tile_h, columns * tile_w, channels)[:, :height, :width])


def _transform(matrix: Tensor, tiles: Tensor) -> Tensor:
    """The matrix times each of tiles×pixels×C: products that fit the innermost cache."""
    return torch.bmm(matrix.expand(len(tiles), -1, -1), tiles)


def _kernel_at_points(weight: Tensor, plan: _Plan) -> Tensor:
    """K×C×3×3 → P×K×C."""
    k, c = weight.shape[:2]
    return (plan.kernel @ weight.permute(2, 3, 0, 1).reshape(9, k * c)).view(-1, k, c)


def _block(plan: _Plan, channels: int) -> int:
    """Images at a time."""
    return -(-max(_TILES_AT_A_TIME, channels) // plan.tiles)


class Winograd(torch.autograd.Function):
    """``F.conv2d(x, weight, padding=1)`` of N×C×H×W, channels last, and K×C×3×3, both float32.

    Args of ``apply``: ``x``, ``weight``. Rounding is a few 1e-6 of the result's norm, up to ten times a direct
    convolution's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        n, c, height, width = x.shape
        plan = _plan(height, width)
        kernel = _kernel_at_points(weight, plan).transpose(1, 2)
        out = x.new_empty(n, height, width, weight.shape[0])
        step = _block(plan, c)
        for images, result in zip(x.permute(0, 2, 3, 1).split(step), out.split(step), strict=True):
            at_points = _transform(plan.to_points, _tiles(images, plan)).transpose(0, 1)
            multiplied = torch.bmm(at_points, kernel).transpose(0, 1)
            _join(_transform(plan.to_pixels, multiplied), plan, result)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        n, c, height, width = x.shape
        k = weight.shape[0]
        plan = _plan(height, width)
        kernel = _kernel_at_points(weight, plan)
        for_kernel = torch.zeros_like(kernel)
        of_input, of_weight = ctx.needs_input_grad
        for_x = x.new_empty(n, height, width, c)
        step = _block(plan, c)
        gradient = gradients[0].contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        for images, upstream, result in zip(
            x.permute(0, 2, 3, 1).split(step), gradient.split(step), for_x.split(step), strict=True
        ):
            multiplied = _transform(plan.to_pixels.t(), _split(upstream, plan)).transpose(0, 1)
            if of_weight:
                at_points = _transform(plan.to_points, _tiles(images, plan)).transpose(0, 1)
                torch.baddbmm(for_kernel, multiplied.transpose(1, 2), at_points, out=for_kernel)  # bench counts it
            if of_input:
                under = _transform(plan.to_points.t(), torch.bmm(multiplied, kernel).transpose(0, 1))
                _add_tiles(under, plan, result)
        for_weight = (plan.kernel.t() @ for_kernel.view(-1, k * c)).view(3, 3, k, c).permute(2, 3, 0, 1)
        return for_x.permute(0, 3, 1, 2) if of_input else None, for_weight if of_weight else None
