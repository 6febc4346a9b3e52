"""Take up a run from its newest whole checkpoint, on every process the same."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

from twoviews.trainers.checkpoint import State, load_latest
from twoviews.trainers.engine import Engine
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.task import Task


def take_up(
    task: Task, optimizer: Optimizer, engine: Engine, run: RunFolder
) -> tuple[State, dict[str, Tensor] | None, list[str]]:
    """Restore module, optimizer and gradient scaler; every process calls it.

    Returns:
        As ``load_latest``.

    Raises:
        CheckpointError: as ``load_latest``, or processes found different checkpoints: machines that do not see one
            folder would train on from different steps, each averaging its gradient with the others'.
    """
    state, best, damages = load_latest(run.checkpoints, task.module, optimizer)
    engine.require_same(
        state.step,
        f"{run.checkpoints}: processes found checkpoints of different steps; with several machines the run folder must "
        "be on a disk that all of them see: name it with --out",
    )
    engine.load_state(state.engine)
    return state, best, damages
