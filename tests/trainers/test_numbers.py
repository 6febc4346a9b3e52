"""Numbers that can't be trained on: the run ends before the update, says where, and leaves what a replay needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_tasks import (
    BATCH,
    SEED,
    STEPS_PER_EPOCH,
    at_step,
    changed_at,
    classifier,
    classifier_settings,
    engine,
    run_folder,
    simclr,
    simclr_settings,
)
from torch import Tensor

from twoviews.dataset.random_numbers import epoch_order
from twoviews.errors import CheckpointError, NumbersError
from twoviews.settings import PretrainCommand, StudyCommand, stage_settings
from twoviews.trainers import begun_epoch, watch
from twoviews.trainers import train as train_module
from twoviews.trainers.chunks import ChunkedStep
from twoviews.trainers.failures import read_failure
from twoviews.trainers.steps import Step
from twoviews.trainers.train import train
from twoviews.trainers.watch import LOG_STEPS, SMALLEST_SCALE, Watch, not_finite


def checkpoint_bytes(run: Path) -> dict[str, bytes]:
    files = [p for p in sorted((run / "checkpoints").rglob("*")) if p.is_file()]
    return {str(p.relative_to(run)): p.read_bytes() for p in files}


def spoilt_gradient(module: Any, loss: Tensor) -> Tensor:
    """A finite loss whose gradient is not: the square root of zero."""
    weight = next(module.parameters())
    return loss + (weight - weight.detach()).abs().sum().sqrt()


def with_loss(number: int, step: Step, value: float) -> Step:
    """The step, with ``value`` times its loss at its ``number``-th call (from 1)."""

    def times(module: Any, loss: Tensor, scalars: dict[str, Tensor]) -> Any:
        key = next(iter(scalars))
        return loss * value, {**scalars, key: scalars[key] * value}

    return changed_at(number, step, times)


SPOIL: dict[str, tuple[Callable[[int, Step], Step], str]] = {
    "loss nan": (lambda n, step: with_loss(n, step, float("nan")), r"the loss is nan"),
    "loss inf": (lambda n, step: with_loss(n, step, float("inf")), r"the loss is inf"),
    "gradient": (lambda n, step: at_step(n, step, spoilt_gradient), r"the gradient's norm is nan \(loss \d\.\d+\)"),
}


@pytest.mark.parametrize(
    ("what", "call", "clip"),  # within an epoch, and at its end, where a checkpoint is due
    [("loss nan", 6, None), ("loss inf", 8, 1.0), ("gradient", 6, 1.0), ("gradient", 8, None)],
)
def test_the_run_ends_before_the_update_and_spares_the_checkpoint(
    what: str, call: int, clip: float | None, tmp_path: Path
) -> None:
    spoil, cause = SPOIL[what]
    on, settings = engine(), simclr_settings(clip_grad_norm=clip)
    task = simclr(settings, on)
    before: dict[str, Any] = {}
    inner = spoil(call, task.step)

    def step(module: Any, batch: Any) -> Any:
        before.update(weights=copy.deepcopy(dict(task.module.named_parameters())), files=checkpoint_bytes(tmp_path))
        return inner(module, batch)

    task.step = step
    with pytest.raises(NumbersError, match=rf"^pretrain: {cause} at step {call - 1} \(epoch 2 of 3\)") as error:
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
    assert error.value.exit_code == 5
    said = str(error.value)
    for text in ("the last checkpoint (step-00000004) is intact", f"`twoviews replay {tmp_path}`", "--base-lr (20)"):
        assert text in said
    assert "\n" not in said
    assert checkpoint_bytes(tmp_path) == before["files"]
    assert any(name.startswith("checkpoints/step-00000004/") for name in before["files"])
    torch.testing.assert_close(dict(task.module.named_parameters()), before["weights"], rtol=0, atol=0)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_what_a_replay_needs_is_written_down(tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)
    task.step = at_step(6, task.step, spoilt_gradient)
    with pytest.raises(NumbersError):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
    failure = read_failure(tmp_path)
    assert (failure.stage, failure.step, failure.epoch, failure.seed) == ("pretrain", 5, 2, SEED)
    assert (failure.batch_size, failure.checkpoint) == (BATCH, "step-00000004")
    order = epoch_order(SEED, 1, len(task.batches))[BATCH : 2 * BATCH]
    assert [image["row"] for image in failure.images] == order.tolist()
    assert [image["file"] for image in failure.images] == [str(row) for row in order.tolist()]
    assert failure.gradients == ["backbone.conv1.weight"]
    assert failure.settings == settings.model_dump(mode="json")
    assert failure.machine["precision"] == "float32"
    assert failure.machine["threads"] == 1
    assert failure.loss == pytest.approx(2, abs=2)
    assert failure.gradient_norm is None
    assert failure.lr > 0


def test_in_a_study_the_advice_names_the_study_s_flags(tmp_path: Path) -> None:
    on, study = engine(), StudyCommand()
    settings = stage_settings(PretrainCommand, study, simclr_settings())
    task = simclr(settings, on)
    task.step = at_step(6, task.step, spoilt_gradient)
    with pytest.raises(NumbersError) as error:
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
    said = str(error.value)
    assert "lower --pretrain.base-lr (20) or set --pretrain.clip-grad-norm, and begin anew with --new" in said
    assert "--fork" not in said  # a study has no such flag to use
    assert read_failure(tmp_path).group == "pretrain"


def test_the_same_command_comes_to_the_same_step_and_past_it_once_it_can(tmp_path: Path) -> None:
    settings = simclr_settings()
    for first_call in (6, 2):  # the second start goes on from step 4
        on = engine()
        task = simclr(settings, on)
        task.step = at_step(first_call, task.step, spoilt_gradient)
        with pytest.raises(NumbersError, match="at step 5 "):
            train(task, settings, on, run_folder(tmp_path), seed=SEED)
        assert read_failure(tmp_path).step == 5
    on = engine()
    train(simclr(settings, on), settings, on, run_folder(tmp_path), seed=SEED)
    assert not (tmp_path / "failure.json").exists()
    with pytest.raises(CheckpointError, match="no step of it failed, or it went on past it"):
        read_failure(tmp_path)


def test_a_failure_in_the_first_epoch_has_no_checkpoint_to_go_back_to(tmp_path: Path) -> None:
    on, settings = engine(), classifier_settings()
    task = classifier(settings, on)
    task.step = with_loss(1, task.step, float("nan"))
    with pytest.raises(NumbersError, match=r"supervised: the loss is nan at step 0 .*no checkpoint yet.*--new"):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
    assert read_failure(tmp_path).checkpoint is None


@pytest.mark.parametrize("where", ["running_var", "weight", "momentum_buffer of the optimizer"])
def test_no_checkpoint_holds_a_number_that_is_not_finite(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on, settings = engine(), classifier_settings()
    task = classifier(settings, on)

    def spoil(*_: Any) -> None:
        module, optimizer = held
        if where == "running_var":
            dict(module.named_buffers())["backbone.bn1.running_var"][0] = float("inf")
        elif where == "weight":
            dict(module.named_parameters())["backbone.bn1.weight"].data[0] = float("nan")
        else:
            next(iter(optimizer.state.values()))["momentum_buffer"].fill_(float("nan"))

    held: list[Any] = []
    original = train_module.build_optimizer
    steps = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        optimizer = original(*arguments, **named)
        held.extend([arguments[0], optimizer])

        def after(*_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == 2 * STEPS_PER_EPOCH:  # the last update of the second epoch
                spoil()

        optimizer.register_step_post_hook(after)
        return optimizer

    monkeypatch.setattr(train_module, "build_optimizer", counted)
    with pytest.raises(NumbersError, match=rf"{where} is not finite after the update of step 7 at step 8 "):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
    assert sorted(p.name for p in (tmp_path / "checkpoints").glob("step-*")) == ["step-00000004"]
    assert read_failure(tmp_path).step == 8


def test_a_chunked_step_is_watched_as_a_whole_one(tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings(chunk_size=2)
    task = simclr(settings, on)
    task.step = ChunkedStep(task.step, 2)  # type: ignore[arg-type]
    calls = 0

    def spoil(module: Any, inputs: Any, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return output * float("inf") if calls == 9 else output  # two chunks, each twice: the third step

    task.module.register_forward_hook(spoil)
    with pytest.raises(NumbersError, match=r"the loss is nan at step 2 "):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)


# Where the numbers are not at hand, as on a GPU. --------------------------------------------------------------------


class Late(Watch):
    """A watch whose numbers are far away: it says when it was asked for them."""

    looks = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.at_hand = False

    def look(self) -> bool:
        Late.looks += bool(self._noted)
        return super().look()


def test_a_device_is_waited_for_on_log_steps_and_before_checkpoints_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(begun_epoch, "Watch", Late)
    monkeypatch.setattr(Late, "looks", 0)
    on, settings = engine(), simclr_settings().model_copy(update={"batch_size": 2})
    task = simclr(settings, on)
    train(task, settings, on, run_folder(tmp_path), seed=SEED)
    assert len(task.batches) // 2 == 9
    # Steps 0, 10 and 20, and the epochs' last: 8, 17, 26.
    assert Late.looks == 6


def test_a_failure_that_is_seen_late_is_told_with_its_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begun_epoch, "Watch", Late)
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)
    task.step = with_loss(6, task.step, float("nan"))  # step 5: seen at the epoch's end, after step 7
    with pytest.raises(NumbersError, match=r"the loss is nan at step 5 "):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
    assert sorted(p.name for p in (tmp_path / "checkpoints").glob("step-*")) == ["step-00000004"]
    assert read_failure(tmp_path).step == 5


def far(scale: float | None = None) -> Any:
    return SimpleNamespace(device=torch.device("cuda"), loss_scale=lambda: scale)


def test_a_watch_sees_every_step_since_its_last_look() -> None:
    watch = Watch("pretrain", far())
    assert [step for step in range(25) if watch.due(step)] == [0, LOG_STEPS, 2 * LOG_STEPS]
    good, bad = torch.tensor(1.5), torch.tensor(float("inf"))
    for step in range(5):
        watch.note(step, good, good)
    assert not watch.look()
    for step in range(5, 12):
        watch.note(step, good if step < 8 else bad, bad if step == 7 else good)
    assert watch.failure is None
    assert watch.look()
    assert watch.failure is not None
    assert (watch.failure.step, watch.failure.loss, watch.failure.norm) == (7, 1.5, float("inf"))
    watch.note(12, good, good)
    assert watch.look()


def test_in_fp16_the_scaler_may_leave_steps_out_but_not_for_ever() -> None:
    fine = Watch("pretrain", far(scale=SMALLEST_SCALE))
    fine.note(0, torch.tensor(1.0), None)
    assert not fine.look()
    lost = Watch("pretrain", far(scale=SMALLEST_SCALE / 2))
    lost.note(31, torch.tensor(1.0), None)
    assert lost.look()
    assert lost.failure is not None
    assert lost.failure.step == 31
    assert "no gradient is finite in fp16" in lost.failure.cause


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_number_among_many_is_found(value: float) -> None:
    large = torch.full((50, 50), 3e38)  # finite, though its square is not
    spoilt = torch.zeros(50, 50)
    spoilt[31, 7] = value
    counts = torch.tensor([3])
    named = [("a", large), ("b", spoilt), ("c", counts), ("d", torch.zeros(0)), ("e", spoilt.bfloat16())]
    assert not_finite(named) == ["b", "e"]


def test_what_is_looked_at_together_lies_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW that is not fused, as with fp16's scaler and on Apple's GPUs, counts its steps on the CPU."""
    looked_at: list[str] = []

    def look(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
        looked_at.extend(name for name, _ in tensors)
        return []

    monkeypatch.setattr(watch, "not_finite", look)
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters(), foreach=True)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert watch.state_not_finite(module, optimizer, 0) is None
    assert set(looked_at) == {"weight", "bias", "exp_avg of the optimizer", "exp_avg_sq of the optimizer"}
