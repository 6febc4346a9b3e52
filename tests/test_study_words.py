"""What a study says beside its numbers: that it was complete already, and what it had found."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twoviews import run_study as module
from twoviews.files import write_json
from twoviews.settings import StudyCommand
from twoviews.stages.check import SHOWN, _some
from twoviews.stages.study_words import say_found

RESULTS = {
    "seeds": [0],
    "models": {"supervised": {"test_top1": 0.5}, "finetuned": {"test_top1": 0.6}},
    "comparison": {"finetuned_minus_supervised": {"points": 10.0, "ci95": [5.0, 15.0], "mcnemar_p": 0.001}},
}


def test_the_verdict_and_the_page_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "results.json", RESULTS)
    say_found(tmp_path, tmp_path / "report.html")
    said = capsys.readouterr().out
    assert said.startswith("\nPretraining helped in this run: ")
    assert said.endswith(f"\nreport: {tmp_path / 'report.html'}\n")


@pytest.mark.parametrize("finished", [True, False])
def test_a_study_that_was_complete_repeats_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    """Without work: nothing is computed or drawn. A study that has just said it does not say it twice."""
    write_json(tmp_path / "results.json", RESULTS)
    (tmp_path / "report.html").touch()
    splits = SimpleNamespace(open_test=lambda: None)
    shared = SimpleNamespace(splits=splits, engine=SimpleNamespace(is_first=True))
    worked: list[Any] = []

    def in_run_folder(command: str, settings: Any, shared: Any, work: Any, when_finished: Any) -> Path:
        if finished:
            when_finished(tmp_path)
        else:
            work(None)
        return tmp_path

    monkeypatch.setattr(module, "prepare_seeds", lambda settings: [shared])
    monkeypatch.setattr(module, "in_run_folder", in_run_folder)
    monkeypatch.setattr(module, "_study", lambda *given: worked.append(given))
    assert module.run_study(StudyCommand()) == tmp_path
    assert len(worked) == (not finished)
    assert ("Pretraining helped in this run: " in capsys.readouterr().out) == finished


def test_of_a_study_that_was_stopped_before_its_page_the_page_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(module, "_report", drawn.append)
    module._say_again(tmp_path)
    assert drawn == [tmp_path]


def test_one_more_is_shown_rather_than_counted() -> None:
    lines = [str(number) for number in range(SHOWN + 2)]
    assert _some(lines[: SHOWN + 1]) == [f"  {line}" for line in lines[: SHOWN + 1]]
    assert _some(lines) == [*(f"  {line}" for line in lines[:SHOWN]), "  and 2 more"]
