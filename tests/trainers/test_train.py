"""The loop: a stopped run ends with the bits of one that never stopped, and what it keeps is what it says."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_tasks import (
    BATCH,
    EPOCHS,
    IMAGES,
    MEAN,
    SEED,
    STD,
    STEPS,
    STEPS_PER_EPOCH,
    at_step,
    classifier,
    classifier_settings,
    engine,
    images,
    run_folder,
    simclr,
    simclr_settings,
)
from torch import Tensor, nn

from twoviews.dataset.batches import Batches
from twoviews.errors import DataError, SettingsError, Stopped
from twoviews.settings import TrainingSettings
from twoviews.settings.growth import progress_at
from twoviews.trainers import save_times
from twoviews.trainers import train as train_module
from twoviews.trainers.checkpoint import State, save_checkpoint
from twoviews.trainers.engine import Engine
from twoviews.trainers.estimate import seconds_per_epoch
from twoviews.trainers.steps import view_size_at
from twoviews.trainers.task import Task, batch_size_of
from twoviews.trainers.train import train
from twoviews.trainers.validate import Normalisation, validate

MakeTask = Callable[..., Task]


def terminate(module: Any, loss: Tensor) -> Tensor:
    signal.raise_signal(signal.SIGTERM)
    return loss


def left_by(run: Path) -> dict[str, bytes]:
    """Every byte of the newest checkpoint, and the metrics."""
    newest = sorted((run / "checkpoints").iterdir())[-1]
    files = {f"{newest.name}/{p.name}": p.read_bytes() for p in newest.iterdir()}
    return {**files, "metrics.jsonl": (run / "metrics.jsonl").read_bytes()}


def complete(
    make: MakeTask, settings: TrainingSettings, path: Path, *, precision: str = "float32", init: int = 1, **more: Any
) -> Task:
    on = engine(precision)
    task = make(settings, on, init=init, **more)
    train(task, settings, on, run_folder(path), seed=SEED)
    return task


RUNS: dict[str, tuple[MakeTask, TrainingSettings, str]] = {
    "simclr": (simclr, simclr_settings(), "float32"),
    "simclr in bf16, clipped": (simclr, simclr_settings(clip_grad_norm=1.0), "bf16"),
    "simclr with lars": (simclr, simclr_settings(optimizer="lars"), "float32"),
    "classifier": (classifier, classifier_settings(), "float32"),
    "classifier with adamw": (classifier, classifier_settings(optimizer="adamw", lr_scaling="none"), "float32"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_ends_with_the_bits_of_one_that_never_stopped(name: str, tmp_path: Path) -> None:
    make, settings, precision = RUNS[name]
    whole = complete(make, settings, tmp_path / "whole", precision=precision)

    path = tmp_path / "stopped"
    for stop in (6, 2):  # within an epoch; then, two steps on, at an epoch's end
        on = engine(precision)
        task = make(settings, on, init=1 if stop == 6 else 99)  # a resumed run's weights come from the checkpoint
        task.step = at_step(stop, task.step, terminate)
        with pytest.raises(Stopped, match=r"stopped at step \d+ of 12; the same command goes on") as stopped:
            train(task, settings, on, run_folder(path), seed=SEED)
        assert stopped.value.exit_code == 143
    last = complete(make, settings, path, precision=precision, init=77)

    assert left_by(path) == left_by(tmp_path / "whole")
    exact = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(dict(last.module.state_dict()), dict(whole.module.state_dict()), **exact)
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["step"]) for row in rows] == [(e, e * STEPS_PER_EPOCH) for e in (1, 2, 3)]
    # It did train: the bits are not those that both began with.
    start = make(settings, engine(precision)).module.state_dict()
    assert all(not torch.equal(start[k], v) for k, v in whole.module.state_dict().items() if v.is_floating_point())


def test_rows_logged_after_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    settings = simclr_settings()
    complete(simclr, settings, tmp_path / "whole")
    on = engine()
    task = simclr(settings, on)
    task.step = at_step(6, task.step, terminate)
    with pytest.raises(Stopped):
        train(task, settings, on, run_folder(tmp_path / "crashed"), seed=SEED)
    # As if it had gone on to log its second epoch and half of the third's row, and crashed before it could save.
    with (tmp_path / "crashed/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 8, "loss": 0.5}\n{"epoch": 3, "st')
    complete(simclr, settings, tmp_path / "crashed", init=9)
    assert left_by(tmp_path / "crashed") == left_by(tmp_path / "whole")


def tiny(settings: TrainingSettings, on: Engine, *, init: int = 1, **more: Any) -> Task:
    task = simclr(settings, on, **more)
    torch.manual_seed(init)
    task.module = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 8))
    return task


def test_short_epochs_are_saved_when_seconds_have_gone_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And at the end, at a signal, and within long epochs; the bits are those of a run that saves each epoch."""
    settings = simclr_settings().model_copy(update={"epochs": 9})
    complete(tiny, settings, tmp_path / "each")
    saved: list[int] = []

    def save(folder: Path, module: Any, optimizer: Any, state: State, *more: Any) -> Path:
        saved.append(state.step)
        return save_checkpoint(folder, module, optimizer, state, *more)

    def train_until(stop: int | None, path: Path, minutes: float = 10.0) -> list[int]:
        on, done = engine(), 0
        task = tiny(settings, on)
        inner = task.step

        def step(module: Any, batch: Any) -> Any:
            nonlocal done
            done += 1
            if done == stop:
                signal.raise_signal(signal.SIGTERM)
            return inner(module, batch)

        task.step = step
        saved.clear()
        with monkeypatch.context() as patch:
            patch.setattr(save_times, "EPOCH_SECONDS", 10.0)
            patch.setattr(train_module, "save_checkpoint", save)
            patch.setattr(save_times, "time", SimpleNamespace(monotonic=lambda: 0.8 * done))  # 3.2 s an epoch
            train(task, settings.model_copy(update={"checkpoint_minutes": minutes}), on, run_folder(path), seed=SEED)
        return saved

    with pytest.raises(Stopped):
        train_until(19, tmp_path / "seldom")
    assert saved == [16, 19]
    assert train_until(None, tmp_path / "seldom") == [32, 36]
    assert left_by(tmp_path / "seldom") == left_by(tmp_path / "each")
    with pytest.raises(Stopped):
        train_until(9, tmp_path / "within", minutes=0.02)
    assert saved == [2, 4, 6, 8, 9]


