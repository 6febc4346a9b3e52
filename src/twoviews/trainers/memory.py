"""Out of memory: the largest batch that fits here, as measured. The batch itself is never changed without being asked.

A batch is part of the method (it is where the negatives come from), so what fits is found out and said, not used.
Linux promises more memory than there is and ends the process that uses it: on a CPU an error, and with it a
measurement, comes only where the process has a limit of its own (``ulimit -v``) or the system does not overcommit. Even
then oneDNN may crash where it gets no memory; that is why the first line comes before the measuring. What fits is what
fitted here: in the next process, whose heap has other gaps, it may be a little less. An evaluation takes fewer images
at a time where memory is short (``validate.py``).
"""

from __future__ import annotations

import functools
import gc
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Concatenate, ParamSpec, TypeVar

import torch

from twoviews.errors import ResourceError, first_line
from twoviews.settings import TrainingSettings
from twoviews.trainers.chunks import ChunkedStep
from twoviews.trainers.cuda_graph import WARM_UP
from twoviews.trainers.engine import Engine
from twoviews.trainers.heap import give_back
from twoviews.trainers.optimizer import build_optimizer, set_lr
from twoviews.trainers.out_of_memory import is_out_of_memory
from twoviews.trainers.progress import say
from twoviews.trainers.stepper import Stepper
from twoviews.trainers.steps import Batch, SimCLRStep, Step
from twoviews.trainers.task import Task, batch_size_of

P = ParamSpec("P")
R = TypeVar("R")
Work = Callable[Concatenate[Task, TrainingSettings, Engine, P], R]

SMALLEST = 2  # images: BatchNorm and the loss need as many
EXACTNESS = 32  # what fits is found to one part in this many


def within_memory(work: Work[P, R]) -> Work[P, R]:
    """``work``, trained or measured, with an error that says what fits where memory runs out."""

    @functools.wraps(work)
    def guarded(task: Task, settings: TrainingSettings, engine: Engine, /, *arguments: P.args, **named: P.kwargs) -> R:
        try:
            return work(task, settings, engine, *arguments, **named)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            _let_go(error)
            failed = error
        # Outside the handler, so that nothing of the failed step is held any more.
        raise ResourceError(_what_fits(task, settings, engine, failed))

    return guarded


def evaluated(task: Task, epoch: int) -> dict[str, float]:
    """``task.evaluate``, with an error of its own where memory runs out: no smaller batch would help."""
    try:
        return task.evaluate(epoch)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"{task.name}: too little memory for the evaluation after epoch {epoch} ({first_line(error)}); free some "
            "and give the same command again, or take a smaller --backbone or --image-size with --new."
        ) from error


def _what_fits(task: Task, settings: TrainingSettings, engine: Engine, failed: BaseException) -> str:
    size = batch_size_of(task, settings, engine)
    start = f"{task.name}: a batch of {size:,} images does not fit in memory"
    batch_flag = settings.flag("batch_size")
    if isinstance(task.step, ChunkedStep):
        start += f", in chunks of {task.step.chunk_size:,}"
    if engine.world_size > 1:  # the others wait in the step: nothing can be measured together any more
        if not is_out_of_memory(failed, surely=True):
            raise failed
        return f"{start} over {engine.world_size} processes: use a smaller {batch_flag}."
    say(f"{start}: lower {batch_flag}. Measuring what fits ...")
    trial = _Trial(task, settings, engine)
    if isinstance(task.step, ChunkedStep):
        whole = task.step.whole
        chunk = _largest(lambda n: trial.fits(size, ChunkedStep(whole, n)), min(size, task.step.chunk_size))
        if chunk:
            return f"{start}; chunks of {chunk:,} fit as measured: use {settings.flag('chunk_size')} {chunk}."
    fitting = _largest(lambda n: trial.fits(n, task.step), size)
    if not fitting:
        if not is_out_of_memory(failed, surely=True):
            raise failed
        smaller = f"--backbone, {settings.flag('view_size')} or --image-size"
        return f"{start}, and neither do {SMALLEST}: use a smaller {smaller}."
    advice = f"{fitting:,} fit as measured: use {batch_flag} {fitting}"
    if isinstance(task.step, SimCLRStep):
        step, chunk = task.step, 1 << fitting.bit_length() - 1
        while chunk >= SMALLEST and not trial.fits(size, ChunkedStep(step, chunk)):
            chunk //= 2
        if chunk >= SMALLEST:
            advice += f", or keep the batch with {settings.flag('chunk_size')} {chunk}"
    return f"{start}; {advice}."


@dataclass
class _Trial:
    """Real steps of the task on its own module, with the largest views that it will see; the weights stay."""

    task: Task
    settings: TrainingSettings
    engine: Engine

    def __post_init__(self) -> None:
        _free(self.engine)
        self._optimizer = build_optimizer(
            self.task.module, self.settings, self.task.backbone_lr_scale, fused=self.engine.can_fuse
        )
        self._stepper = Stepper(self.task, self._optimizer, self.settings, self.engine)
        set_lr(self._optimizer, 0.0)

    def fits(self, count: int, step: Step) -> bool:
        """Whether a step on ``count`` images fits beside weights, gradients and the optimizer's state."""
        stepper = self._stepper.of(replace(self.task, step=step))
        try:
            # The optimizer's state is there before what is measured, as in every step of training but the first.
            first = [] if self._optimizer.state else [SMALLEST]
            # A step that is played back needs the memory of its recording too, which comes after some computed ones.
            for images in [*first, *[count] * (WARM_UP + 1 if stepper.will_record else 1)]:
                batch = Batch(*self.task.batches.get(torch.arange(images)), epoch=0, progress=1.0)
                stepper.step(batch, 0)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            _let_go(error)
            return False
        finally:
            self._stepper.records = stepper.records  # that none can be recorded is found out, and said, once
            stepper.let_go()
            _free(self.engine)
        return True


def _largest(fits: Callable[[int], bool], too_large: int) -> int:
    """The largest number below ``too_large`` found to fit, to one part in ``EXACTNESS``; 0 if ``SMALLEST`` does not."""
    fitting = too_large // 2
    while fitting >= SMALLEST and not fits(fitting):
        fitting, too_large = fitting // 2, fitting
    if fitting < SMALLEST:
        return 0
    while too_large - fitting > max(1, fitting // EXACTNESS):
        middle = (fitting + too_large) // 2
        fitting, too_large = (middle, too_large) if fits(middle) else (fitting, middle)
    return fitting


def _let_go(error: BaseException) -> None:
    """Free what the frames of an error hold: the activations of the step that failed."""
    traceback.clear_frames(error.__traceback__)


def _free(engine: Engine) -> None:
    gc.collect()
    give_back()
    if engine.device.type == "cuda":
        with suppress(RuntimeError):  # a step that could not be recorded may leave its memory marked as in use
            torch.cuda.empty_cache()
