"""A disk that fails at any call of a run: the run ends loudly, and the same command finishes it with the same bits."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from small_tasks import SEED, classifier, classifier_settings, engine, run_folder
from test_train import left_by

from twoviews import disk
from twoviews.errors import ResourceError
from twoviews.trainers.train import train

SETTINGS = classifier_settings().model_copy(update={"epochs": 2})


def complete(path: Path) -> None:
    on = engine()
    train(classifier(SETTINGS, on), SETTINGS, on, run_folder(path), seed=SEED)


def calls_of_a_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    count = 0

    def before(name: str, where: Path) -> None:
        nonlocal count
        count += 1

    with monkeypatch.context() as patch:
        patch.setattr(disk, "before", before)
        complete(path)
    return count


def fails_from(call: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full from that call on; then there is room again, and the same run is started anew."""
    made = 0

    def before(name: str, where: Path) -> None:
        nonlocal made
        made += 1
        if made > call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(where))

    with monkeypatch.context() as patch:
        patch.setattr(disk, "before", before)
        patch.setattr(disk, "pause", lambda seconds: None)
        with pytest.raises(ResourceError, match="No space left"):
            complete(path)
    complete(path)


@pytest.mark.parametrize(
    "every", [pytest.param(9, id="some calls"), pytest.param(1, id="each call", marks=pytest.mark.slow)]
)
def test_a_full_disk_ends_a_run_that_then_goes_on_bit_for_bit(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = calls_of_a_run(tmp_path / "whole", monkeypatch)
    assert count > 40
    for call in range(0, count, every):
        path = tmp_path / str(call)
        fails_from(call, path, monkeypatch)
        assert left_by(path) == left_by(tmp_path / "whole"), call
        kept = [sorted(p.name for p in (run / "checkpoints").glob("[!.]*")) for run in (path, tmp_path / "whole")]
        assert kept[0] == kept[1], call