def test_a_damaged_checkpoint_costs_steps_and_no_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = classifier_settings()
    complete(classifier, settings, tmp_path / "whole")
    on = engine()
    task = classifier(settings, on)
    task.step = at_step(10, task.step, terminate)
    with pytest.raises(Stopped):
        train(task, settings, on, run_folder(tmp_path / "damaged"), seed=SEED)
    with (tmp_path / "damaged/checkpoints/step-00000010/model.safetensors").open("r+b") as file:
        file.truncate(1000)
    complete(classifier, settings, tmp_path / "damaged", init=9)
    assert left_by(tmp_path / "damaged") == left_by(tmp_path / "whole")
    said = capsys.readouterr().out
    assert "damaged checkpoint left aside: step-00000010: model.safetensors" in said
    assert "going on from step 8 of 12" in said


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    settings = simclr_settings()
    first = complete(simclr, settings, tmp_path)
    before = left_by(tmp_path)
    again = complete(simclr, settings, tmp_path, init=3)
    assert left_by(tmp_path) == before
    torch.testing.assert_close(dict(again.module.state_dict()), dict(first.module.state_dict()), rtol=0, atol=0)


def test_the_seed_decides(tmp_path: Path) -> None:
    settings = simclr_settings()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        on = engine()
        train(simclr(settings, on), settings, on, run_folder(tmp_path / name), seed=seed)
    a, b, c = (left_by(tmp_path / name) for name in "abc")
    assert a == b
    assert a["metrics.jsonl"] != c["metrics.jsonl"]


def test_the_best_epoch_is_the_model_where_validation_chooses(tmp_path: Path) -> None:
    script = {1: 0.2, 2: 0.9, 3: 0.9}  # the first of equals
    settings = classifier_settings()
    weights: dict[int, dict[str, Tensor]] = {}

    def run(path: Path, select: str | None, stop: int | None = None) -> Task:
        on = engine()

        def evaluate(epoch: int) -> dict[str, float]:
            weights[epoch] = copy.deepcopy(task.module.state_dict())
            return {"val_top1": script[epoch]}

        task = classifier(settings, on, evaluate=evaluate, select=select)
        if stop is not None:
            task.step = at_step(stop, task.step, terminate)
        train(task, settings, on, run_folder(path), seed=SEED)
        return task

    exact = {"rtol": 0, "atol": 0}
    best = run(tmp_path / "best", "val_top1")
    assert not torch.equal(weights[2]["head.weight"], weights[3]["head.weight"])
    torch.testing.assert_close(dict(best.module.state_dict()), dict(weights[2]), **exact)

    last = run(tmp_path / "last", None)
    torch.testing.assert_close(dict(last.module.state_dict()), dict(weights[3]), **exact)

    # The best epoch's weights survive a stop after it.
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", "val_top1", stop=10)
    resumed = run(tmp_path / "stopped", "val_top1")
    torch.testing.assert_close(dict(resumed.module.state_dict()), dict(weights[2]), **exact)


