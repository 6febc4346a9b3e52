"""Out of memory: the real measuring, on a memory that is pretended to hold so many views at a time."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tasks import (
    MEAN,
    SEED,
    STD,
    classifier,
    classifier_settings,
    engine,
    images,
    run_folder,
    simclr,
    simclr_settings,
)
from torch import nn

from twoviews.dataset.batches import Batches
from twoviews.errors import ResourceError
from twoviews.settings import PretrainCommand, StudyCommand, stage_settings
from twoviews.trainers import memory, validate
from twoviews.trainers.chunks import ChunkedStep
from twoviews.trainers.engine import Engine
from twoviews.trainers.estimate import seconds_per_epoch
from twoviews.trainers.memory import EXACTNESS, _largest
from twoviews.trainers.out_of_memory import is_out_of_memory
from twoviews.trainers.task import Task
from twoviews.trainers.train import train
from twoviews.trainers.validate import Normalisation, forward_all

IMAGES, SIZE = 64, 60
# As torch says it on a CPU.
REFUSED = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "3276800000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.fixture(autouse=True)
def _collected_quickly() -> Iterator[None]:
    """Measuring collects garbage at every try: what the tests have loaded is none."""
    gc.freeze()
    yield
    gc.unfreeze()


def with_memory_for(task: Task, inputs: int, error: BaseException | None = None) -> list[int]:
    """A task whose network takes so many pictures at a time; returns what it was asked for."""
    asked: list[int] = []

    def refuse(module: Any, arguments: Any) -> None:
        asked.append(len(arguments[0]))
        if len(arguments[0]) > inputs:
            raise error or RuntimeError(REFUSED)

    # What is measured is the step; the network may be as small as one can be.
    torch.manual_seed(0)
    task.module = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 8))
    task.batches = Batches(images(labelled=task.name != "pretrain", count=IMAGES), task.batches.device)
    task.module.register_forward_pre_hook(refuse)
    return asked


def fitting(said: str, flag: str) -> int:
    return int(said.split(f"{flag} ")[1].rstrip(".").split(",")[0])


def test_pretraining_says_what_fits_and_changes_no_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on, settings = engine(), simclr_settings().model_copy(update={"batch_size": SIZE})
    task = simclr(settings, on)
    asked = with_memory_for(task, 2 * 21)
    before = {name: p.detach().clone() for name, p in task.module.named_parameters()}
    with pytest.raises(ResourceError, match=r"^pretrain: a batch of 60 images does not fit in memory; ") as error:
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
    said = str(error.value)
    assert error.value.exit_code == 6
    assert "\n" not in said
    found = fitting(said, "--batch-size")
    assert 20 <= found <= 21
    assert 2 * found in asked  # measured, not worked out
    assert f"{found} fit as measured" in said
    assert fitting(said, "--chunk-size") == 16
    assert asked[0] == 2 * SIZE
    assert "a batch of 60 images does not fit in memory: lower --batch-size. Measuring" in capsys.readouterr().out
    for name, p in task.module.named_parameters():
        torch.testing.assert_close(p.detach(), before[name], rtol=0, atol=0)
    assert not list((tmp_path / "checkpoints").glob("*"))
    # What it advises holds.
    advised = settings.model_copy(update={"batch_size": found})
    train(task, advised, on, run_folder(tmp_path / "smaller"), seed=SEED)
    task.step = ChunkedStep(task.step, 16)  # type: ignore[arg-type]
    train(task, settings, on, run_folder(tmp_path / "chunked"), seed=SEED)


def test_a_study_s_stage_names_the_study_s_flags(tmp_path: Path) -> None:
    on, study = engine(), StudyCommand()
    part = simclr_settings().model_copy(update={"batch_size": SIZE})
    settings = stage_settings(PretrainCommand, study, part)
    task = simclr(settings, on)
    with_memory_for(task, 2 * 21)
    with pytest.raises(ResourceError, match=r"use --pretrain.batch-size 2\d, or .* with --pretrain.chunk-size 16\.$"):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)


def test_the_estimate_before_training_says_the_same() -> None:
    on, settings = engine(), classifier_settings().model_copy(update={"batch_size": 40})
    task = classifier(settings, on)
    with_memory_for(task, 13)
    expected = r"^supervised: a batch of 40 images .*; (12|13) fit .* --batch-size (12|13)\.$"
    with pytest.raises(ResourceError, match=expected):
        seconds_per_epoch(task, settings, on)


def test_chunks_that_do_not_fit_get_a_smaller_chunk(tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings().model_copy(update={"batch_size": SIZE, "chunk_size": 48})
    task = simclr(settings, on)
    task.step = ChunkedStep(task.step, 48)  # type: ignore[arg-type]
    with_memory_for(task, 2 * 10)
    expected = r"in chunks of 48; chunks of (9|10|11) fit as measured: use --chunk-size (9|10|11)\.$"
    with pytest.raises(ResourceError, match=expected):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)


def test_where_nothing_fits_it_says_so(tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings().model_copy(update={"batch_size": SIZE})
    task = simclr(settings, on)
    with_memory_for(task, 3, MemoryError())
    with pytest.raises(ResourceError, match="does not fit in memory, and neither do 2: use a smaller --backbone"):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)


def test_views_that_grow_are_measured_at_their_largest(tmp_path: Path) -> None:
    on = engine()
    settings = simclr_settings(first_view_size=8, view_size=16).model_copy(update={"batch_size": SIZE})
    task = simclr(settings, on)
    with_memory_for(task, 2 * 21)
    seen: set[int] = set()
    task.module.register_forward_pre_hook(lambda module, inputs: seen.add(inputs[0].shape[-1]))
    with pytest.raises(ResourceError):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
    assert seen == {16}


@pytest.mark.parametrize(
    ("inputs", "error"),
    [(10, "mat1 and mat2 shapes cannot be multiplied"), (0, "could not create a primitive")],  # whatever the batch
)
def test_other_errors_stay_what_they_are(inputs: int, error: str, tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings().model_copy(update={"batch_size": SIZE})
    task = simclr(settings, on)
    with_memory_for(task, inputs, RuntimeError(error))
    with pytest.raises(RuntimeError, match=error):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)


@pytest.mark.parametrize(
    "error",
    ["could not create a primitive", "GET was unable to find an engine to execute this computation"],  # oneDNN, cuDNN
)
def test_a_doubtful_error_is_memory_if_a_smaller_batch_works(error: str, tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings().model_copy(update={"batch_size": SIZE})
    task = simclr(settings, on)
    with_memory_for(task, 2 * 21, RuntimeError(error))
    with pytest.raises(ResourceError, match=r"(20|21) fit as measured"):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        ("GET was unable to find an engine to execute this computation", RuntimeError, "unable to find an engine"),
        ("CUDA out of memory", ResourceError, "over 2 processes: use a smaller --batch-size"),
    ],
)
def test_over_several_processes_a_doubtful_error_stays_what_it_is(
    error: str, raised: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be measured there."""
    on, settings = engine(), simclr_settings().model_copy(update={"batch_size": SIZE})
    task = simclr(settings, on)
    with_memory_for(task, 2 * 21, RuntimeError(error))
    refused = memory._what_fits
    monkeypatch.setattr(memory, "_what_fits", lambda *given: _as_two_processes(on) or refused(*given))
    with pytest.raises(raised, match=said):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)


