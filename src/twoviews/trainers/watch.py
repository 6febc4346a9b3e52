"""What the losses and gradients of the last steps say: numbers that are not finite, and a loss that jumps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from twoviews.trainers.engine import Engine
from twoviews.trainers.progress import say

LOG_STEPS = 10  # steps between two waits for a device that is not the CPU
SPIKE = 10.0  # deviations above the usual loss at which a step's loss counts as a jump
SMALLEST_DEVIATION = 0.1  # losses that hardly differ from step to step: a deviation below this is taken as this
WINDOW = 200  # steps whose median and median absolute deviation say what is usual
FEWEST = 10  # steps before which nothing is known to be usual
# fp16's scaler starts at 65,536 and halves where a gradient is not finite: 20 steps without one that is.
SMALLEST_SCALE = 2.0**-4


@dataclass(frozen=True)
class NotFinite:
    """A step whose numbers can't be trained on.

    Attributes:
        step: from 0.
        loss: of this process; NaN where it is not known.
        norm: of the gradient over all parameters; None where it was not measured (fp16 without clipping).
        cause: what was not finite, as words that follow the stage's name.
    """

    step: int
    loss: float
    norm: float | None
    cause: str


@dataclass(frozen=True)
class Jump:
    """A step whose loss is far above those before it.

    Attributes:
        step: from 0.
        loss: of the step.
        usual: median of the losses before it.
        deviation: their median absolute deviation, as it was taken.
        steps: how many they are.
    """

    step: int
    loss: float
    usual: float
    deviation: float
    steps: int

    def __str__(self) -> str:
        return (
            f"the loss jumped to {self.loss:.3g} at step {self.step}, {(self.loss - self.usual) / self.deviation:.0f} "
            f"deviations above that of the {self.steps} steps before ({self.usual:.3g} ± {self.deviation:.2g})"
        )


class Watch:
    """Notes loss and gradient norm of every step, and reads them when they are asked for.

    A number on a GPU stays there until ``look``, since reading it waits for the device; ``look`` then sees every step
    since the one before it.

    Args:
        stage: as printed.
        engine: where the numbers are.
        losses: of the steps before, oldest first, as ``losses`` of an earlier watch.
        spikes: jumps of the loss in this epoch so far.
        advice: how to avoid jumps, for the warning of one.

    Attributes:
        at_hand: whether reading the numbers costs no wait, as on a CPU.
        failure: the first step that was not finite.
        losses: of the last ``WINDOW`` steps judged, means over processes. With these in the checkpoint a resumed run
            judges as one that never stopped.
        spikes: steps of this epoch whose loss was more than ``SPIKE`` median absolute deviations above the median of
            ``losses``. Neither asks for a sign: a decoupled loss falls below zero.
    """

    def __init__(
        self, stage: str, engine: Engine, losses: Sequence[float] = (), spikes: int = 0, advice: str = ""
    ) -> None:
        self.at_hand = engine.device.type == "cpu"
        self.failure: NotFinite | None = None
        self.losses = list(losses)
        self.spikes = spikes
        self._stage = stage
        self._engine = engine
        self._advice = advice
        self._unjudged: list[tuple[int, float]] = []
        self._noted: list[tuple[int, Tensor, Tensor | None]] = []
        self._warned = False

    def due(self, step: int) -> bool:
        """Whether to look after this step."""
        return self.at_hand or step % LOG_STEPS == 0

    def note(self, step: int, loss: Tensor, norm: Tensor | None) -> None:
        """After a step's backward: its loss, and its gradient's norm where that is measured (both 0-dimensional)."""
        self._noted.append((step, loss.detach().float(), norm))

    def look(self) -> bool:
        """Read what was noted; whether a number was not finite, now or before."""
        noted, self._noted = self._noted, []
        if noted and self.failure is None:
            rows = [torch.stack([loss, loss if norm is None else norm.float()]) for _, loss, norm in noted]
            for (step, _, measured), (loss, norm) in zip(noted, torch.stack(rows).tolist(), strict=True):
                cause = cause_of(loss, norm)
                if cause is not None:
                    self.failure = NotFinite(step, loss, None if measured is None else norm, cause)
                    return True
                self._unjudged.append((step, loss))
            scale = self._engine.loss_scale()
            if scale is not None and scale < SMALLEST_SCALE:
                cause = f"no gradient is finite in fp16, even with the loss scaled by {scale:.2g} (loss {loss:.4g})"
                self.failure = NotFinite(step, loss, None, cause)
        return self.failure is not None

    def judge(self) -> Jump | None:
        """After a ``look`` that found nothing, in every process: the first jump among the steps that it read."""
        read, self._unjudged = self._unjudged, []
        first: Jump | None = None
        for (step, _), loss in zip(read, self._engine.mean_of([loss for _, loss in read]), strict=True):
            jump = self._jump(step, loss)
            if jump is not None:
                self.spikes += 1
                first = first or jump
            self.losses.append(loss)
            del self.losses[:-WINDOW]
        if first is not None and not self._warned:
            self._warned = True
            say(f"warning: {self._stage}: {first}" + (f"; {self._advice}" if self._advice else ""))
        return first

    def end_epoch(self) -> None:
        """Jumps are counted, and told, an epoch at a time."""
        self.spikes, self._warned = 0, False

    def _jump(self, step: int, loss: float) -> Jump | None:
        if len(self.losses) < FEWEST:
            return None
        usual = statistics.median(self.losses)
        deviation = max(SMALLEST_DEVIATION, statistics.median(abs(loss - usual) for loss in self.losses))
        jumped = loss > usual + SPIKE * deviation
        return Jump(step, loss, usual, deviation, len(self.losses)) if jumped else None


def cause_of(loss: float, norm: float | None) -> str | None:
    """What of a step's loss and gradient norm (None: not measured) is not finite, in words; None: nothing."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if norm is not None and not math.isfinite(norm):
        return f"the gradient's norm is {norm} (loss {loss:.4g})"
    return None


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors that hold a number that is not finite; the device is waited for once."""
    floating = [(name, tensor) for name, tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    if not floating:
        return []
    largest = torch.stack([t.detach().abs().max().float() for _, t in floating])
    return [name for (name, _), good in zip(floating, torch.isfinite(largest).tolist(), strict=True) if not good]


def state_not_finite(module: nn.Module, optimizer: Optimizer, step: int) -> NotFinite | None:
    """What of all that a checkpoint holds (weights, BatchNorm's statistics, the optimizer's state) is not finite.

    Args:
        module, optimizer: after the update of ``step``; the failed step is the one after it.
        step: from 0.
    """
    state = [
        (f"{key} of the optimizer", value)
        for values in optimizer.state.values()
        for key, value in values.items()
        if isinstance(value, Tensor) and key != "step"  # a count, which AdamW keeps on the CPU where it is not fused
    ]
    names = not_finite([*module.state_dict().items(), *state])
    if not names:
        return None
    return NotFinite(step + 1, math.nan, None, f"{names[0]} is not finite after the update of step {step}")