def test_validation_leaves_training_as_if_it_had_not_been(tmp_path: Path) -> None:
    settings = classifier_settings()
    looks = 0

    def evaluate(epoch: int) -> dict[str, float]:
        nonlocal looks
        looks += 1
        torch.randn(7)  # and other draws between epochs change nothing either
        found = validate(task.module, images(count=7), Normalisation(MEAN, STD), on)
        assert task.module.training
        return found

    on = engine()
    task = classifier(settings, on, evaluate=evaluate)
    train(task, settings, on, run_folder(tmp_path / "looked"), seed=SEED)
    complete(classifier, settings, tmp_path / "blind")
    assert looks == EPOCHS
    looked, blind = left_by(tmp_path / "looked"), left_by(tmp_path / "blind")
    for name in (f"step-{STEPS:08d}/model.safetensors", f"step-{STEPS:08d}/optimizer.safetensors"):
        assert looked[name] == blind[name]
    assert b"val_top1" in looked["metrics.jsonl"]


def test_the_logged_figures_are_means_over_the_epoch(tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)
    losses, inner = [], task.step

    def note(module: Any, batch: Any) -> Any:
        loss, scalars = inner(module, batch)
        losses.append(float(loss.detach()))
        assert batch.epoch == (len(losses) - 1) // STEPS_PER_EPOCH
        assert len(batch.images) == BATCH
        return loss, scalars

    task.step = note
    train(task, settings, on, run_folder(tmp_path), seed=SEED)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for epoch, row in enumerate(rows):
        mine = losses[epoch * STEPS_PER_EPOCH : (epoch + 1) * STEPS_PER_EPOCH]
        assert row["loss"] == pytest.approx(sum(mine) / len(mine), rel=1e-6)
    assert rows[-1]["lr"] < rows[0]["lr"]


def test_measuring_an_epoch_changes_nothing() -> None:
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)
    before = copy.deepcopy(dict(task.module.state_dict()))
    assert seconds_per_epoch(task, settings, on) > 0
    torch.testing.assert_close(dict(task.module.state_dict()), before, rtol=0, atol=0)


def test_a_batch_is_no_larger_than_the_images() -> None:
    on = engine()
    settings = simclr_settings()
    task = simclr(settings, on)
    assert batch_size_of(task, settings, on) == BATCH
    assert batch_size_of(task, settings.model_copy(update={"batch_size": 500}), on) == IMAGES
    task.batches = Batches(images(labelled=False, count=1), on.device)
    with pytest.raises(DataError, match="1 training images on 1 processes"):
        batch_size_of(task, settings, on)


def test_views_grow_from_the_first_size_to_the_last() -> None:
    settings = simclr_settings(first_view_size=8, view_size=16)
    sizes = [view_size_at(settings, 32, progress) for progress in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert sizes == [8, 8, 12, 16, 16]
    assert view_size_at(simclr_settings(), 32, 0.0) == 32
    assert view_size_at(simclr_settings(first_view_size=9, view_size=9), 32, 0.3) == 9
    odd = simclr_settings(first_view_size=9, view_size=18)
    assert [view_size_at(odd, 32, progress) for progress in (0.0, 0.1, 0.5, 0.95, 1.0)] == [9, 9, 12, 16, 18]
    with pytest.raises(SettingsError, match="--first-view-size 40 is above the 32 pixels"):
        view_size_at(simclr_settings(first_view_size=40), 32, 0.0)


def test_a_single_epoch_is_the_last() -> None:
    assert [progress_at(epoch, 5) for epoch in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert progress_at(0, 1) == 1


def test_training_sees_views_of_each_size(tmp_path: Path) -> None:
    seen: list[int] = []
    on = engine()
    settings = simclr_settings(first_view_size=8, view_size=16)
    task = simclr(settings, on)
    task.module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-1]))
    train(task, settings, on, run_folder(tmp_path), seed=SEED)
    assert seen == [8] * STEPS_PER_EPOCH + [12] * STEPS_PER_EPOCH + [16] * STEPS_PER_EPOCH
