"""A loss that jumps: known whatever its sign, counted the same after a stop; a run warns, ends, or goes back."""

from __future__ import annotations

import json
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_tasks import BATCH, IMAGES, SEED, STEPS_PER_EPOCH, engine, images, run_folder, simclr_settings
from test_train import left_by
from torch import nn

from twoviews.dataset.batches import Batches
from twoviews.dataset.random_numbers import epoch_order
from twoviews.errors import NumbersError, Stopped
from twoviews.trainers import save_times
from twoviews.trainers import train as train_module
from twoviews.trainers.checkpoint import State, checkpoints, save_checkpoint, step_of
from twoviews.trainers.optimizer import build_optimizer
from twoviews.trainers.rollback import LEFT_OUT, MOST
from twoviews.trainers.task import Task
from twoviews.trainers.train import train
from twoviews.trainers.watch import FEWEST, WINDOW, Jump, Watch

EPOCHS = 6
JUMP = 14  # in the fourth epoch; the ten steps up to it take the third with them


def step_number(batch: Any) -> int:
    """Known by the images, not by the number of the call, which a resume begins anew."""
    order = epoch_order(SEED, batch.epoch, IMAGES).tolist()
    return int(batch.epoch * STEPS_PER_EPOCH + order.index(int(batch.rows[0])) // BATCH)


class Crash(Exception):
    """As if the process had been killed."""


def crash() -> None:
    raise Crash


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def run(
    path: Path,
    on_spike: str,
    *,
    jumps: tuple[int, ...] = (JUMP,),
    at: dict[int, Callable[[], None]] | None = None,
    state: State | None = None,
    **changes: Any,
) -> list[int]:
    """Train a small network whose loss jumps at some steps; ``at``: what happens at a call of the step, from 1.

    Returns the numbers of the steps that were computed.
    """
    on = engine()
    changes = {"epochs": EPOCHS, "base_lr": 0.1, **changes}
    settings = simclr_settings(on_spike=on_spike).model_copy(update=changes)
    torch.manual_seed(0)
    module = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 8))
    computed: list[int] = []

    def jumping(module: Any, batch: Any) -> Any:
        loss = (module(batch.images / 255) - batch.rows[:, None] / IMAGES).square().mean()
        computed.append(step_number(batch))
        (at or {}).get(len(computed), lambda: None)()
        return loss, {"loss": loss.detach() + 100 * (computed[-1] in jumps)}

    task = Task("pretrain", module, Batches(images(labelled=False), on.device), jumping, lambda epoch: {})
    if state is not None:
        save_checkpoint(path / "checkpoints", task.module, build_optimizer(task.module, settings), state)
    train(task, settings, on, run_folder(path), seed=SEED)
    return computed


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


# What is a jump. ----------------------------------------------------------------------------------------------------


def judged(earlier: list[float], *losses: float) -> tuple[Watch, Jump | None]:
    far = SimpleNamespace(device=torch.device("cuda"), loss_scale=lambda: None, mean_of=lambda values: values)
    watch = Watch("pretrain", far, earlier)  # type: ignore[arg-type]
    for step, loss in enumerate(losses):
        watch.note(step, torch.tensor(loss, dtype=torch.float64), None)
    assert not watch.look()
    return watch, watch.judge()


@pytest.mark.parametrize("level", [-4.0, -0.3, 0.0, 0.02, 5.0])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3])
def test_a_jump_is_a_jump_at_any_level_of_the_loss(level: float, noise: float) -> None:
    """A decoupled loss falls through zero: a ratio would call everything a jump there, and below nothing."""
    random_ = random.Random(1)
    usual = [level + random_.gauss(0, noise) for _ in range(WINDOW)]
    quiet, jump = judged(usual, *(level + random_.gauss(0, noise) for _ in range(WINDOW)))
    assert (quiet.spikes, jump) == (0, None)
    far = max(1.0, 10 * noise)  # 10 deviations of at least 0.1; that of this noise is 0.67 times its standard deviation
    watch, jump = judged(usual, level, level + far + 0.3, level + 2 * far, level - 2 * far)
    assert watch.spikes == 2
    assert jump is not None
    assert jump.step == 1
    assert jump.usual == pytest.approx(level, abs=0.1)


