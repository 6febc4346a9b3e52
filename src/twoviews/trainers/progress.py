"""What a person sees while a stage runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import sys
import time
from types import TracebackType
from typing import Any

from twoviews.streams import Unbroken

PLAIN_SECONDS = 10.0  # at least this long between two plain lines of one stage
# What moves a terminal's cursor or changes its colours: a file may be called so.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def duration(seconds: float) -> str:
    """Seconds as a person writes them: 45 s, 3:20, 1:04:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _without_controls(text: str) -> str:
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def as_line(text: str) -> str:
    """A message in one line, whatever names of files are in it."""
    return _without_controls(text).replace("\n", "\\n")


def speaks() -> bool:
    """Whether this is the first process of a run, which speaks for all."""
    return os.environ.get("RANK", "0") == "0" and os.environ.get("LOCAL_RANK", "0") == "0"


def say(text: str) -> None:
    """Print a line in the first process, whatever the terminal can show; a closed one does not end a run."""
    if speaks() and sys.stdout is not None:
        print(_without_controls(text), file=Unbroken(sys.stdout), flush=True)


def described(row: dict[str, Any], timing: dict[str, float]) -> str:
    """An epoch's row of metrics.jsonl and of timing.jsonl, or what they come to so far, as a person reads it."""
    labels = {
        "loss": "loss {:.3f}",
        "contrastive_top1": "top-1 {:.1%}",
        "train_loss": "loss {:.3f}",
        "train_top1": "train {:.1%}",
        "val_top1": "val {:.1%}",
        "knn_top1": "kNN {:.1%}",
        "effective_rank": "rank {:.0f}",
    }
    parts = [text.format(row[key]) for key, text in labels.items() if row.get(key) is not None]
    speed = f"{timing['images_per_second']:.0f} images/s, {timing['data_wait']:.0%} waiting for data"
    return "  ".join([*parts, speed])


class Progress:
    """Progress of one stage over its steps; quiet where ``show`` is False."""

    def __init__(self, stage: str, epochs: int, steps_per_epoch: int, first_step: int, show: bool = True) -> None:
        self.stage, self.epochs, self.steps_per_epoch = stage, epochs, steps_per_epoch
        self.show = show
        self._first_step = first_step
        self._started = self._last_line = time.monotonic()
        self._bar = None
        if show and sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}")
            )
            self._task = self._bar.add_task(
                f"{stage:<10}", total=epochs * steps_per_epoch, completed=first_step, text=""
            )

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def left(self, step: int) -> float | None:
        """Seconds left, from the pace since this process began; None at the first step."""
        done = step - self._first_step
        if done <= 0:
            return None
        return (time.monotonic() - self._started) / done * (self.epochs * self.steps_per_epoch - step)

    def step(self, step: int, text: str) -> None:
        """After a step: move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, text=self._line(step, text))

    def epoch(self, epoch: int, step: int, text: str) -> None:
        """After an epoch: a plain line, not more often than every ten seconds but for the last."""
        if not self.show or self._bar is not None:
            return self.step(step, text)
        now = time.monotonic()
        if epoch == self.epochs or now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            say(f"{self.stage:<10} {self._line(step, text)}")
        return None

    def _line(self, step: int, text: str) -> str:
        epoch = min(self.epochs, -(-step // self.steps_per_epoch))
        left = self.left(step)
        ending = "" if left is None or step >= self.epochs * self.steps_per_epoch else f"  {duration(left)} left"
        return f"epoch {epoch}/{self.epochs}  {text}{ending}"
