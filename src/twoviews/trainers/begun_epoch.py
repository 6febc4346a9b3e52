"""The epoch that is being trained: what its steps have come to so far."""

from __future__ import annotations

from typing import Any

import torch

from twoviews.settings import TrainingSettings
from twoviews.trainers.checkpoint import State
from twoviews.trainers.engine import Engine
from twoviews.trainers.pace import Pace
from twoviews.trainers.steps import Scalars
from twoviews.trainers.task import Task
from twoviews.trainers.watch import Watch


class BegunEpoch:
    """What the epoch that is being trained has come to, taken up from a checkpoint's state.

    Attributes:
        watch: looks at its losses and gradients.
        pace: its seconds.
    """

    def __init__(self, task: Task, settings: TrainingSettings, engine: Engine, state: State) -> None:
        # Sums stay on the device: reading one would make every step wait for it. (MPS has no float64.)
        dtype = torch.float32 if engine.device.type == "mps" else torch.float64
        self._zero = torch.zeros((), dtype=dtype, device=engine.device)
        self._engine = engine
        steadier = f"a lower {settings.flag('base_lr')} or {settings.flag('clip_grad_norm')} makes training steadier"
        spikes = int(state.sums.pop("loss_spikes", 0))
        self.watch = Watch(task.name, engine, state.losses, spikes, steadier)
        self.pace = Pace(task.batches, state.epoch_seconds, state.epoch_waited)
        self._sums = {key: self._zero + value for key, value in state.sums.items()}

    def add(self, scalars: Scalars) -> None:
        """A step's figures."""
        for key, value in scalars.items():
            self._sums[key] = self._sums.get(key, self._zero) + value

    def means(self, steps: int) -> dict[str, float]:
        """Of this process, over so many steps; a wait for the device."""
        return {key: float(value) / steps for key, value in self._sums.items()}

    def sum_up(self, state: State) -> None:
        """Write it into the state of a checkpoint, as means over processes; all of them call it."""
        state.sums = {key: float(self._engine.mean(total)) for key, total in self._sums.items()}
        if self.watch.spikes:
            state.sums["loss_spikes"] = self.watch.spikes
        state.losses = self.watch.losses
        state.epoch_seconds, state.epoch_waited = self.pace.seconds, self.pace.waited

    def end(self, state: State) -> None:
        """Begin the next one."""
        self.watch.end_epoch()
        self._sums = {}
        state.sums, state.epoch_seconds, state.epoch_waited = {}, 0.0, 0.0


def epoch_row(totals: dict[str, float], trained: int, left_out: int) -> dict[str, Any]:
    """Means over the steps that an epoch trained; how many jumped or were left out, where any was."""
    row: dict[str, Any] = {key: total / trained for key, total in totals.items() if key != "loss_spikes"}
    if "loss_spikes" in totals:
        row["loss_spikes"] = totals["loss_spikes"]
    if left_out:
        row["steps_left_out"] = left_out
    return row