def test_jumps_do_not_make_later_ones_usual_until_they_are() -> None:
    watch, _ = judged([1.0] * 20, *[50.0] * 30)
    assert watch.spikes == 20  # from then on half of all steps are as high
    assert judged([1.0] * (FEWEST - 1), 1e6)[0].spikes == 0  # nothing to compare with
    assert judged([1.0] * FEWEST, 1e6)[0].spikes == 1
    assert len(judged([1.0] * WINDOW, *[2.0] * 30)[0].losses) == WINDOW


def test_jumps_are_counted_and_told_the_same_after_a_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "whole", "warn", jumps=(12, 14))
    said = capsys.readouterr().out
    assert said.count("warning: pretrain: the loss jumped to") == 1  # once an epoch
    assert re.search(r"jumped to 1\d\d at step 12, \d+ deviations above that of the 12 steps before \(\S+ ± 0\.", said)
    assert "a lower --base-lr or --clip-grad-norm makes training steadier" in said
    assert [row.get("loss_spikes") for row in rows(tmp_path / "whole")] == [None, None, None, 2, None, None]
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", "warn", jumps=(12, 14), at={14: terminate})
    run(tmp_path / "stopped", "warn", jumps=(12, 14))
    assert left_by(tmp_path / "stopped") == left_by(tmp_path / "whole")


# What a run does then. ----------------------------------------------------------------------------------------------


def test_it_ends_where_it_should_stop(tmp_path: Path) -> None:
    with pytest.raises(NumbersError, match=r"^pretrain: the loss jumped to 1\d\d at step 14, ") as error:
        run(tmp_path, "stop")
    assert error.value.exit_code == 5
    for text in ("(step-00000012) is intact", "--on-spike rollback", "--base-lr (0.1)", "with --fork"):
        assert text in str(error.value)
    assert [step_of(path) for path in checkpoints(tmp_path / "checkpoints")] == [8, 12]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went back once, at a jump that does not come again, and was not stopped."""
    path = tmp_path_factory.mktemp("jumps") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save_times, "EPOCH_SECONDS", 0.0)
        patch.setattr(save_times, "SAVE_PAUSE", 0.0)
        computed = run(path, "rollback")
    assert computed == [*range(JUMP + 1), *range(JUMP + 1 - LEFT_OUT), *range(JUMP + 1, EPOCHS * STEPS_PER_EPOCH)]
    return path


def test_it_goes_on_as_if_it_had_never_seen_the_steps_that_led_to_it(whole: Path, tmp_path: Path) -> None:
    left_out = list(range(JUMP + 1 - LEFT_OUT, JUMP + 1))
    run(tmp_path, "rollback", jumps=(), state=State(left_out=left_out, rollbacks=1))
    assert left_by(tmp_path) == left_by(whole)
    assert [row.get("steps_left_out") for row in rows(whole)] == [None, 3, 4, 3, None, None]
    assert ["loss" in row for row in rows(whole)] == [True, True, False, True, True, True]  # none is made up
    run(tmp_path / "other", "warn")
    assert left_by(tmp_path / "other") != left_by(whole)


@pytest.mark.parametrize(
    ("at", "minutes", "epoch_seconds"),
    [
        pytest.param({13: terminate, 3: terminate}, 10.0, 0.0, marks=pytest.mark.slow),  # before the jump
        pytest.param({17: terminate}, 10.0, 0.0, marks=pytest.mark.slow),  # after it
        ({16: crash}, 10.0, 0.0),  # between going back and the next checkpoint
        ({18: crash, 9: crash}, 1e-9, 0.0),  # with a checkpoint at every step
        ({20: crash}, 10.0, 1e9),  # and with none but the first
    ],
)
def test_the_bits_are_the_same_wherever_it_is_stopped_and_saved(
    at: dict[int, Any], minutes: float, epoch_seconds: float, whole: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(save_times, "EPOCH_SECONDS", epoch_seconds)
    for call, action in sorted(at.items(), reverse=True):
        with pytest.raises((Stopped, Crash)):
            run(tmp_path, "rollback", at={call: action}, checkpoint_minutes=minutes)
    run(tmp_path, "rollback", checkpoint_minutes=minutes)
    assert left_by(tmp_path) == left_by(whole)


def test_a_loss_that_jumps_again_and_again_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST > 1
    monkeypatch.setattr(train_module, "MOST", 2)
    with pytest.raises(NumbersError, match=r"at step 54, .*, after 2 rollbacks; the last checkpoint"):
        run(tmp_path, "rollback", jumps=(14, 34, 54), epochs=15)
