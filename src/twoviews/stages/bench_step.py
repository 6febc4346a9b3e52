"""The pretraining step on this machine: its speed as training takes it, and where the time goes.

What is timed is the training loop's own step on the pretraining task, with its own stream of batches: the pieces are
told apart by hooks on them, so there is no second step here that could differ from training's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from twoviews.dataset.random_numbers import epoch_order
from twoviews.errors import NumbersError
from twoviews.settings import PretrainCommand
from twoviews.stages.backbones import new_backbone
from twoviews.stages.measure import PeakMemory, Rate, matrix_product_rate, measure
from twoviews.stages.setup import Shared
from twoviews.stages.tasks import simclr_model, simclr_task
from twoviews.trainers.optimizer import build_optimizer, set_lr
from twoviews.trainers.stepper import Stepper
from twoviews.trainers.steps import Batch, Scalars
from twoviews.trainers.task import Task, batch_size_of
from twoviews.trainers.watch import Watch

PIECES = ("data", "augmentation", "forward", "loss", "backward", "optimizer")
Split = dict[str, float]


@dataclass(frozen=True)
class StepSpeed:
    """What was measured of the step.

    Attributes:
        rate: of the whole step, without waits between its pieces.
        batch_size: images a step, lowered where there were fewer.
        seconds: of each piece, waited for one by one: on a GPU they add up to more than the step takes.
        flop: floating-point operations of each piece in matrix products and convolutions, an image.
        product_rate: FLOP/s of a matrix product on this machine, in the run's precision.
        product_width: width of its matrices.
        peak_memory: bytes for weights, optimizer and activations, where it can be known.
    """

    rate: Rate
    batch_size: int
    seconds: Split
    flop: Split
    product_rate: float
    product_width: int
    peak_memory: int | None

    @property
    def flop_per_image(self) -> float:
        """Of the network: two views, forward and backward."""
        return self.flop["forward"] + self.flop["backward"]

    def gflop_per_second(self, piece: str) -> float:
        """Of a piece, while it runs."""
        return self.flop[piece] * self.batch_size / max(self.seconds[piece], 1e-9) / 1e9

    @property
    def fraction_of_product_rate(self) -> float:
        """The network's operations a second over those of a matrix product."""
        return self.flop_per_image * self.rate.median / self.product_rate

    @property
    def bound_by(self) -> str:
        """What takes most of the step: network, data, augmentation, loss or optimizer."""
        parts = {"network": self.seconds["forward"] + self.seconds["backward"]}
        parts |= {piece: self.seconds[piece] for piece in ("data", "augmentation", "loss", "optimizer")}
        return max(parts, key=lambda part: parts[part])


def step_speed(
    settings: PretrainCommand, shared: Shared, steps: int, announce: Callable[[float, float], None]
) -> StepSpeed:
    """Measure the step of ``settings`` on the unlabeled images of ``shared``.

    Args:
        steps: steps a round, at least.
        announce: gets the seconds of one step and those of all that follow, before they start.

    Raises:
        SettingsError: the backbone does not take views of this size.
        DataError: fewer than two images.
    """
    engine = shared.engine
    memory = PeakMemory(engine)
    backbone = new_backbone(settings, shared.image_size, seed=settings.seed)
    task = simclr_task(settings, shared, simclr_model(settings, backbone), seed=settings.seed)
    size = batch_size_of(task, settings, engine)
    optimizer = build_optimizer(task.module, settings, fused=engine.can_fuse)
    stepper = Stepper(task, optimizer, settings, engine)
    set_lr(optimizer, 0.0)  # random images teach nothing, and a loss that is not finite would end it
    watch = Watch("bench", engine)
    order = epoch_order(settings.seed, 0, len(task.batches), task.batches.order_device).split(size)
    order = order[: len(task.batches) // size]  # as in training, the last short batch is left out

    with closing(task.batches.stream(cycle(order))) as fetched:

        def step(number: int, stepper: Stepper = stepper, arrived: Callable[[], None] = lambda: None) -> None:
            images, rows, labels = next(fetched)
            arrived()
            batch = Batch(images, rows, labels, 0, 1.0)
            stepper.step(batch, number, watch)
            if watch.due(number) and watch.look():
                assert watch.failure is not None
                raise NumbersError(f"bench: {watch.failure.cause}; use --precision float32.")

        step(0)
        peak = memory.rise()

        def first(seconds: float, calls: int) -> None:
            announce(seconds, seconds * (calls + steps + 1))  # in rounds, in pieces, and to count the operations

        rate = measure(step, size, engine, at_least=steps, first=first)
        stepper.let_go()  # what follows is computed, and needs the memory that a recording holds

        def seconds() -> float:
            engine.synchronize()
            return time.perf_counter()

        with _pieces(task, optimizer, seconds) as (timed, arrived, spent):
            in_pieces = stepper.of(timed)
            for number in range(steps):
                step(number, in_pieces, arrived)
        counter = FlopCounterMode(display=False)
        with counter, _pieces(task, optimizer, counter.get_total_flops) as (counted, arrived, flop):
            step(0, stepper.of(counted), arrived)
    product_rate, width = matrix_product_rate(engine)
    return StepSpeed(
        rate,
        size,
        {piece: spent[piece] / steps for piece in PIECES},
        {piece: flop[piece] / size for piece in PIECES},
        product_rate,
        width,
        peak,
    )


@contextmanager
def _pieces(
    task: Task, optimizer: Optimizer, read: Callable[[], float]
) -> Iterator[tuple[Task, Callable[[], None], Split]]:
    """The same task, what to call when a batch has arrived, and how far ``read`` advances in each piece of a step.

    The loss has its own backward: what follows the gradient of the projections is the network's.
    """
    spent = dict.fromkeys(PIECES, 0.0)
    last = read()

    def mark(piece: str) -> None:
        nonlocal last
        now = read()
        spent[piece] += now - last
        last = now

    def step(module: nn.Module, batch: Batch) -> tuple[Tensor, Scalars]:
        mark("optimizer")  # old gradients are freed before
        return task.step(module, batch)

    def forward_ends(module: nn.Module, arguments: Any, projections: Tensor) -> None:
        mark("forward")
        projections.register_hook(lambda gradient: mark("loss"))

    hooks = [
        task.module.register_forward_pre_hook(lambda module, arguments: mark("augmentation")),
        task.module.register_forward_hook(forward_ends),
        optimizer.register_step_pre_hook(lambda *_: mark("backward")),
        optimizer.register_step_post_hook(lambda *_: mark("optimizer")),
    ]
    try:
        yield replace(task, step=step), lambda: mark("data"), spent
    finally:
        for hook in hooks:
            hook.remove()
