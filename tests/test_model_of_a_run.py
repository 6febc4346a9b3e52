"""What ``twoviews test RUN`` calls the model of a run that is tested on its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from twoviews.settings import FinetuneCommand, SupervisedCommand
from twoviews.stages.test import _model_of
from twoviews.trainers.settings_file import dump_settings


@pytest.mark.parametrize("name", ["supervised-photos", "finetune-photos", "mine"])
def test_a_model_is_called_after_its_training_and_not_after_its_folder(tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    run.mkdir()
    for settings, model in (
        (SupervisedCommand(data="sample"), "supervised"),
        (FinetuneCommand(data="sample", run="output/pretrain-sample"), "finetuned"),
        (FinetuneCommand(data="sample", init="weights.pth"), "finetuned"),
    ):
        (run / "settings.yaml").write_text(dump_settings(settings))
        assert _model_of(run) == model


def test_without_settings_the_folder_s_name_says_it(tmp_path: Path) -> None:
    assert _model_of(tmp_path / "supervised-2") == "supervised"
    assert _model_of(tmp_path / "finetune") == "finetuned"
