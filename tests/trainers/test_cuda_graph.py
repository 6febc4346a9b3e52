"""Steps that are recorded and played back: the bits of steps that are computed.

Without a GPU a stand-in for torch's CUDA graphs does what one does: what is recorded leaves no trace, and playing it
back computes on the memory that was recorded and leaves its results in the memory that was recorded. With a GPU the
same trainings run through real graphs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tasks import EPOCHS, SEED, classifier, classifier_settings, engine, run_folder, simclr, simclr_settings
from torch import Tensor, nn

from twoviews.settings import RunSettings
from twoviews.trainers import memory, stepper
from twoviews.trainers.chunks import ChunkedStep
from twoviews.trainers.cuda_graph import Recording, record
from twoviews.trainers.engine import Engine
from twoviews.trainers.optimizer import build_optimizer
from twoviews.trainers.steps import SimCLRStep
from twoviews.trainers.task import Task
from twoviews.trainers.train import train

TASKS = {"pretrain": (simclr, simclr_settings), "classifier": (classifier, classifier_settings)}


class StandIn:
    """A CUDA graph without a GPU."""

    recording: Recording
    work: Callable[[Any], Any]
    played = 0

    def replay(self) -> None:
        """Compute on the recorded memory, and write over what was recorded."""
        self.played += 1
        to = self.recording
        scalars, norm = self.work(to.batch)
        for key, value in scalars.items():
            to.scalars[key].copy_(value)
        if to.norm is not None:
            to.norm.copy_(norm)
        for parameter, gradient in to.gradients:
            gradient.copy_(parameter.grad)  # type: ignore[arg-type]
            parameter.grad = gradient


def stand_in(monkeypatch: pytest.MonkeyPatch, module: nn.Module) -> list[StandIn]:
    """Have steps of this module recorded without a GPU; the graphs, in turn."""
    graphs: list[StandIn] = []

    def recording(work: Any, batch: Any, parameters: list[nn.Parameter]) -> Recording | None:
        kept = copy.deepcopy(module.state_dict())

        @contextmanager
        def capture(graph: StandIn, **_: Any) -> Iterator[None]:
            graph.work = work
            yield
            module.load_state_dict(kept)

        monkeypatch.setattr(torch.cuda, "graph", capture)
        made = record(work, batch, parameters)
        assert made is not None
        graphs[-1].recording = made
        return made

    def graph() -> StandIn:
        graphs.append(StandIn())
        return graphs[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(stepper, "record", recording)
    return graphs


def trained(task: Task, settings: Any, on: Engine, folder: Path) -> tuple[dict[str, Tensor], str]:
    """Weights and metrics at the end of a training."""
    train(task, settings, on, run_folder(folder), seed=SEED)
    return task.module.state_dict(), (folder / "metrics.jsonl").read_text()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("changes", [{}, {"clip_grad_norm": 0.5}, {"first_view_size": 8, "view_size": 16}], ids=str)
def test_steps_played_back_end_with_the_bits_of_steps_computed(
    kind: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, settings_of = TASKS[kind]
    on, settings = engine(), settings_of(**changes)
    expected = trained(make(settings, on), settings, on, tmp_path / "computed")
    task = make(settings, on)
    on.can_record = True
    graphs = stand_in(monkeypatch, task.module)
    found = trained(task, settings, on, tmp_path / "played")
    assert same(found[0], expected[0])
    assert found[1] == expected[1]
    steps = EPOCHS * 4
    kinds = EPOCHS if "view_size" in changes else 1  # 8, 12 and 16 pixels
    assert len(graphs) == kinds
    assert sum(graph.played for graph in graphs) == steps - 2 * kinds, "two steps of a kind are computed first"


def test_what_fits_is_measured_with_the_recording_that_training_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)
    on.can_record = True
    graphs = stand_in(monkeypatch, task.module)
    trial = memory._Trial(task, settings, on)
    assert trial.fits(4, task.step)
    assert [graph.played for graph in graphs] == [1]
    assert isinstance(task.step, SimCLRStep)
    assert trial.fits(4, ChunkedStep(task.step, 2))
    assert len(graphs) == 1


def test_a_recording_can_be_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)
    on.can_record = True
    graphs = stand_in(monkeypatch, task.module)
    steps = stepper.Stepper(task, build_optimizer(task.module, settings), settings, on)
    batch = stepper.Batch(*task.batches.get(torch.arange(4)), 0, 1.0)
    for recordings in (1, 2):
        for step in range(3):
            steps.step(batch, step)
        assert len(graphs) == recordings
        steps.let_go()
        assert all(parameter.grad is None for parameter in task.module.parameters())


def refuse_to_record(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refuses(graph: Any, **_: Any) -> Iterator[None]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", refuses)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


@pytest.mark.filterwarnings("ignore")
def test_that_none_can_be_recorded_is_said_once_while_what_fits_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)
    on.can_record = True
    refuse_to_record(monkeypatch)
    trial = memory._Trial(task, settings, on)
    assert trial.fits(4, task.step)
    assert trial.fits(6, task.step)
    assert capsys.readouterr().out.count("can't be recorded") == 1


@pytest.mark.filterwarnings("ignore")
def test_a_step_that_cannot_be_recorded_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on, settings = engine(), simclr_settings()
    expected = trained(simclr(settings, on), settings, on, tmp_path / "computed")
    refuse_to_record(monkeypatch)
    on.can_record = True
    found = trained(simclr(settings, on), settings, on, tmp_path / "refused")
    assert same(found[0], expected[0])
    assert capsys.readouterr().out.count("can't be recorded") == 1


def test_memory_that_does_not_suffice_for_a_recording_is_no_reason_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def exhausted(graph: Any, **_: Any) -> Iterator[None]:
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", exhausted)
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)
    images, rows, labels = task.batches.get(torch.arange(4))
    with pytest.raises(torch.OutOfMemoryError):
        record(lambda batch: ({}, None), stepper.Batch(images, rows, labels, 0, 1.0), [])


def test_chunks_are_computed(tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings(chunk_size=2)
    task = simclr(settings, on)
    task = replace(task, step=ChunkedStep(task.step, 2))  # type: ignore[arg-type]
    on.can_record = True  # recording would fail: there is no GPU and no stand-in
    train(task, settings, on, run_folder(tmp_path), seed=SEED)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_a_gpu_too(kind: str, precision: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, settings_of = TASKS[kind]
    results = []
    for graphs in (False, True):
        settings = settings_of(first_view_size=8, view_size=16, cuda_graphs=graphs)
        on = Engine(RunSettings(device="cuda", precision=precision, deterministic=True))
        results.append(trained(make(settings, on), settings, on, tmp_path / str(graphs)))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert "can't be recorded" not in capsys.readouterr().out
