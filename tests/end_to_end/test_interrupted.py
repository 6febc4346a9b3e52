"""A study that is killed and started again ends as one that never stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from conftest import FAST, STAGES, environment, twoviews
from safetensors.numpy import load_file


def start(photos: Path, work: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "twoviews", "study", str(photos), *FAST, *STAGES]
    return subprocess.Popen(command, cwd=work, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_rows(process: subprocess.Popen[bytes], path: Path, count: int) -> None:
    """Until a stage has logged so many epochs."""
    for _ in range(2400):
        if path.exists() and path.read_text().count("\n") >= count:
            return
        assert process.poll() is None, "the study ended before it could be stopped"
        time.sleep(0.05)
    raise AssertionError(f"{path} never had {count} rows")


def test_killed_and_terminated_it_goes_on_bit_for_bit(study, photos, tmp_path):
    output = tmp_path / "output/study-photos"
    process = start(photos, tmp_path)
    wait_for_rows(process, output / "pretrain/metrics.jsonl", 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = start(photos, tmp_path)
    wait_for_rows(process, output / "pretrain/metrics.jsonl", 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (143, 0)
    done = twoviews("study", photos, *FAST, *STAGES, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    for stage in ("supervised", "pretrain", "finetune"):
        assert (output / stage / "metrics.jsonl").read_text() == (study / stage / "metrics.jsonl").read_text()
        for weights in sorted((study / stage / "models").iterdir()):
            ours, theirs = load_file(output / stage / "models" / weights.name), load_file(weights)
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours), (stage, weights.name)
    assert np.array_equal(
        np.load(output / "features/features-pretrained.npy"), np.load(study / "features/features-pretrained.npy")
    )
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (study, output))
    for volatile in ("speed", "seconds"):
        first.pop(volatile)
        second.pop(volatile)
    assert first == second


def test_wrong_input_ends_in_one_line_and_its_exit_code(photos, tmp_path):
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
        assert done.returncode == code, (words, done.stderr)
        assert text in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
