"""A step's work on a GPU, recorded once and played back: a CUDA graph.

A step of a ResNet starts hundreds of kernels, most of which run for a few microseconds: one after the other from
Python, they take longer to start than to run. A recording starts all of them at once. It plays the same kernels on the
same memory, so it gives the bits that computing the step gives; what changes from step to step (images, identities,
labels, the epoch) is copied to where it reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from twoviews.trainers.out_of_memory import is_out_of_memory
from twoviews.trainers.steps import Batch, Scalars

# Steps of a kind computed before one is recorded: libraries set themselves up in the first ones, which is not allowed
# while a step is recorded.
WARM_UP = 2

Work = Callable[[Batch], tuple[Scalars, Tensor | None]]


@dataclass(frozen=True)
class Recording:
    """A recorded step.

    Attributes:
        graph: what was recorded.
        batch: where it reads its batch.
        scalars, norm: where it leaves what it returns.
        gradients: each parameter with the gradient that it writes.
    """

    graph: torch.cuda.CUDAGraph
    batch: Batch
    scalars: Scalars
    norm: Tensor | None
    gradients: list[tuple[nn.Parameter, Tensor]]

    def play(self, batch: Batch) -> tuple[Scalars, Tensor | None]:
        """The step's work on another batch of the same kind; its gradients are in the parameters afterwards."""
        _copy(batch, self.batch)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        self.graph.replay()
        # The next step writes over these.
        scalars = {key: value.clone() for key, value in self.scalars.items()}
        return scalars, None if self.norm is None else self.norm.clone()


def record(work: Work, batch: Batch, parameters: list[nn.Parameter]) -> Recording | None:
    """Record ``work`` on batches like this one, without doing it; None where the device refuses.

    Args:
        work: what to record; it must not wait for the device, and leaves gradients in ``parameters``, which have none.
        batch: an example.
        parameters: all that get gradients.

    Raises:
        RuntimeError: memory does not suffice.
    """
    static = _like(batch)
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        # Another thread may read ahead and take memory meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            scalars, norm = work(static)
    except RuntimeError as error:
        _close(pool)
        if is_out_of_memory(error, surely=True):
            raise
        torch.cuda.synchronize()
        for parameter in parameters:
            parameter.grad = None
        return None
    gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    return Recording(graph, static, scalars, norm, gradients)


def _close(pool: tuple[int, int]) -> None:
    """End the recording's use of memory, which torch leaves open where the device refused to record.

    Left open, no memory is given back any more: out of memory could not be answered with what fits.
    """
    with suppress(RuntimeError):  # it was ended
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)


def _like(batch: Batch) -> Batch:
    """A batch in memory of its own, with the epoch on the device."""
    epoch = torch.full((), int(batch.epoch), dtype=torch.int64, device=batch.images.device)
    labels = None if batch.labels is None else batch.labels.clone()
    return replace(batch, images=batch.images.clone(), rows=batch.rows.clone(), labels=labels, epoch=epoch)


def _copy(batch: Batch, to: Batch) -> None:
    to.images.copy_(batch.images)
    to.rows.copy_(batch.rows)
    if to.labels is not None and batch.labels is not None:
        to.labels.copy_(batch.labels)
    assert isinstance(to.epoch, Tensor)
    to.epoch.fill_(batch.epoch)
