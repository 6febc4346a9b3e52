"""A study that is killed at any instant and started again ends as one that never stopped."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from real_commands import FAST, STAGES, environment, twoviews
from safetensors.numpy import load_file

from twoviews import cli, disk


def start(photos: Path, work: Path, *, light: bool = False) -> Forked:
    return Forked(["study", str(photos), *FAST, *STAGES], work, environment(), light=light)


def wait_for_rows(process: Forked, path: Path, count: int) -> None:
    """Until a stage has logged so many epochs."""
    for _ in range(2400):
        if path.exists() and path.read_text().count("\n") >= count:
            return
        assert process.poll() is None, "the study ended before it could be stopped"
        time.sleep(0.05)
    raise AssertionError(f"{path} never had {count} rows")


def kill_after(seconds: float, photos: Path, work: Path, *, light: bool = False) -> bool:
    """Start the study and SIGKILL it; whether it was still running."""
    process = start(photos, work, light=light)
    try:
        return process.wait(seconds) is None
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def files(study: Path) -> list[Path]:
    """All but the older checkpoint of each stage: which one that is depends on when the last but one was due."""
    older = [path for stage in study.iterdir() for path in sorted((stage / "checkpoints").glob("step-*"))[:-1]]
    return [path for path in sorted(study.rglob("*")) if not {path, *path.parents} & set(older)]


def same_study(one: Path, other: Path) -> None:
    """Weights, optimizer, metrics, features, tables and results are equal to the bit; times may differ."""
    names = [[path.relative_to(study).as_posix() for path in files(study)] for study in (one, other)]
    assert names[0] == names[1]
    for stage in ("supervised", "pretrain", "finetune"):
        assert (one / stage / "metrics.jsonl").read_text() == (other / stage / "metrics.jsonl").read_text()
        for file in (path for path in files(one) if path.suffix == ".safetensors" and stage in path.parts):
            ours, theirs = load_file(file), load_file(other / file.relative_to(one))
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours), file
    for file in [*one.rglob("*.npy"), *one.rglob("*.csv"), *one.rglob("*.webp")]:
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes(), file
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (one, other))
    for volatile in ("speed", "seconds"):
        first.pop(volatile)
        second.pop(volatile)
    assert first == second


def finish(photos: Path, work: Path, *, light: bool = False) -> Path:
    done = twoviews("study", photos, *FAST, *STAGES, cwd=work, light=light)
    assert done.returncode == 0, done.stderr
    return work / "output/study-photos"


def test_killed_at_five_instants_it_ends_bit_for_bit_the_same(study, photos, tmp_path):
    rng = random.Random(1)
    length = json.loads((study / "results.json").read_text())["seconds"]["total"]
    # Without drawing it takes about half as long: the last of five is on its way at the end.
    killed = [kill_after(rng.uniform(0.1, length / 5), photos, tmp_path, light=True) for _ in range(5)]
    assert sum(killed) >= 2
    same_study(study, finish(photos, tmp_path, light=True))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_fifty_instants_it_ends_bit_for_bit_the_same(study, photos, tmp_path):
    rng = random.Random(2)
    length = sum(json.loads((study / "results.json").read_text())["seconds"].values()) / 2
    killed = number = 0
    while killed < 50:
        work = tmp_path / str(number)
        work.mkdir()
        for _ in range(5):
            killed += kill_after(rng.uniform(0.2, 3 + length), photos, work)
        same_study(study, finish(photos, work))
        number += 1


@pytest.mark.slow
def test_terminated_it_saves_and_goes_on_bit_for_bit(study, photos, tmp_path):
    output = tmp_path / "output/study-photos"
    process = start(photos, tmp_path)
    wait_for_rows(process, output / "pretrain/metrics.jsonl", 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    same_study(study, finish(photos, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_each_call_to_the_disk_fails_once(study, photos, tmp_path, monkeypatch, capsys):
    """Each call fails the first time it is made; the study ends with exit code 6 each time, and then finishes."""
    failed: set[tuple[str, str]] = set()

    def before(name: str, path: Path) -> None:
        where = re.sub(r"\.tmp-[^/]*", ".tmp", os.path.relpath(path, tmp_path))
        where = re.sub(r"/logs/[^/.]*", "/logs/figure", where)  # hundreds, all written by the same calls
        where = re.sub(r"step-0*([3-9]|[1-9]\d+)\b", "step-later", where)  # from the third on an older one goes too
        # What tidies up after a failure may fail without a word: the failure itself is what is said.
        if name != "remove" and (name, where) not in failed:
            failed.add((name, where))
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(disk, "before", before)
    code, starts = 6, 0
    while code:
        known, starts = len(failed), starts + 1
        code = cli.main(["study", str(photos), *FAST, *STAGES])
        # A second call may fail while the first failure is on its way out: it is a start that fails, not a call.
        assert code == (6 if len(failed) > known else 0), "a failure was swallowed"
        assert not code or "Permission denied" in capsys.readouterr().err
        assert starts < 2000
    assert len(failed) > 100
    monkeypatch.undo()
    same_study(study, tmp_path / "output/study-photos")


def test_wrong_input_ends_in_one_line_and_its_exit_code(tmp_path):
    cases = [
        (("pretrain", "stl10"), 3, "stl10_binary"),
        (("study", tmp_path / "missing"), 3, "missing"),
        (("pretrain", "sample", "--device", "cuda"), 2, "--device cuda"),
        (("pretrain", "sample", "--backbone", "resnet5O"), 2, "resnet50"),
        (("finetune", tmp_path), 4, "pretraining run"),
        (("studdy",), 2, "did you mean `twoviews study`"),
    ]
    for words, code, text in cases:
        done = twoviews(*words, cwd=tmp_path)
        assert done.returncode == code, words
        assert text in done.stderr, (words, done.stderr)
        assert done.stderr.count("\n") == 1, (words, done.stderr)
