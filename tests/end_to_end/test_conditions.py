"""The real command where little is as it should be: no home, an old terminal, a broken torch, signals at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_commands import FAST, STAGES, environment, fresh, picture, twoviews, write_photos
from test_interrupted import finish, same_study, start

ONE = [*FAST, "--epochs", "1", "--batch-size", "16"]
POOR = {
    "LC_ALL": "C",
    "LANG": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "COLUMNS": "40",
    "OMP_NUM_THREADS": "1",
}


def test_without_a_home_and_with_an_old_terminal(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "b\u00e4ume \u4e2d", train=6, test=2, unlabeled=16)
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "TMPDIR", "VIRTUAL_ENV")}
    done = fresh("supervised", photos, *ONE, cwd=tmp_path, env={**kept, **POOR})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "supervised: results in output/supervised-" in done.stdout
    (run,) = (tmp_path / "output").iterdir()
    assert (run / "logs/curves.png").exists()


def test_a_torch_that_can_not_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file: No such file or directory')\n"
    )
    for part in ("train", "test"):  # a folder that is not there would be said first
        (tmp_path / "photos" / part / "cat").mkdir(parents=True)
    for command in (["pretrain", "sample"], ["study", "photos"], ["bench"]):
        done = fresh(*command, cwd=tmp_path, env={**environment(), "PYTHONPATH": str(tmp_path)})
        assert done.returncode == 2
        assert done.stderr.startswith("twoviews: ")
        assert "can't be loaded (libcudart.so.12: cannot open shared object file" in done.stderr
        assert done.stderr.count("\n") == 1
    done = fresh("--help", cwd=tmp_path, env={**environment(), "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0


@pytest.mark.slow
def test_ctrl_c_while_many_files_are_decoded(tmp_path: Path) -> None:
    """It goes to every process of the terminal's group; one of them speaks."""
    import numpy as np

    rng = np.random.default_rng(0)
    folder = tmp_path / "many/unlabeled"
    folder.mkdir(parents=True)
    picture(0, rng, 900).save(tmp_path / "large.png")
    for i in range(3000):
        (folder / f"{i}.png").hardlink_to(tmp_path / "large.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "twoviews", "pretrain", "many", *ONE],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while "10 %" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "twoviews: stopped by SIGINT; what is done is kept, and the same command goes on from it\n"
    assert not [p for p in (tmp_path / "data/cache").iterdir() if p.suffix == ".npy"]
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return  # no worker is left
        time.sleep(0.1)
    raise AssertionError("a worker is left")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_in_each_stage_of_a_study(study: Path, photos: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Before the first file, and once each stage has begun: the exit code, one line, and the same study in the end."""
    output = tmp_path / "output/study-photos"
    begun = [None, *(output / stage / "environment.json" for stage in ("supervised", "pretrain", "features", "test"))]
    for file in begun:
        process = start(photos, tmp_path)
        deadline = time.monotonic() + 120
        while file is not None and not file.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5 if file is None else 0.1)
        process.send_signal(number)
        assert process.wait(60) == (130 if number == signal.SIGINT else 143)
    same_study(study, finish(photos, tmp_path))


@pytest.mark.slow
def test_ctrl_c_twice_leaves_a_state_to_go_on_from(study: Path, photos: Path, tmp_path: Path) -> None:
    process = start(photos, tmp_path)
    metrics = tmp_path / "output/study-photos/pretrain/metrics.jsonl"
    while not metrics.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    same_study(study, finish(photos, tmp_path))


@pytest.mark.slow
def test_two_on_one_folder_are_told_apart(photos: Path, tmp_path: Path) -> None:
    first = start(photos, tmp_path)
    holder = tmp_path / "output/study-photos/.lock-info.json"
    while not holder.exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = twoviews("study", photos, *FAST, *STAGES, cwd=tmp_path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.returncode == 6
    assert f"in use by another twoviews process (pid {first.pid} on " in second.stderr
    assert holder.exists()  # what it left does no harm
    third = twoviews("study", photos, *FAST, *STAGES, cwd=tmp_path)
    assert third.returncode == 0, third.stderr
    assert not holder.exists()
