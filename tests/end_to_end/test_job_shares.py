"""What each process of ``study --jobs`` finds of GPUs."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from twoviews.settings import StudyCommand
from twoviews.stages.job_shares import at_full_speed, environment_of, share_of

GPUS = "CUDA_VISIBLE_DEVICES"
ENGINE: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"), threads=8, precision="bf16")


@pytest.mark.parametrize(
    ("visible", "count", "given"),
    [
        (None, 2, ["0", "1", "0"]),
        ("3", 1, ["3", "3", "3"]),
        ("2, 5", 2, ["2", "5", "2"]),
        ("4,-1,1", 1, ["4", "4", "4"]),
        ("GPU-8f3a,GPU-91bc", 2, ["GPU-8f3a", "GPU-91bc", "GPU-8f3a"]),
        ("MIG-8f3a,MIG-91bc", 1, ["MIG-8f3a", "MIG-91bc", "MIG-8f3a"]),
    ],
)
def test_each_process_sees_one_gpu_that_cuda_finds(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, given: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv(GPUS, raising=False)
    if visible is not None:
        monkeypatch.setenv(GPUS, visible)
    found = []
    for number in range(3):
        with environment_of(number, 2, ENGINE):
            found.append(os.environ[GPUS])
    assert found == given
    assert os.environ.get(GPUS) == visible


@pytest.mark.parametrize(("named", "variable"), [("1,3", "HIP_VISIBLE_DEVICES"), (None, GPUS)])
def test_on_amd_s_gpus_the_variable_that_comes_first_is_the_one_set(
    monkeypatch: pytest.MonkeyPatch, named: str | None, variable: str
) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv(GPUS, "1,3")
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("HIP_VISIBLE_DEVICES", named)
    with environment_of(1, 2, ENGINE):
        assert os.environ[variable] == "3"
    assert os.environ[GPUS] == "1,3"


def test_parts_compute_as_the_study_whatever_gpu_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = StudyCommand(jobs=4)
    assert share_of(settings, ENGINE) == {"threads": 2, "device": "cuda", "precision": "bf16"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert at_full_speed(settings, ENGINE) == 3


def test_there_is_one_gpu_behind_mps() -> None:
    engine: Any = SimpleNamespace(device=SimpleNamespace(type="mps"), threads=8)
    assert at_full_speed(StudyCommand(jobs=4), engine) == 1
