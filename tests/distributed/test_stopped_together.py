"""Several processes stop as one, wherever the signal went, and go on in another number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OPTIONS = ["--warmup-epochs", "0", "--batch-size", "16", "--image-size", "16", "--backbone", "resnet18_w16"]
OPTIONS += ["--device", "cpu", "--precision", "float32", "--threads", "1", "--epochs", "60", "--cache", "cache"]
OPTIONS += ["--base-lr", "0.01"]  # so low that rounding grows slowly
OPTIONS += ["--checkpoint-minutes", "0.01"]  # else so short a run is saved at its end alone
LAUNCHER = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures/unlabeled"
    folder.mkdir(parents=True)
    for i in range(34):  # two are left over in each epoch
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((20, 20)).save(folder / f"{i:02d}.png")
    return tmp_path / "pictures"


def begin(images: Path, out: str, *launcher: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "twoviews", "pretrain", str(images), "--out", out, *OPTIONS],
        cwd=images.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out + err


def rows(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_rows(process: subprocess.Popen[str], run: Path, count: int) -> None:
    while len(rows(run)) < count:
        assert process.poll() is None, end(process)
        time.sleep(0.05)


def workers(launcher: int) -> list[int]:
    """Process ids of what a launcher started, first rank first."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            ranks = [v for v in (stat.parent / "environ").read_bytes().split(b"\0") if v.startswith(b"RANK=")]
        except OSError:
            continue
        if int(fields[1]) == launcher and ranks:
            found.append((ranks[0], int(stat.parent.name)))
    return [pid for _, pid in sorted(found)]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_stops_both_with_a_checkpoint(images: Path, rank: int) -> None:
    run = images.parent / "run"
    process = begin(images, "run", *LAUNCHER)
    wait_for_rows(process, run, 2)
    os.kill(workers(process.pid)[rank], signal.SIGTERM)
    code, said = end(process)
    assert code != 0
    assert said.count("stopped at step") == 1, said  # one process speaks
    assert "the same command goes on from there" in said
    stopped_at = json.loads((sorted((run / "checkpoints").glob("step-*"))[-1] / "state.json").read_text())["step"]
    assert stopped_at < 120
    assert f"stopped at step {stopped_at} of 120" in said

    # On one process: the same order of images, so the same ups and downs from epoch to epoch.
    code, said = end(begin(images, "run"))
    assert code == 0, said
    assert "warning: " in said
    assert "processes 1 instead of 2" in said
    whole = images.parent / "whole"
    code, said = end(begin(images, "whole"))
    assert code == 0, said
    ours, theirs = rows(run), rows(whole)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    losses = [np.array([row["loss"] for row in found]) for found in (ours, theirs)]
    assert np.corrcoef(losses[0], losses[1])[0, 1] > 0.9
    assert abs(np.corrcoef(losses[0][1:], losses[1][:-1])[0, 1]) < 0.5  # of another order it would not be so


def test_a_number_of_processes_that_changes_the_batch_is_refused(images: Path) -> None:
    run = images.parent / "run"
    code, said = end(begin(images, "run", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"))
    assert code == 0, said
    (run / "results.json").unlink()
    code, said = end(begin(images, "run", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m"))
    assert code != 0
    assert said.count("began with 16 images a step on 2 processes; on 3 there would be 15") == 1, said


def test_a_process_that_is_killed_takes_the_others_with_it(images: Path) -> None:
    run = images.parent / "run"
    process = begin(images, "run", *LAUNCHER)
    wait_for_rows(process, run, 2)
    begun = time.monotonic()
    os.kill(workers(process.pid)[1], signal.SIGKILL)
    code, _ = end(process)
    assert code != 0
    assert time.monotonic() - begun < 60
    code, said = end(begin(images, "run"))
    assert code == 0, said
