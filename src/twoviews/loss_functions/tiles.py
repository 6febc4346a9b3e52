"""NT-Xent without the whole similarity matrix: loss, gradient and top-1 piece by piece, memory linear in the batch.

The matrix of A anchors × M candidates is walked piece by piece through one buffer that is written over and over, so
that no pass over it waits for new pages of memory, and on a processor most passes stay in its cache. Only a few
numbers of each anchor are kept between the pieces, as in memory-efficient attention (Rabe and Staats 2021,
*Self-attention Does Not Need O(n²) Memory*).

What both forms below keep of an anchor i: its logit with the positive p_i; the largest logit of its negatives (top-1:
is p_i above it); and the log-sum-exp L_i of its negatives. They give its loss, -log sigmoid(p_i - L_i), and the
probability of a miss, m_i = sigmoid(L_i - p_i), which is all that the gradient in the logits is made of: -m_i at the
positive, m_i·exp(logit - L_i) at a negative. Said so, nothing cancels where the positive is nearly sure. Decoupled
(DCL), the loss is L_i - p_i, and its gradient the same with m_i = 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# The symmetric form sums exp(logit) as it is, with logits in ±1/temperature. Up to e^±64 leaves float32 (e^±87) room
# for a sum of e^16 candidates and for the products with its inverse, without a loss of digits.
LARGEST_LOGIT = 64.0

# Rows and columns of a tile. On a CPU it should stay in the caches, yet be long enough for the matrix product to run at
# its full rate; 512 to 1,024 differed by 5 % (2 cores with 1 MiB of second-level cache each). A GPU needs more work in
# a kernel: 64 MiB a tile, the one size that was measured.
CPU_TILE, GPU_TILE = 768, 4096

# A strip is as wide as there are candidates; its rows are so many that it holds about this many numbers (128 MiB in
# float32), but no fewer and no more than these.
STRIP_NUMBERS, STRIP_ROWS = 2**25, (16, 512)


def info_nce_in_tiles(
    anchors: Tensor,
    candidates: Tensor | None,
    temperature: float | Tensor,
    first_row: int = 0,
    rows: int | None = None,
    *,
    decoupled: bool = False,
) -> tuple[Tensor, Tensor]:
    """The loss and top-1 of ``info_nce``, which see, for vectors of length 1 in the precision to compute in.

    Can be differentiated once.

    Args:
        anchors: A×D, first views then second views.
        candidates: M×D, or None when they are the anchors.
        temperature: t > 0.
        first_row: where the anchors begin in the candidates.
        rows: rows of a piece of the matrix; None: what is fast on the device.
        decoupled: leave the positive out of the sum.
    """
    # The 1/t goes into the vectors, A×D numbers, not into the logits, A×M.
    if candidates is None and 1 / temperature <= LARGEST_LOGIT:
        rows = min(rows or (CPU_TILE if anchors.device.type == "cpu" else GPU_TILE), len(anchors) // 2)
        # A tensor stays one, so that a learned temperature gets its gradient.
        root = temperature.sqrt() if isinstance(temperature, Tensor) else math.sqrt(temperature)
        loss, top1 = _Symmetric.apply(anchors / root, rows, decoupled)
        return loss, top1
    candidates = anchors if candidates is None else candidates
    fewest, most = STRIP_ROWS
    rows = min(rows or max(fewest, min(most, STRIP_NUMBERS // len(candidates))), len(anchors) // 2)
    loss, top1 = _Strips.apply(anchors / temperature, candidates, first_row, rows, decoupled)
    return loss, top1


def _once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse a gradient that is to be differentiated again.

    torch's own ``once_differentiable`` refuses only where the loss's gradient needs one; else the second derivative
    would come out wrong, as if this gradient were a constant.
    """

    @functools.wraps(backward)
    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("info_nce of so many rows is computed in tiles and can be differentiated once only")
        return backward(ctx, *gradients)

    return checked


