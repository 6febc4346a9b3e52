"""What of a run's settings may differ when it is started again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twoviews.settings import FinetuneCommand, PretrainCommand, StudyCommand
from twoviews.trainers.settings_file import FREE, differences


def saved(settings: Any) -> dict[str, Any]:
    return dict(settings.model_dump(mode="json"))


def test_what_a_newer_version_added_is_at_its_default() -> None:
    before = saved(PretrainCommand())
    for key in ("fork", "drop_near", "first_view_size"):
        del before[key]
    assert differences(PretrainCommand(), before) == {}
    assert differences(PretrainCommand(drop_near=True), before) == {"drop_near": "drop_near: False there, True now"}


def test_what_an_older_version_had_is_a_difference() -> None:
    before = {**saved(PretrainCommand()), "gone": 3}
    assert differences(PretrainCommand(), before) == {"gone": "gone: 3 there, None now"}


def test_a_run_that_lies_beside_it_may_be_moved_with_it() -> None:
    before = saved(FinetuneCommand(out=Path("output/study/finetune"), run=Path("output/study/pretrain")))
    moved = FinetuneCommand(out=Path("/archive/study/finetune"), run=Path("/archive/study/pretrain"))
    assert differences(moved, before) == {}
    spelled = FinetuneCommand(out=Path("./output/study/finetune"), run=Path("output/../output/study/pretrain"))
    assert differences(spelled, before) == {}
    other = FinetuneCommand(out=Path("output/study/finetune"), run=Path("output/study/pretrain-2"))
    assert differences(other, before) == {"run": "run: output/study/pretrain there, output/study/pretrain-2 now"}


CHANGED = {
    int: lambda value: value + 1,
    float: lambda value: value / 2 + 0.01,
    bool: lambda value: not value,
    str: lambda value: f"{value}x",
}


@pytest.mark.parametrize("name", PretrainCommand.model_fields)
def test_every_other_setting_is_compared(name: str) -> None:
    """With a reason for each that is not; a setting that is added later is compared until someone gives one."""
    now = PretrainCommand()
    value = getattr(now, name)
    other = CHANGED[type(value)](value) if type(value) in CHANGED else "another"
    changed = differences(now, {**saved(now), name: other})
    assert (name in changed) == (name not in FREE)


def test_a_study_s_groups_are_compared_by_the_same_rule() -> None:
    before = saved(StudyCommand())
    before["pretrain"]["checkpoint_minutes"] = 1.0
    assert differences(StudyCommand(), before) == {}
    before["pretrain"]["temperature"] = 0.5
    assert list(differences(StudyCommand(), before)) == ["pretrain.temperature"]
