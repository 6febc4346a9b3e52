"""Runs that diverge, by the real commands: what they say, and what `twoviews replay` shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from real_commands import FAST, listing, twoviews

# Weights that double from step to step: within an epoch the network's numbers leave float32.
ABSURD = ["--epochs", "4", "--warmup-epochs", "0", "--batch-size", "32", "--base-lr", "1e30"]


@pytest.fixture(scope="module")
def diverged(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a run that ended by its numbers."""
    work = tmp_path_factory.mktemp("diverged")
    command = ["pretrain", photos, *FAST, *ABSURD, "--out", work / "run"]
    done = twoviews(*command, cwd=work)
    assert done.returncode == 5, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("twoviews: pretrain: "), done.stderr
    assert f"`twoviews replay {work / 'run'}`" in done.stderr
    assert "--base-lr (1e+30)" in done.stderr
    return work


def test_a_run_that_diverges_is_replayed_to_the_layer(diverged: Path) -> None:
    run = diverged / "run"
    failure = json.loads((run / "failure.json").read_text())
    before = listing(run)
    done = twoviews("replay", run, cwd=diverged)
    assert done.returncode == 5, done.stdout + done.stderr
    assert f"step {failure['step']} (epoch {failure['epoch']}) of pretrain" in done.stdout
    assert f"replay: step {failure['step']} of pretrain fails again: " in done.stderr
    assert done.stderr.count("\n") == 1
    layer = next(line.split()[2] for line in done.stdout.splitlines() if line.strip().startswith("first layer"))
    assert layer.startswith(("backbone.", "projection_head."))
    assert f"first in {layer};" in done.stderr
    assert "largest weight" in done.stdout
    assert {k: v for k, v in listing(run).items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


def test_it_begins_at_the_checkpoint_that_was_kept(photos: Path, tmp_path: Path) -> None:
    run, study = tmp_path / "run", tmp_path / "study"
    command = ["pretrain", photos, *FAST, *ABSURD, "--out", "run", "--checkpoint-minutes", "1e-9"]
    said = twoviews(*command, cwd=tmp_path)
    assert said.returncode == 5
    failure = json.loads((run / "failure.json").read_text())
    step = failure["step"]
    assert step > 0
    assert failure["checkpoint"] == f"step-{step:08d}"  # one at every step
    assert f"(step-{step:08d}) is intact" in said.stderr
    assert "go on from its weights in a new run with --fork" in said.stderr

    # A copy without it is trained from its first step on and comes to the same; it is made a study's stage, too.
    shutil.copytree(run, study / "pretrain")
    shutil.rmtree(study / "pretrain/checkpoints")
    (study / "pretrain/failure.json").write_text(json.dumps({**failure, "group": "pretrain"}))
    before = listing(run)
    seen = []
    for folder, advice in ((run, "lower --base-lr ("), (study, "lower --pretrain.base-lr (")):
        said = twoviews("replay", folder, cwd=tmp_path)
        assert said.returncode == 5
        assert (f"pretrain: going on from step {step} of 12" in said.stdout) == (folder == run)
        assert advice in said.stderr
        seen.append([line for line in said.stdout.splitlines() if line.startswith("  ")])
    assert seen[0] == seen[1]
    assert any(line.split()[:2] == ["first", "layer"] for line in seen[0])
    assert {k: v for k, v in listing(run).items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


@pytest.mark.slow
def test_other_settings_show_whether_they_help(diverged: Path) -> None:
    done = twoviews("replay", diverged / "run", "--precision", "bf16", cwd=diverged)
    assert done.returncode in (0, 5), done.stdout + done.stderr
    assert "in bf16 on cpu" in done.stdout
    assert "Traceback" not in done.stderr


def test_replay_needs_a_failure(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for words, code, text in ((["run"], 4, "no step of it failed"), ([], 2, "run whose numbers were not finite")):
        done = twoviews("replay", *words, cwd=tmp_path)
        assert done.returncode == code
        assert text in done.stderr
        assert done.stderr.count("\n") == 1
