"""What a study expects of its time: every training counts, each at its own speed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twoviews.settings import StudyCommand
from twoviews.stages import job_shares, study_plan
from twoviews.stages.comparison import Comparison
from twoviews.stages.setup import Shared, load_splits
from twoviews.stages.study_layout import Layout
from twoviews.trainers.engine import Engine
from twoviews.trainers.run_folder import RunFolder

ABOUT = r"about (?:(\d+):)?(\d+):(\d\d) for"
SMALL = {"backbone": "resnet18_w16", "image_size": 32, "device": "cpu", "threads": 1}


def timed(task: Any, part: Any, engine: Engine) -> float:
    """100 seconds an epoch of pretraining; 8 of labelled training, 2 with a frozen backbone."""
    if task.name == "pretrain":
        return 100.0
    return 8.0 if all(weight.requires_grad for weight in task.module.backbone.parameters()) else 2.0


@pytest.fixture
def planned(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(study_plan, "seconds_per_epoch", timed)
    monkeypatch.setattr(job_shares, "usable_cpus", lambda: 4)

    def plan(capsys: pytest.CaptureFixture[str], **changes: Any) -> tuple[StudyCommand, float]:
        """The settings as planned, and the seconds that are announced."""
        epochs = {name: {"epochs": 4, "batch_size": 4} for name in ("supervised", "pretrain", "finetune")}
        epochs["finetune"] |= changes.pop("finetune", {})
        settings = StudyCommand.model_validate({**SMALL, "data": str(photos), **epochs, **changes})
        shared = Shared(Engine(settings), load_splits(settings, seed=0))
        whole = Comparison(tmp_path, 0, shared, tmp_path / "pretrain")
        quarter = replace(whole, folder=tmp_path / "labels", labels={"label_fraction": 0.25}, share=0.25)
        run = RunFolder(tmp_path)
        found = study_plan.fitted(settings, Layout([whole], [[quarter]], []), run)
        said = capsys.readouterr().out
        hours, minutes, seconds = re.search(ABOUT, said).groups()  # type: ignore[union-attr]
        has_room = settings.jobs == 1 and settings.threads in (None, 1, 2)  # of 4 processors
        assert ("with --jobs 2" in said) == has_room
        return found, int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)

    return plan


# A quarter of the labels has twice the epochs, so half of the images of all labels.
@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 400 + 1.5 * 4 * (8 + 8)),
        ({"finetune": {"freeze_backbone": True}}, 400 + 1.5 * 4 * (8 + 2)),
        ({"finetune": {"probe_start": True}}, 400 + 4 * (1.5 * 8 + 1.25 * 8)),
        ({"sgd_probe": True}, 400 + 1.5 * 4 * (8 + 8 + 2)),
        ({"with_imagenet": True}, 400 + 4 * (1.5 * 8 + 2.5 * 8)),
        ({"jobs": 2}, 400 + 1.5 * 4 * (8 + 8) / 2),
        ({"jobs": 4}, 400 + 4 * 8),  # as long as the longest of them
        ({"jobs": 4, "threads": 2}, 400 + 1.5 * 4 * (8 + 8) / 2),  # more threads than processors, which 2 parts fill
        ({"jobs": 4, "threads": 9}, 400 + 1.5 * 4 * (8 + 8)),
        ({"threads": 3}, 400 + 1.5 * 4 * (8 + 8)),
    ],
)
def test_every_training_is_in_the_estimate_at_its_own_speed(
    planned: Any, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], seconds: float
) -> None:
    found, told = planned(capsys, **changes)
    assert told == seconds
    assert found.finetune.epochs == 4


def test_minutes_lower_pretraining_to_what_is_left(planned: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found, told = planned(capsys, minutes=6)
    assert (found.supervised.epochs, found.pretrain.epochs, found.finetune.epochs) == (4, 2, 4)
    assert told == 200 + 1.5 * 4 * 16 <= 6 * 60
