"""``--on-spike rollback``: where the loss jumps, back to a checkpoint from before, and on without what led to it.

As Chowdhery et al. 2022 ("PaLM", section 5.1) met spikes by hand: they restarted from a checkpoint before the spike and
skipped the batches seen around it, after which it did not come again. Here the ``LEFT_OUT`` steps up to the jump are
left out: no update, while learning rate and order of images go on as they would have.

Which steps are left out follows from the step of the jump alone, and weights follow from seed, step and what was left
out. So it does not matter which checkpoint the run goes back to, as long as it is from before those steps, nor where it
was stopped: killed between going back and its next checkpoint, it comes to the same jump again and goes back again.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.optim import Optimizer

from twoviews import disk
from twoviews.errors import CheckpointError, NumbersError
from twoviews.settings import TrainingSettings
from twoviews.trainers.checkpoint import State, checkpoints, settle, step_of
from twoviews.trainers.engine import Engine
from twoviews.trainers.failures import cures, ways_on
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.take_up import take_up
from twoviews.trainers.task import Task
from twoviews.trainers.watch import Jump

LEFT_OUT = 10  # steps up to the jump, itself among them: about as many as a momentum of 0.9 remembers
MOST = 3  # times that a run goes back; a loss that jumps more often has another cause than some images


def go_back(
    task: Task, optimizer: Optimizer, engine: Engine, run: RunFolder, state: State, jump: Jump
) -> tuple[State, dict[str, Tensor] | None]:
    """Bring module, optimizer and run folder to a checkpoint from before the steps that led to a jump.

    Every process calls it; the first deletes the checkpoints and rows of metrics.jsonl that came after.

    Returns:
        The state to go on from, and the best epoch's weights by then, or None.

    Raises:
        CheckpointError: there is no whole checkpoint from before.
    """
    first = max(0, jump.step + 1 - LEFT_OUT)
    if run.writes:
        for path in reversed(checkpoints(run.checkpoints)):  # stopped in between, the run comes to the jump again
            if step_of(path) > first:
                disk.retried(partial(disk.remove_folder, path), path, advice="A checkpoint can't be deleted.")
    engine.barrier()
    if not checkpoints(run.checkpoints):
        raise CheckpointError(f"{run.checkpoints} has no checkpoint from before step {first}; start anew with --new.")
    before, best, _ = take_up(task, optimizer, engine, run)
    before.left_out = sorted({*state.left_out, *range(first, jump.step + 1)})
    before.rollbacks = state.rollbacks + 1
    if run.writes:
        run.cut_metrics(before.metrics_bytes)
        settle(run.checkpoints, before.step, LEFT_OUT)
    say(
        f"{task.name}: back to step {before.step}; steps {first} to {jump.step} are left out "
        f"(rollback {before.rollbacks} of at most {MOST})"
    )
    engine.barrier()
    return before, best


def gives_up(task: Task, settings: TrainingSettings, run: RunFolder, state: State, jump: Jump) -> NumbersError:
    """The error that ends a run at a jump, before a checkpoint can hold what follows from it."""
    intact, anew = ways_on(run, settings)
    ways = cures(settings)
    if settings.on_spike == "stop":
        ways += f", or leave the images that led to it out with {settings.flag('on_spike')} rollback"
    gone_back = f", after {state.rollbacks} rollbacks" if state.rollbacks else ""
    return NumbersError(
        f"{task.name}: {jump}{gone_back}; {intact}. The same command would come to the same step again: {ways}, and "
        f"{anew}."
    )