def _as_two_processes(on: Engine) -> None:
    on.world_size = 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (RuntimeError(REFUSED), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("expected scalar type Float but found BFloat16"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_a_failed_allocation(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
    assert is_out_of_memory(error, surely=True) is expected


def test_what_may_be_a_failed_allocation_is_not_surely_one() -> None:
    error = RuntimeError("could not create a primitive")
    assert is_out_of_memory(error)
    assert not is_out_of_memory(error, surely=True)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 31, 32, 33, 100, 511, 1536, 2047])
def test_the_largest_that_fits(limit: int) -> None:
    tried: list[int] = []

    def fits(count: int) -> bool:
        tried.append(count)
        return count <= limit

    found = _largest(fits, 2048)
    assert found <= limit
    assert found == 0 if limit < 2 else found >= limit - max(1, limit // EXACTNESS)
    assert found == 0 or found in tried
    assert len(tried) <= 17
    assert min(tried) >= 2


class _Short(nn.Module):
    """A network that memory is too short for, above so many images at a time."""

    def __init__(self, images: int, error: BaseException) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(8)).eval()
        self.images, self.error = images, error
        self.asked: list[int] = []
        self.held: weakref.ref[torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.held is None or self.held() is None  # what a failed call had is free before the next
        self.asked.append(len(x))
        hidden = self.inner[0](x)
        if len(x) > self.images:
            self.held = weakref.ref(hidden)
            raise self.error
        found: torch.Tensor = self.inner[1:](hidden)
        return found


def evaluated(module: nn.Module, on: Engine) -> torch.Tensor:
    shown = Batches(images(labelled=False, count=IMAGES), on.device)
    return torch.from_numpy(forward_all(module, shown, Normalisation(MEAN, STD), on))


@pytest.mark.parametrize(
    "error",
    [RuntimeError(REFUSED), MemoryError(), RuntimeError("could not create a primitive"), torch.OutOfMemoryError()],
)
@pytest.mark.parametrize("mode", [True, False])
def test_an_evaluation_takes_fewer_images_at_a_time_where_memory_is_short(
    error: BaseException, mode: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    on, module = engine(), _Short(IMAGES, error)
    expected = evaluated(module, on)
    module.images = 21
    module.asked.clear()
    torch.testing.assert_close(evaluated(module.train(mode), on), expected)
    assert module.asked == [64, 32, 16, 16, 16, 16]
    assert module.training == mode
    said = capsys.readouterr().out
    assert "evaluation: 64 images at a time do not fit in memory: 32 are taken" in said
    assert "evaluation: 32 images at a time do not fit in memory: 16 are taken" in said
    # What was found is kept to, and not said again.
    module.asked.clear()
    evaluated(module, on)
    assert module.asked == [16] * 4
    assert "evaluation" not in capsys.readouterr().out


def test_a_later_failure_goes_on_where_it_was() -> None:
    on, module = engine(), _Short(IMAGES, MemoryError())
    expected = evaluated(module, on)
    validate._FITTING[on] = 16
    module.asked.clear()
    module.register_forward_pre_hook(lambda m, x: setattr(m, "images", 8 if len(m.asked) == 2 else IMAGES))
    torch.testing.assert_close(evaluated(module, on), expected)
    assert module.asked == [16, 16, 16, 8, 8, 8, 8]


@pytest.mark.parametrize("error", [RuntimeError(REFUSED), ValueError("something else"), RuntimeError("another shape")])
def test_an_evaluation_that_can_not_be_done_says_why(error: BaseException) -> None:
    on, module = engine(), _Short(0, error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        evaluated(module.train(), on)
    assert module.training
    assert len(module.asked) == (7 if str(error) == REFUSED else 1)


def test_an_evaluation_s_memory_is_not_the_batch_s_fault(tmp_path: Path) -> None:
    on, settings = engine(), simclr_settings()
    task = simclr(settings, on)

    def refuse(epoch: int) -> dict[str, float]:
        raise MemoryError("Unable to allocate 9 GiB")

    task.evaluate = refuse
    with pytest.raises(
        ResourceError, match=r"pretrain: too little memory for the evaluation after epoch 1 \(Unable to"
    ):
        train(task, settings, on, run_folder(tmp_path), seed=SEED)
