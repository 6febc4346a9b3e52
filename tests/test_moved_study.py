"""A study that was moved, or looked at from elsewhere, finds its own backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from twoviews.errors import CheckpointError
from twoviews.stages.folders import checked_backbone


def study(root: Path, written_as: Path) -> Path:
    """A study with a pretraining, and with the feature check of a label budget as it was written at another place."""
    (root / "pretrain/models").mkdir(parents=True)
    (root / "pretrain/models/backbone.safetensors").write_text("weights")
    checked = root / "labels-10/features"
    checked.mkdir(parents=True)
    places = {"run": str(written_as / "pretrain"), "out": str(written_as / "labels-10/features")}
    (checked / "settings.yaml").write_text(yaml.safe_dump(places))
    return checked


def test_of_a_moved_study_the_backbone_is_its_own(tmp_path: Path) -> None:
    old, new = tmp_path / "output/study-photos", tmp_path / "kept/first"
    checked = study(new, old)
    assert checked_backbone(checked).samefile(new / "pretrain/models/backbone.safetensors")
    study(old, old)  # another study where it lay
    assert checked_backbone(checked).samefile(new / "pretrain/models/backbone.safetensors")


def test_from_another_working_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = study(tmp_path / "output/study-photos", Path("output/study-photos"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert checked_backbone(checked).samefile(tmp_path / "output/study-photos/pretrain/models/backbone.safetensors")


def test_a_check_of_a_pretraining_elsewhere_is_where_its_settings_say(tmp_path: Path) -> None:
    study(tmp_path / "far/study", tmp_path / "far/study")
    checked = tmp_path / "output/features"
    checked.mkdir(parents=True)
    places = {"run": str(tmp_path / "far/study/pretrain"), "out": None}
    (checked / "settings.yaml").write_text(yaml.safe_dump(places))
    assert checked_backbone(checked) == tmp_path / "far/study/pretrain/models/backbone.safetensors"


def test_a_check_of_a_weights_file_is_of_that_file(tmp_path: Path) -> None:
    checked, weights = tmp_path / "output/features-photos", tmp_path / "weights.safetensors"
    checked.mkdir(parents=True)

    def given(init: str) -> Path:
        (checked / "settings.yaml").write_text(yaml.safe_dump({"run": None, "init": init, "out": None}))
        return checked

    weights.write_text("weights")
    assert checked_backbone(given(str(weights))) == weights
    weights.unlink()
    for init, said in ((str(weights), "is not there any more"), ("timm", "timm's own weights")):
        with pytest.raises(CheckpointError, match=said):
            checked_backbone(given(init))
