"""SimCLR on batches that don't fit in memory: the whole batch's loss and its exact gradient, chunk by chunk.

Gradient accumulation adds up losses of small batches, each with few negatives. Here every image is contrasted with
the whole batch: the projections z of all chunks are computed without a graph, the loss and its gradient in z follow,
and each chunk is run a second time with a graph to carry that gradient to the weights (gradient caching, Gao et al.
2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", section 3). The price is a second
forward, about a third more time. What differs from the whole batch: BatchNorm sees the images of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from twoviews.trainers.determinism import seed_generators
from twoviews.trainers.steps import Batch, Scalars, SimCLRStep


@contextmanager
def _statistics_left_alone(module: nn.Module) -> Iterator[None]:
    """BatchNorm normalises with the batch's statistics, and its running ones are put back.

    Not by ``track_running_stats = False``: SyncBatchNorm then fails in bf16 and fp16 ("Expected counts to have type",
    https://github.com/pytorch/pytorch/issues/96203).
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)


@dataclass(frozen=True)
class ChunkedStep:
    """``whole``, with the memory of ``chunk_size`` images of each process's part of the batch."""

    whole: SimCLRStep
    chunk_size: int

    def __call__(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Scalars]:
        """What is left to call backward on is the last chunk's part of the gradient; the others' is there already."""
        n = len(batch.images)
        # Even chunks: their BatchNorm statistics weigh the same.
        chunks = torch.arange(n).tensor_split(-(-n // self.chunk_size))
        parts = [_part(batch, int(c[0]), int(c[-1]) + 1) for c in chunks]
        seed = torch.initial_seed()
        with torch.no_grad(), _statistics_left_alone(module):
            halves = [self._project(module, part, seed, i).chunk(2) for i, part in enumerate(parts)]
        z = torch.cat([first for first, _ in halves] + [second for _, second in halves]).requires_grad_()
        loss, scalars = self.whole.contrast(z)
        (gradient,) = torch.autograd.grad(loss, z)
        first, second = (half.split([len(c) for c in chunks]) for half in gradient.chunk(2))
        gradients = [torch.cat(pair) for pair in zip(first, second, strict=True)]
        engine = self.whole.engine
        for i in range(len(parts) - 1):
            with engine.without_averaging(module):
                engine.backward((self._project(module, parts[i], seed, i) * gradients[i]).sum())
        last = len(parts) - 1
        return (self._project(module, parts[last], seed, last) * gradients[last]).sum(), scalars

    def _project(self, module: nn.Module, part: Batch, seed: int, chunk: int) -> Tensor:
        """Both times a chunk is run it draws the same random numbers (dropout and the like)."""
        seed_generators(seed ^ (chunk + 1) << 40, self.whole.engine.device)
        return self.whole.project(module, part).float()


def _part(batch: Batch, start: int, stop: int) -> Batch:
    return replace(batch, images=batch.images[start:stop], rows=batch.rows[start:stop], labels=None)
