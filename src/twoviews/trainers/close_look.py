"""A close look at one training step: which layer, parameter or statistic is the first that is not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from twoviews.trainers.engine import Engine
from twoviews.trainers.optimizer import norm_of
from twoviews.trainers.steps import Batch, Scalars, Step
from twoviews.trainers.watch import SMALLEST_SCALE, cause_of, not_finite

SHOWN = 3  # parameters named


@dataclass(frozen=True)
class Layer:
    """The first layer whose output was not finite."""

    name: str
    kind: str
    inputs: str
    bad: int
    values: int
    weight: float | None

    def __str__(self) -> str:
        weight = "" if self.weight is None else f", weights up to {self.weight:.3g}"
        return f"{self.name} ({self.kind}): {self.bad:,} of {self.values:,} outputs from inputs {self.inputs}{weight}"


@dataclass(frozen=True)
class Findings:
    """What the step showed.

    Attributes:
        loss, norm: of the step; the norm of the gradient over all parameters is None where fp16 scales it.
        layer: the first whose output was not finite.
        gradients: parameters whose gradient was not finite, the nearest to the loss first.
        parameters: how many have a gradient.
        state: weights and statistics that are not finite after the forward.
        largest: name and size of the largest weight.
    """

    loss: float
    norm: float | None
    layer: Layer | None
    gradients: list[str]
    parameters: int
    state: list[str]
    largest: tuple[str, float]

    @property
    def cause(self) -> str | None:
        """What is not finite; None: nothing."""
        return cause_of(self.loss, self.norm) or (f"{self.state[0]} is not finite" if self.state else None)

    @property
    def where(self) -> str:
        """Where it begins, as words that follow the cause."""
        if self.layer is not None:
            return f"first in {self.layer.name}"
        if self.gradients:
            return f"in the backward pass, first in {self.gradients[0]}"
        return "in no layer's output"

    def lines(self) -> Iterator[tuple[str, str]]:
        """What to print: a name and a text each."""
        yield "loss", f"{self.loss:.6g}"
        if self.gradients:
            more = ", ..." if len(self.gradients) > SHOWN else ""
            names = ", ".join(self.gradients[:SHOWN]) + more
            bad = f"{len(self.gradients)} of {self.parameters} parameters"
            yield "gradient", f"not finite in {bad}, from the loss on: {names}"
        elif self.norm is not None:
            yield "gradient", f"norm {self.norm:.4g}"
        yield "first layer", "all outputs are finite" if self.layer is None else str(self.layer)
        if self.state:
            yield "not finite", ", ".join(self.state[:SHOWN])
        yield "largest weight", f"{self.largest[1]:.4g} in {self.largest[0]}"


class Seen(Exception):
    """Ends the training once the step has been looked at."""

    def __init__(self, found: Findings) -> None:
        super().__init__()
        self.found = found


@dataclass(frozen=True)
class Look:
    """A task's step that looks at one batch and ends the training there.

    Attributes:
        step: of the task.
        module: of the task.
        engine: where it computes.
        epoch: of the batch, from 0.
        rows: identities of its images, over all processes; an epoch has each image once.
    """

    step: Step
    module: nn.Module
    engine: Engine
    epoch: int
    rows: frozenset[int]

    def __call__(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Scalars]:
        if batch.epoch != self.epoch or int(batch.rows[0]) not in self.rows:
            return self.step(module, batch)
        layers: list[Layer] = []
        with _first_layer(self.module, layers):
            loss, scalars = self.step(module, batch)
        self.engine.backward(loss)
        given = [(name, p.grad) for name, p in self.module.named_parameters() if p.grad is not None]
        scale = self.engine.loss_scale()
        scaled = scale is not None and scale >= SMALLEST_SCALE  # then a gradient that is not finite is normal
        norm = None if scaled else float(norm_of([gradient for _, gradient in given]))
        sizes = [(float(p.detach().abs().max()), name) for name, p in self.module.named_parameters()]
        size, name = max(sizes, key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0])
        raise Seen(
            Findings(
                loss=float(next(iter(scalars.values()))),
                norm=norm,
                layer=layers[0] if layers else None,
                gradients=not_finite(given)[::-1],
                parameters=len(given),
                state=not_finite(self.module.state_dict().items()),
                largest=(name, size),
            )
        )


@contextmanager
def _first_layer(module: nn.Module, found: list[Layer]) -> Iterator[None]:
    """Within this block the first layer whose output is not finite is put into ``found``."""
    names = {child: name for name, child in module.named_modules() if name}

    def look(child: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if found or not isinstance(output, Tensor):
            return
        good = torch.isfinite(output.detach())
        if bool(good.all()):
            return
        weight = getattr(child, "weight", None)
        found.append(
            Layer(
                name=names[child],
                kind=type(child).__name__,
                inputs=_range(inputs[0]) if inputs and isinstance(inputs[0], Tensor) else "unknown",
                bad=int((~good).sum()),
                values=output.numel(),
                weight=float(weight.detach().abs().max()) if isinstance(weight, Tensor) else None,
            )
        )

    hooks = [child.register_forward_hook(look) for child in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _range(x: Tensor) -> str:
    values = x.detach().float()
    good = values[torch.isfinite(values)]
    if not len(good):
        return "that are not finite"
    rest = x.numel() - len(good)
    return f"{float(good.min()):.3g} to {float(good.max()):.3g}" + (f" and {rest:,} not finite" if rest else "")
