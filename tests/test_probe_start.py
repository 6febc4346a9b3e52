"""`--probe-start` takes no probe that knows labels which the run must not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from twoviews.errors import SettingsError
from twoviews.settings import FeaturesCommand, FinetuneCommand
from twoviews.stages.classify import _require_same_labels
from twoviews.trainers.settings_file import dump_settings


def probe_of(folder: Path, **settings: object) -> Path:
    (folder / "settings.yaml").write_text(dump_settings(FeaturesCommand(**settings)))
    return folder


def test_a_probe_of_the_same_labels_will_do(tmp_path: Path) -> None:
    _require_same_labels(probe_of(tmp_path), FinetuneCommand(probe_start=True))
    _require_same_labels(probe_of(tmp_path, labels_per_class=5, seed=2), FinetuneCommand(labels_per_class=5, seed=2))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {"labels_per_class": 5}),
        ({"label_fraction": 0.5}, {"label_fraction": 0.1}),
        ({"fold": 1}, {"fold": 2}),
        ({"seed": 1}, {"seed": 2}),
        ({"val_fraction": 0.2}, {}),
    ],
)
def test_another_is_refused_by_name(theirs: dict[str, object], ours: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=next(iter({**theirs, **ours}))):
        _require_same_labels(probe_of(tmp_path, **theirs), FinetuneCommand(probe_start=True, **ours))
