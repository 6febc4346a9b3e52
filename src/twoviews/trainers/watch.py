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
SPIKE = 10.0  # times the usual loss at which a step's loss counts as a jump
SMALLEST_USUAL = 0.1  # a loss near 0 moves about by itself: below this it is taken as this
EARLIER_EPOCHS = 5  # whose median is the usual loss
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


class Watch:
    """Notes loss and gradient norm of every step, and reads them when they are asked for.

    A number on a GPU stays there until ``look``, since reading it waits for the device; ``look`` then sees every step
    since the one before it.

    Args:
        stage: as printed.
        engine: where the numbers are.
        earlier: mean losses of the epochs before, oldest first.
        spikes: jumps of the loss in this epoch so far.

    Attributes:
        at_hand: whether reading the numbers costs no wait, as on a CPU.
        failure: the first step that was not finite.
        spikes: steps of this epoch whose loss was above ``SPIKE`` times the median of the last ``EARLIER_EPOCHS``
            epochs' means. That is known from what a run keeps, so a resumed run counts the same.
    """

    def __init__(self, stage: str, engine: Engine, earlier: Sequence[float] = (), spikes: float = 0.0) -> None:
        self.at_hand = engine.device.type == "cpu"
        self.failure: NotFinite | None = None
        self.spikes = spikes
        self._stage = stage
        self._engine = engine
        self._earlier = list(earlier)
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
                self._count_spike(step, loss)
            scale = self._engine.loss_scale()
            if scale is not None and scale < SMALLEST_SCALE:
                cause = f"no gradient is finite in fp16, even with the loss scaled by {scale:.2g} (loss {loss:.4g})"
                self.failure = NotFinite(step, loss, None, cause)
        return self.failure is not None

    def end_epoch(self, loss: float) -> None:
        """The epoch's mean loss, over all processes, is what later ones are compared with."""
        self._earlier.append(loss)
        self.spikes, self._warned = 0.0, False

    def _count_spike(self, step: int, loss: float) -> None:
        if not self._earlier:
            return
        usual = max(SMALLEST_USUAL, statistics.median(self._earlier[-EARLIER_EPOCHS:]))
        if loss <= SPIKE * usual:
            return
        self.spikes += 1
        if not self._warned:
            self._warned = True
            say(
                f"warning: {self._stage}: the loss jumped to {loss:.3g} at step {step}, {loss / usual:.0f} times that "
                f"of the epochs before ({usual:.3g}); a lower --base-lr or --clip-grad-norm makes training steadier"
            )


def cause_of(loss: float, norm: float | None) -> str | None:
    """What of a step's loss and gradient norm (None: not measured) is not finite, in words; None: nothing."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if norm is not None and not math.isfinite(norm):
        return f"the gradient's norm is {norm} (loss {loss:.4g})"
    return None


def epoch_losses(rows: Iterable[dict[str, float]]) -> list[float]:
    """Mean loss of each epoch, from rows of metrics.jsonl."""
    return [row[key] for row in rows for key in ("loss", "train_loss") if row.get(key) is not None]


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
        if isinstance(value, Tensor)
    ]
    names = not_finite([*module.state_dict().items(), *state])
    if not names:
        return None
    return NotFinite(step + 1, math.nan, None, f"{names[0]} is not finite after the update of step {step}")
