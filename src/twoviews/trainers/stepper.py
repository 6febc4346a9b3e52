"""One step of training after another: forward, loss, backward, update. Training, its estimate and bench take it."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from twoviews.settings import TrainingSettings
from twoviews.trainers.cuda_graph import WARM_UP, Recording, record
from twoviews.trainers.determinism import seed_generators
from twoviews.trainers.engine import Engine
from twoviews.trainers.optimizer import parameters_of
from twoviews.trainers.progress import say
from twoviews.trainers.steps import Batch, ClassifierStep, Scalars, SimCLRStep
from twoviews.trainers.task import Task
from twoviews.trainers.watch import Watch


@dataclass
class _Recorded:
    """Steps of one kind: how many were computed, and the recording of one once there is one."""

    kind: Hashable
    computed: int = 0
    recording: Recording | None = None


class Stepper:
    """Takes the steps of a task.

    On one GPU, what a step computes up to its gradients is recorded once and then played back (``cuda_graph.py``).

    Args:
        task: what is trained; its module is on the engine's device.
        optimizer: of the module.
        settings: of the stage; clipping is among them.
        engine: where it computes.
        seed: dropout and the like follow from it and the step.

    Attributes:
        records: whether steps are recorded, as far as the task's can be.
    """

    def __init__(
        self, task: Task, optimizer: Optimizer, settings: TrainingSettings, engine: Engine, seed: int = 0
    ) -> None:
        self._task, self._settings, self._engine, self._seed = task, settings, engine, seed
        self._module, self._optimizer = engine.setup(task.module, optimizer, compiled=settings.torch_compile)
        self._parameters = parameters_of(optimizer)
        self.records = settings.cuda_graphs and engine.can_record
        self._recorded: _Recorded | None = None

    def of(self, task: Task) -> Stepper:
        """The same with another step on other batches: the module and the optimizer stay."""
        other = copy.copy(self)
        other._task, other._recorded = task, None
        return other

    def step(self, batch: Batch, step: int, watch: Watch | None = None) -> Scalars:
        """Forward, loss, backward, update; returns the step's scalars.

        A ``watch`` notes loss and gradient. A CPU has them at hand before the update, and where they are not finite
        there is none. A GPU is not waited for: who looks at the watch later has to stop.
        """
        seed_generators(self._seed * 1_000_003 + step, self._engine.device)  # dropout and the like
        engine, largest = self._engine, self._settings.clip_grad_norm
        wants_norm = largest is not None or (watch is not None and not engine.scales_loss)
        scalars, norm = self._gradients(batch, wants_norm)
        if watch is not None:
            # The scaler of fp16 leaves out a step whose gradient is not finite, and finds its scale that way.
            watch.note(step, next(iter(scalars.values())), None if engine.scales_loss else norm)
            if watch.at_hand and watch.look():
                return scalars
        if largest is not None:
            assert norm is not None
            engine.clip(self._optimizer, norm, largest)
        self._optimizer.step()
        return scalars

    @property
    def will_record(self) -> bool:
        """Whether the task's steps are recorded, as far as is known."""
        return self.records and isinstance(self._task.step, SimCLRStep | ClassifierStep)

    def let_go(self) -> None:
        """Free the gradients, and the recording with its memory."""
        self._recorded = None
        self._optimizer.zero_grad()

    def _gradients(self, batch: Batch, wants_norm: bool) -> tuple[Scalars, Tensor | None]:
        """The gradients of a batch, in the parameters; its scalars, and the norm of the gradients if it is wanted."""
        kind = self._kind(batch, wants_norm)
        if kind is None:
            return self._compute(batch, wants_norm)
        if self._recorded is None or self._recorded.kind != kind:
            self._recorded = _Recorded(kind)  # the memory of another kind is free before this one takes some
        known = self._recorded
        if known.recording is None and known.computed >= WARM_UP:
            self._optimizer.zero_grad()
            known.recording = record(lambda static: self._compute(static, wants_norm), batch, self._parameters)
            if known.recording is None:
                self.records = False
                say(f"{self._task.name}: this backbone's step can't be recorded (CUDA graph); it is computed each time")
        if known.recording is not None:
            return known.recording.play(batch)
        known.computed += 1
        return self._compute(batch, wants_norm)

    def _kind(self, batch: Batch, wants_norm: bool) -> Hashable | None:
        """What steps have in common that can be played back from one recording; None where none is made."""
        step = self._task.step
        if not self.will_record:
            return None
        assert isinstance(step, SimCLRStep | ClassifierStep)
        return step.augmentation_at(batch.progress), batch.images.shape, wants_norm

    def _compute(self, batch: Batch, wants_norm: bool) -> tuple[Scalars, Tensor | None]:
        self._optimizer.zero_grad()
        loss, scalars = self._task.step(self._module, batch)
        self._engine.backward(loss)
        return scalars, self._engine.gradient_norm(self._optimizer) if wants_norm else None
