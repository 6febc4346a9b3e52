"""The one training loop: the supervised baseline, SimCLR and fine-tuning all run through it.

What it draws on is a function of the seed, the epoch and the step (order, views, learning rate), so its state is the
weights, the optimizer and a step number, and a resumed run ends with the same bits as one that never stopped.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from torch import Tensor

from twoviews.dataset.batches import Fetched
from twoviews.errors import NumbersError, Stopped
from twoviews.settings import TrainingSettings
from twoviews.settings.growth import progress_at
from twoviews.trainers.begun_epoch import BegunEpoch, epoch_row
from twoviews.trainers.checkpoint import State, require_room, save_checkpoint, settle
from twoviews.trainers.engine import Engine
from twoviews.trainers.failures import forget_failure, record_failure
from twoviews.trainers.feed import Feed
from twoviews.trainers.memory import evaluated, within_memory
from twoviews.trainers.optimizer import build_optimizer, lr_at, schedule, set_lr
from twoviews.trainers.pace import Pace
from twoviews.trainers.progress import Progress, described, say
from twoviews.trainers.rollback import LEFT_OUT, MOST, gives_up, go_back
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.save_times import SaveTimes
from twoviews.trainers.signals import StopRequests
from twoviews.trainers.stepper import Stepper
from twoviews.trainers.steps import Batch
from twoviews.trainers.take_up import take_up
from twoviews.trainers.task import Task, batch_size_of
from twoviews.trainers.watch import LOG_STEPS, Jump, NotFinite, state_not_finite


@within_memory
def train(task: Task, settings: TrainingSettings, engine: Engine, run: RunFolder, *, seed: int) -> None:
    """Train to the end, from the run folder's newest checkpoint if there is one.

    The module ends with the weights that are the model: the last epoch's, or the best one's by ``task.select``.

    Raises:
        NumbersError: a loss, gradient or weight is not finite, or the loss jumped and ``--on-spike`` lets it no
            further; the last checkpoint is from before it.
        ResourceError: memory does not suffice for the batch, or the disk for a checkpoint.
        Stopped: a signal asked for it; a checkpoint was saved.
    """
    training = _Training(task, settings, engine, run, seed)
    with (
        Progress(
            task.name, settings.epochs, training.steps_per_epoch, training.state.step, engine.is_first
        ) as progress,
        StopRequests() as stop,
        closing(training.feed),
    ):
        saves = SaveTimes(60 * settings.checkpoint_minutes)
        training.go_on()
        for step, fetched in training.feed:
            training.take_step(step, fetched)
            ends_epoch = (step + 1) % training.steps_per_epoch == 0
            if step % LOG_STEPS == 0 or ends_epoch:
                progress.step(step + 1, training.so_far())

            stopping = due = False
            jump = None
            # Asking the other GPUs is a wait for them; processes on CPUs meet at every step anyway.
            if training.begun.watch.due(step) or ends_epoch:
                late = saves.is_due(ends_epoch) or step + 1 == training.steps
                stopping, due, jump = training.look(stop.exit_code is not None, late)
            if jump is not None and settings.on_spike != "warn":
                training.go_back(jump)
                continue
            if ends_epoch or stopping or due:
                training.sum_up()
            if ends_epoch:
                progress.epoch((step + 1) // training.steps_per_epoch, step + 1, training.end_epoch())
            if stopping or due:
                with saves.timed():
                    training.save()
            if ends_epoch:
                training.begun.pace = Pace(task.batches)  # the save is no part of the next epoch
            if stopping:
                raise Stopped(
                    f"{task.name} stopped at step {step + 1} of {training.steps}; the same command goes on from there.",
                    stop.exit_code or 143,
                )
    if training.best_weights is not None:
        task.module.load_state_dict(training.best_weights)


class _Training:
    """What the loop works on, taken up where the run folder's newest checkpoint left it.

    Attributes:
        steps_per_epoch, steps: of each epoch, and of them all.
        state: what a checkpoint holds beside weights and optimizer; its ``step`` is the number of steps done.
        best_weights: those of the best epoch so far; None where the last epoch is the model.
        feed: each step with its batch.
        begun: the epoch that is being trained, from ``go_on`` on.
    """

    begun: BegunEpoch

    def __init__(self, task: Task, settings: TrainingSettings, engine: Engine, run: RunFolder, seed: int) -> None:
        self._task, self._settings, self._engine, self._run, self._seed = task, settings, engine, run, seed
        self._size = batch_size_of(task, settings, engine)
        self.steps_per_epoch = len(task.batches) // self._size
        self.steps = settings.epochs * self.steps_per_epoch
        if self._size != settings.batch_size:
            say(
                f"{task.name}: batch lowered from {settings.batch_size} to {self._size}, the number of images there are"
            )
        self._rates = schedule(settings, self._size, self.steps_per_epoch)
        self._optimizer = build_optimizer(task.module, settings, task.backbone_lr_scale, fused=engine.can_fuse)
        self._reach = LEFT_OUT if settings.on_spike == "rollback" else 0
        self.state, self.best_weights = self._take_up()
        self._stepper = Stepper(task, self._optimizer, settings, engine, seed)
        if self._reach and self.state.step == 0 and run.writes:
            self.state.engine = engine.state()
            save_checkpoint(run.checkpoints, task.module, self._optimizer, self.state)  # always somewhere to go back to
        self.feed = Feed(task, self._size, self.steps, seed, engine)

    def _take_up(self) -> tuple[State, dict[str, Tensor] | None]:
        """Bring weights, optimizer and folder to the newest checkpoint, and say so; its state and best weights."""
        task, run = self._task, self._run
        state, best_weights, damages = take_up(task, self._optimizer, self._engine, run)
        for damage in damages:
            say(f"{task.name}: damaged checkpoint left aside: {damage}")
        if self._engine.is_first:
            run.cut_metrics(state.metrics_bytes)
            if state.step < self.steps:
                best, more = task.select is not None, int(self._reach > 0)
                require_room(run.checkpoints, task.module, self._settings.optimizer, keeps_best=best, more=more)
            if state.step and run.writes:
                settle(run.checkpoints, state.step, self._reach)
        if state.step:
            caution = "; on this GPU the last bits may differ from those of a run without a stop"
            say(
                f"{task.name}: going on from step {state.step} of {self.steps}{'' if self._engine.repeats else caution}"
            )
        self._engine.barrier()
        return state, best_weights

    def go_on(self) -> None:
        """Read images, and count the epoch's figures, on from the state."""
        self.feed.go_to(self.state.step, self.state.left_out)
        self.begun = BegunEpoch(self._task, self._settings, self._engine, self.state)

    def take_step(self, step: int, fetched: Fetched | None) -> None:
        """Train on a step's images; a step that is left out has none."""
        set_lr(self._optimizer, lr_at(step, **self._rates))
        if fetched is not None:
            epoch = step // self.steps_per_epoch
            batch = Batch(*fetched, epoch, progress_at(epoch, self._settings.epochs))
            self.begun.add(self._stepper.step(batch, step, self.begun.watch))
        self.state.step = step + 1

    def so_far(self) -> str:
        """The epoch's figures up to here, to be shown; a wait for the device."""
        trained, _ = self._steps_of_epoch()
        return described(self.begun.means(trained), self.begun.pace.figures(trained * self._size))

    def look(self, asked_to_stop: bool, late: bool) -> tuple[bool, bool, Jump | None]:
        """Whether to stop, whether to save, and where the loss jumped: the same in every process, all of them call it.

        Args:
            asked_to_stop: whether a signal asked this process to.
            late: whether it is time to save, in this process.

        Raises:
            NumbersError: a number was not finite.
        """
        watch = self.begun.watch
        stopping, due, failed = self._engine.any(asked_to_stop, late, watch.look())
        if failed:
            raise self._failed(watch.failure)
        return stopping, due, watch.judge()

    def go_back(self, jump: Jump) -> None:
        """To a checkpoint from before the loss jumped, and on from there.

        Raises:
            NumbersError: ``--on-spike stop``, or the run went back often enough.
        """
        if self._settings.on_spike == "stop" or self.state.rollbacks == MOST:
            raise gives_up(self._task, self._settings, self._run, self.state, jump)
        self.state, self.best_weights = go_back(self._task, self._optimizer, self._engine, self._run, self.state, jump)
        self.go_on()

    def sum_up(self) -> None:
        """Bring what the epoch has come to into the state.

        Raises:
            NumbersError: weights or the optimizer's state are not finite; a checkpoint must not hold what no training
                can go on from.
        """
        broken = state_not_finite(self._task.module, self._optimizer, self.state.step - 1)
        if broken is not None:
            raise self._failed(broken)
        self.begun.sum_up(self.state)

    def end_epoch(self) -> str:
        """Evaluate and log the epoch that ``sum_up`` summed up, and begin the next; its figures, to be shown."""
        state = self.state
        epoch, (trained, left_out) = state.step // self.steps_per_epoch, self._steps_of_epoch()
        row = {"epoch": epoch, "step": state.step, "lr": lr_at(state.step - 1, **self._rates)}
        row |= epoch_row(state.sums, trained, left_out)
        timing = self.begun.pace.figures(trained * self._size)
        row |= evaluated(self._task, epoch)
        self._keep_best(row)
        self.begun.end(state)
        if self._run.writes:
            self._run.add_epoch(row, timing)
        return described(row, timing)

    def save(self) -> None:
        """Save a checkpoint; every process calls it."""
        run, state = self._run, self.state
        state.engine = self._engine.state()
        if run.writes:
            state.metrics_bytes = run.metrics_bytes()
            save_checkpoint(run.checkpoints, self._task.module, self._optimizer, state, self.best_weights, self._reach)
            forget_failure(run)
        self._engine.barrier()

    def _steps_of_epoch(self) -> tuple[int, int]:
        """How many of the epoch's steps up to here were trained on, and how many left out."""
        last = self.state.step - 1
        first = last - last % self.steps_per_epoch
        left_out = sum(first <= step <= last for step in self.state.left_out)
        return last + 1 - first - left_out, left_out

    def _failed(self, failure: NotFinite | None) -> NumbersError:
        return record_failure(
            self._task, self._settings, self._engine, self._run, failure, size=self._size, seed=self._seed
        )

    def _keep_best(self, row: dict[str, Any]) -> None:
        select = self._task.select
        if select is None or row[select] <= self.state.best.get(select, -1.0):
            return
        self.state.best = {"epoch": row["epoch"], select: row[select]}
        self.best_weights = {name: tensor.detach().clone() for name, tensor in self._task.module.state_dict().items()}
