"""BatchNorm and ReLU of a CPU done by pieces of the batch that fit the cache, against torch's own on the whole batch.

    python benchmarks/batchnorm_pieces.py [--threads 2] [--repeats 15]

Forward and backward, with torch's own operations for so many KB of the batch at a time: the passes after the first may
then find their numbers in the cache. The maps are those of the small net (512 views of 24 px) and one of ResNet-50. One
JSON line a map and size of pieces: medians of ``--repeats`` in milliseconds, taken in turn, and how many times as fast
the pieces are, round by round. Outputs' gradients of both ways are compared first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from step_trials import in_turn
from torch import Tensor

SHAPES = ((512, 16, 24, 24), (512, 32, 12, 12), (512, 64, 6, 6), (512, 128, 3, 3), (64, 256, 24, 24))
KIB = (128, 256, 512, 1024, 2048)
EPSILON = 1e-5
aten: Any = torch.ops.aten


class ByPieces(torch.autograd.Function):
    """BatchNorm in training mode and ReLU by pieces of so many images, with torch's operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, images: int) -> Tensor:
        pieces = x.split(images)
        found = [torch.batch_norm_update_stats(piece, None, None, 0.1) for piece in pieces]
        shares = torch.tensor([[len(piece) / len(x)] for piece in pieces])
        means, variances = (torch.stack(each) for each in zip(*found, strict=True))
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean) ** 2)).sum(0)
        y = torch.empty_like(x)
        for piece, out in zip(pieces, y.split(images), strict=True):
            _normalise(piece, weight, bias, mean, variance, EPSILON, out)
            out.relu_()
        ctx.save_for_backward(x, y, weight, mean, variance)
        ctx.images = images
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, y, weight, mean, variance = ctx.saved_tensors
        pieces = [each.split(ctx.images) for each in (gradients[0], x, y)]
        below = torch.empty_like(pieces[0][0])  # the gradient before the ReLU, of one piece
        for_weight, for_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        for g, one, out in zip(*pieces, strict=True):
            before = aten.threshold_backward.grad_input(g, out, 0, grad_input=below[: len(g)])
            sums = [False, True, True]
            _, w, b = aten.native_batch_norm_backward(
                before, one, weight, mean, variance, None, None, False, EPSILON, sums
            )
            for_weight += w
            for_bias += b
        # The input's gradient is a·g + c·x + d, each channel with its own three numbers.
        count, inverse = x.numel() // x.shape[1], (variance + EPSILON).rsqrt()
        a, c = weight * inverse, -weight * inverse**2 * for_weight / count
        d = -a * for_bias / count - c * mean
        none, unit = torch.zeros_like(weight), torch.ones_like(weight)
        for_x, scaled = torch.empty_like(x), torch.empty_like(below)
        for g, one, out, into in zip(*pieces, for_x.split(ctx.images), strict=True):
            before = aten.threshold_backward.grad_input(g, out, 0, grad_input=below[: len(g)])
            _normalise(before, a, none, none, unit, 0.0, scaled[: len(g)])
            _normalise(one, c, d, none, unit, 0.0, into)
            into += scaled[: len(g)]
        return for_x, for_weight, for_bias, None


def _normalise(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float, out: Tensor
) -> None:
    unused = x.new_empty(0, dtype=torch.float32)
    kept = {"save_mean": unused, "save_invstd": unused.clone()}
    aten.native_batch_norm.out(x, weight, bias, mean, variance, False, 0.0, epsilon, out=out, **kept)


def as_torch_does(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """BatchNorm in training mode and ReLU, of the whole batch."""
    return F.relu_(F.batch_norm(x, torch.zeros_like(weight), torch.ones_like(weight), weight, bias, True, 0.1, EPSILON))


def rows(repeats: int) -> Iterator[dict[str, Any]]:
    """Each map with each size of pieces."""
    for shape in SHAPES:
        x, upstream = (torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(2))
        leaves = [leaf.requires_grad_() for leaf in (x, torch.rand(shape[1]), torch.rand(shape[1]))]

        def whole(leaves: list[Tensor] = leaves, upstream: Tensor = upstream) -> list[Tensor]:
            return list(torch.autograd.grad(as_torch_does(*leaves), leaves, upstream))

        for kib in KIB:
            images = max(1, 1024 * kib // (4 * x[0].numel()))

            def pieces(leaves: list[Tensor] = leaves, upstream: Tensor = upstream, n: int = images) -> list[Tensor]:
                return list(torch.autograd.grad(ByPieces.apply(*leaves, n), leaves, upstream))

            for one, other in zip(pieces(), whole(), strict=True):
                # Where a value is 0 but for rounding, ReLU lets the gradient pass in one way and not in the other.
                assert (one - other).norm() < 0.01 * other.norm()
            yield {"shape": shape, "kib": kib} | in_turn(pieces, whole, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for row in rows(arguments.repeats):
        print(json.dumps(row), flush=True)
    print(json.dumps({**vars(arguments), **machine()}))


if __name__ == "__main__":
    main()
