"""``study --jobs``: parts at once, the same study in the end, and what comes of one that stops or dies."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import job_works
import pytest
from forked import Forked
from real_commands import FAST, STAGES, environment, twoviews
from test_interrupted import same_study, wait_for_rows

from twoviews.errors import CheckpointError, NumbersError, ResourceError, SettingsError, Stopped, TwoviewsError
from twoviews.settings import StudyCommand
from twoviews.stages import jobs, part_worker
from twoviews.stages.setup import load_splits
from twoviews.stages.study_parts import StudyPart, next_part
from twoviews.trainers.resume import DATA_INDEX, keep_fingerprint


def parts(root: Path, *names: str) -> list[StudyPart]:
    """Of comparisons of these names: their trainings, then their tests."""
    first = [StudyPart(root / name, (stage,), {stage: 1.0}) for name in names for stage in ("supervised", "finetune")]
    return [*first, *(StudyPart(root / name, ("test",), {}, is_last=True) for name in names)]


Run = Callable[..., dict[str, float]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(work: Any, *names: str, **settings: Any) -> dict[str, float]:
        """Seconds of each stage, as they were told."""
        monkeypatch.setattr(jobs, "work", work)
        engine: Any = SimpleNamespace(device=SimpleNamespace(type="cpu"), threads=7, world_size=1)
        spent: dict[str, float] = {}
        chosen = StudyCommand(jobs=2, **settings)

        def add(stage: str, seconds: float, done: bool) -> None:
            spent[stage] = seconds

        jobs.Jobs(parts(tmp_path, *names), chosen, tmp_path, engine, add).run()
        return spent

    return run


def test_a_test_waits_for_the_models_of_its_comparison() -> None:
    one, other = Path("one"), Path("other")
    trains, tunes, ends = (
        StudyPart(one, (stage,), {}, stage == "test") for stage in ("supervised", "finetune", "test")
    )
    elsewhere = StudyPart(other, ("supervised",), {})
    assert next_part([ends, tunes], [trains]) is tunes
    assert next_part([ends], [trains, tunes]) is None
    assert next_part([ends], [elsewhere]) is ends
    assert next_part([], [trains]) is None


@pytest.mark.parametrize(("settings", "threads"), [({}, "3"), ({"threads": 2}, "2")])
def test_every_part_is_done_once_with_its_share_of_the_processors(
    run: Run, tmp_path: Path, settings: dict[str, int], threads: str
) -> None:
    spent = run(job_works.writes, "a", "b", "c", **settings)
    found = {path.parent.relative_to(tmp_path).as_posix(): path.read_text().split() for path in tmp_path.rglob("found")}
    assert set(found) == {f"{name}/{stage}" for name in "abc" for stage in ("supervised", "finetune", "test")}
    assert spent == dict.fromkeys(found, 0.5)
    assert all(own == [threads, threads] for *own, _ in found.values())
    for name in "abc":
        assert max(found[f"{name}/{stage}"][2] for stage in ("supervised", "finetune")) < found[f"{name}/test"][2]


def test_a_process_that_still_loads_when_nothing_is_left_is_no_failure(run: Run) -> None:
    assert set(run(job_works.one_loads_for_ever, "a")) == {"a/supervised", "a/finetune", "a/test"}


def test_images_that_changed_since_the_study_began_are_refused(photos: Path, tmp_path: Path) -> None:
    settings = StudyCommand(data=str(photos), image_size=32, device="cpu", backbone="resnet18_w16", seed=1)
    worker: Any = SimpleNamespace(orders=list)
    keep_fingerprint(tmp_path, load_splits(settings, seed=1).fingerprint)
    part_worker._work(worker, settings, tmp_path)
    (tmp_path / DATA_INDEX).unlink()
    keep_fingerprint(tmp_path, load_splits(settings, seed=0).fingerprint)
    with pytest.raises(CheckpointError, match="the images are not those that the run began with"):
        part_worker._work(worker, settings, tmp_path)


def test_torchrun_and_jobs_are_not_both_taken() -> None:
    engine: Any = SimpleNamespace(world_size=2)
    with pytest.raises(SettingsError, match="--jobs 3 with 2 processes"):
        jobs.require_one_process(StudyCommand(jobs=3), engine)
    jobs.require_one_process(StudyCommand(), engine)


@pytest.mark.parametrize(
    ("work", "kind", "said", "code"),
    [
        (job_works.fails_at_the_first_test, NumbersError, "^[ab]: loss is not finite$", 5),
        (job_works.is_killed, ResourceError, r"killed \(signal 9\).*same command goes on", 6),
        (job_works.asks_its_parent_to_stop, Stopped, "^study: stopped.*same command goes on", 143),
        (job_works.is_told_to_stop_with_its_parent, Stopped, "^study: stopped.*same command goes on", 143),
        (job_works.can_not_save_when_stopped, ResourceError, "^[ab]: Could not write$", 6),
    ],
)
def test_what_ends_one_process_ends_the_study_in_order(
    run: Run, tmp_path: Path, work: Any, kind: type[TwoviewsError], said: str, code: int
) -> None:
    with pytest.raises(kind, match=said) as caught:
        run(work, "a", "b")
    assert caught.value.exit_code == code
    assert (tmp_path / "saved").exists() == (work is job_works.asks_its_parent_to_stop)


def test_where_a_process_can_not_be_started_those_before_it_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []

    class Job(jobs._Job):
        def __init__(self, number: int, *rest: Any, **named: Any) -> None:
            if number:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            super().__init__(number, *rest, **named)
            begun.append(self.process)

    monkeypatch.setattr(jobs, "_Job", Job)
    with pytest.raises(ResourceError, match=r"process 2 of --jobs 2 .*temporarily unavailable.*fewer --jobs"):
        run(job_works.writes, "a")
    assert [process.is_alive() for process in begun] == [False]


def test_what_is_missing_of_a_study_is_done_at_once_and_is_the_same(study: Path, photos: Path, tmp_path: Path) -> None:
    found = tmp_path / "output/study-photos"
    shutil.copytree(study, found)
    for stage in ("supervised", "finetune", "test"):
        shutil.rmtree(found / stage)
    for file in ("results.json", "report.html"):
        (found / file).unlink()
    done = twoviews("study", photos, *FAST, *STAGES, "--jobs", "2", cwd=tmp_path, light=True)
    assert done.returncode == 0, done.stderr
    same_study(study, found)
    assert "supervised epoch 3/3" in done.stdout
    assert "finetune: done in" in done.stdout


@pytest.mark.slow
def test_trials_at_once_choose_as_one_by_one(photos: Path, tmp_path: Path) -> None:
    found = []
    for count in ("1", "2"):
        words = [*FAST, *STAGES, "--tune", "3", "--seeds", "2", "--jobs", count, "--out", tmp_path / count]
        done = twoviews("study", photos, *words, cwd=tmp_path, light=True)
        assert done.returncode == 0, done.stderr
        assert "already complete" not in done.stdout
        results = json.loads((tmp_path / count / "results.json").read_text())
        found.append({key: value for key, value in results.items() if key not in ("speed", "seconds")})
    assert found[0]["tuning"]["trials"] == 3
    assert found[0] == found[1]
    assert "tune/finetune-2: finetune" in done.stdout


@pytest.mark.slow
def test_stopped_among_its_parts_it_goes_on_and_ends_as_one_of_one_process(
    study: Path, photos: Path, tmp_path: Path
) -> None:
    words = ["study", str(photos), *FAST, *STAGES, "--jobs", "2"]
    process = Forked(words, tmp_path, environment(), light=True)
    found = tmp_path / "output/study-photos"
    wait_for_rows(process, found / "finetune/metrics.jsonl", 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    said = process.said()
    assert "study: stopped; the same command goes on from what each part has saved" in said[1]
    assert "Traceback" not in said[1]
    assert not (found / "test").exists()
    done = twoviews(*words, cwd=tmp_path, light=True)
    assert done.returncode == 0, done.stderr
    same_study(study, found)