class _Symmetric(torch.autograd.Function):
    """Anchors that are each other's candidates: logits = x·xᵀ, of which one triangle is computed.

    Each tile serves its rows and, transposed, its columns. Forward is half a product of A×A×D, backward half of one
    to have the tile again and one for the gradient: 2 in all, where the matrix as a whole takes 3.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, decoupled: bool) -> tuple[Tensor, Tensor]:
        blocks, buffer = _blocks(len(x), size), x.new_empty(size * size)
        positive, hardest = x.new_empty(len(x)), x.new_full((len(x),), -math.inf)
        negatives = x.new_zeros(len(x))
        for i, j in _triangle(blocks):
            tile = _view(buffer, i, j)
            torch.mm(x[i], x[j].T, out=tile)
            if _are_positives(i, j, len(x)):
                positive[i] = positive[j] = tile.diagonal()
            if i == j or _are_positives(i, j, len(x)):
                tile.diagonal().fill_(-math.inf)
            torch.maximum(hardest[i], tile.amax(1), out=hardest[i])
            if i != j:
                torch.maximum(hardest[j], tile.amax(0), out=hardest[j])
            tile.exp_()
            negatives[i] += tile.sum(1)
            if i != j:
                negatives[j] += tile.sum(0)
        margin = positive - negatives.log()
        ctx.save_for_backward(x, negatives, _miss(margin, decoupled))
        ctx.size = size
        return _results(ctx, margin, positive > hardest, decoupled)

    @staticmethod
    @_once
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        x, negatives, miss = ctx.saved_tensors
        blocks, buffer, other = _blocks(len(x), ctx.size), x.new_empty(ctx.size**2), x.new_empty(ctx.size**2)
        weight, gradient = miss / negatives, torch.zeros_like(x)
        for i, j in _triangle(blocks):
            # A pair's logit stands in the loss of both its rows; the tile becomes the sum of the two gradients.
            tile, weights = _view(buffer, i, j), _view(other, i, j)
            torch.mm(x[i], x[j].T, out=tile)
            torch.add(weight[i, None], weight[j], out=weights)
            tile.exp_().mul_(weights)
            if i == j:
                tile.diagonal().zero_()
            elif _are_positives(i, j, len(x)):
                torch.add(miss[i], miss[j], out=tile.diagonal()).neg_()
            gradient[i].addmm_(tile, x[j])
            if i != j:
                gradient[j].addmm_(tile.T, x[i])
        return gradient.mul_(loss_gradient / ctx.count), None, None


class _Strips(torch.autograd.Function):
    """Any candidates, any temperature: logits = anchors·candidatesᵀ, whole rows at a time.

    A strip of whole rows has all that its own gradient needs, so forward takes the gradient at once, where one is
    wanted, and nothing is computed twice: 3 products of A×M×D in all.
    """

    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, candidates: Tensor, first_row: int, size: int, decoupled: bool
    ) -> tuple[Tensor, Tensor]:
        count = len(anchors)
        buffer = anchors.new_empty(size, len(candidates))
        margin, right = anchors.new_empty(count), torch.empty(count, dtype=torch.bool, device=anchors.device)
        to_anchors, to_candidates, *_ = ctx.needs_input_grad
        anchors_gradient = torch.empty_like(anchors) if to_anchors else None
        candidates_gradient = torch.zeros_like(candidates) if to_candidates else None
        for i in _blocks(count, size):
            strip = buffer[: i.stop - i.start]
            torch.mm(anchors[i], candidates.T, out=strip)
            own = i.start + first_row
            strip[:, own:].diagonal().fill_(-math.inf)
            to_positive = count // 2 if i.start < count // 2 else -(count // 2)
            at_positive = strip[:, own + to_positive :].diagonal()
            positive = at_positive.clone()
            at_positive.fill_(-math.inf)
            hardest = strip.amax(1)
            right[i] = positive > hardest
            strip.sub_(hardest[:, None]).exp_()
            negatives = strip.sum(1)
            margin[i] = positive - hardest - negatives.log()
            if to_anchors or to_candidates:
                miss = _miss(margin[i], decoupled)
                strip.mul_((miss / negatives)[:, None])
                torch.neg(miss, out=at_positive)
            if anchors_gradient is not None:
                torch.mm(strip, candidates, out=anchors_gradient[i])
            if candidates_gradient is not None:
                candidates_gradient.addmm_(strip.T, anchors[i])
        ctx.save_for_backward(anchors_gradient, candidates_gradient)
        return _results(ctx, margin, right, decoupled)

    @staticmethod
    @_once
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        scale = loss_gradient / ctx.count
        anchors_gradient, candidates_gradient = (None if g is None else g * scale for g in ctx.saved_tensors)
        return anchors_gradient, candidates_gradient, None, None, None


def _miss(margin: Tensor, decoupled: bool) -> Tensor:
    """m_i from p_i - L_i."""
    return torch.ones_like(margin) if decoupled else torch.sigmoid(-margin)


def _results(ctx: Any, margin: Tensor, right: Tensor, decoupled: bool) -> tuple[Tensor, Tensor]:
    """The loss from p_i - L_i, and top-1."""
    top1 = right.to(margin.dtype).mean()
    ctx.mark_non_differentiable(top1)
    ctx.count = len(margin)
    return -(margin if decoupled else F.logsigmoid(margin)).mean(), top1


def _blocks(count: int, size: int) -> list[slice]:
    """The rows in blocks of at most ``size``: both halves alike, so that block b + half of them holds b's positives."""
    half = count // 2
    return [
        slice(start + first, start + min(first + size, half)) for start in (0, half) for first in range(0, half, size)
    ]


def _triangle(blocks: list[slice]) -> list[tuple[slice, slice]]:
    return [(rows, columns) for at, rows in enumerate(blocks) for columns in blocks[at:]]


def _are_positives(rows: slice, columns: slice, count: int) -> bool:
    """Whether the diagonal of a tile is anchors with their positives."""
    return bool(columns.start - rows.start == count // 2)


def _view(buffer: Tensor, rows: slice, columns: slice) -> Tensor:
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return buffer[: height * width].view(height, width)
