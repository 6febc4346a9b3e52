"""Epochs here take milliseconds: each is saved, as one of more than ten seconds would be."""

from __future__ import annotations

import pytest

from twoviews.trainers import save_times


@pytest.fixture(autouse=True)
def _each_epoch_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save_times, "EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(save_times, "SAVE_PAUSE", 0.0)
