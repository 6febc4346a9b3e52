"""``twoviews bench``: what it times is what training runs, what it counts is right, and it leaves nothing behind."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from twoviews import cli
from twoviews.dataset.images import ImageSet
from twoviews.model.projection_head import SimCLR
from twoviews.model.resnet50 import create_backbone, feature_width
from twoviews.stages.bench_tables import table
from twoviews.trainers import steps

SMALL = ["--backbone", "resnet18_w16", "--image-size", "32", "--batch-size", "8", "--threads", "1", "--steps", "1"]
FLOAT32 = [*SMALL, "--precision", "float32"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder and an empty folder for temporary files; rounds of a moment."""
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("twoviews.stages.measure.ROUND_SECONDS", 0.02)
    monkeypatch.setattr("twoviews.stages.bench_images.MAX_IMAGES", 64)


def bench(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    """The rows of ``twoviews bench WORDS --json``."""
    assert cli.main(["bench", *map(str, words), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_long_measurement_is_announced_and_json_stays_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("twoviews.stages.bench.SILENCE", 0.0)
    assert len(bench(capsys, "step", *FLOAT32)) == 1
    assert cli.main(["bench", "step", *FLOAT32]) == 0
    assert re.search(
        r"^step: \d+\.\d s a step, so about .+; --steps 1 takes the fewest\.$", capsys.readouterr().out, re.M
    )


def test_all_on_a_folder_measures_everything_and_leaves_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = bench(capsys, "all", *FLOAT32, "--unlabeled", photos / "unlabeled")
    assert [row["what"] for row in rows] == ["step", "augment", "loss", "data", "data"]
    for row in rows:
        assert row["images_per_second"] > 0
        assert (row["device"], row["precision"], row["threads"]) == ("cpu", "float32", 1)
        assert row["torch"] == torch.__version__
        if row["spread"] is not None:
            assert row["spread"][0] <= row["images_per_second"] <= row["spread"][1]
    step, augment, loss, decode, gather = rows
    assert step["images"] == gather["images"] == f"64 images of {photos / 'unlabeled'}"
    assert augment["images_per_second_per_thread"] == augment["images_per_second"]
    assert (loss["rows"], loss["batch_size"]) == (16, 8)
    assert (decode["part"], decode["files"], gather["part"]) == ("decode", 64, "gather")
    assert decode["images_per_second"] == pytest.approx(64 / decode["seconds"])
    assert [p for part in ("work", "temporary") for p in (tmp_path / part).rglob("*")] == []


def test_random_images_are_called_random(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = bench(capsys, "data", *FLOAT32)
    assert (row["part"], row["images"]) == ("gather", "random images")


def operations(view_size: int) -> tuple[int, int]:
    """Of the convolutions and linear layers forward, two views of an image; and of the first layer alone."""
    backbone = create_backbone("resnet18_w16", "small")
    model = SimCLR(backbone, feature_width(backbone), 128)
    counts: list[int] = []

    def count(module: nn.Module, arguments: Any, out: torch.Tensor) -> None:
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        counts.append(2 * out.numel() * module.weight[0].numel())

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    model(torch.zeros(2, 3, view_size, view_size))
    return sum(counts), counts[0]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_operations_are_those_of_the_layers_forward_and_twice_backward(
    precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # In bf16 some gradients are our own matrix products: none may be missed, or counted twice.
    (row,) = bench(capsys, "step", *SMALL, "--precision", precision, "--view-size", "24")
    assert row["view_size"] == 24
    forward, first = operations(24)
    # Nobody needs the gradient of the images.
    assert row["gflop_per_image"] == pytest.approx((3 * forward - first) / 1e9, rel=1e-6)
    rate = row["gflop_per_image"] * row["images_per_second"] / row["matrix_product_gflop_per_second"]
    assert row["fraction_of_matrix_product_rate"] == pytest.approx(rate)


def delayed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **named)

    return slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("piece", "owner", "name"),
    [
        ("augmentation", steps, "views"),
        ("loss", steps, "info_nce"),
        ("forward", SimCLR, "forward"),
        ("data", ImageSet, "read"),
        ("optimizer", importlib.import_module("torch.optim.sgd"), "sgd"),
    ],
)
def test_time_is_booked_to_the_piece_of_training_that_takes_it(
    piece: str, owner: Any, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, delayed(getattr(owner, name), 0.8 if piece == "data" else 0.3))
    (row,) = bench(capsys, "step", *FLOAT32)
    # The next batch is read while a step runs, so that not all of it is a wait.
    assert row["seconds"][piece] >= (0.1 if piece == "data" else 0.3)
    assert max(row["seconds"], key=row["seconds"].get) == piece
    assert row["bound_by"] == ("network" if piece == "forward" else piece)
    assert row["seconds_per_step"] >= 0.3  # the whole, timed apart, has it too


def test_a_batch_is_lowered_to_the_images_there_are(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--unlabeled", photos / "test" / "level", "--batch-size", "64"]
    (row,) = bench(capsys, "step", *FLOAT32, *words)
    assert row["batch_size"] == 16


def test_the_table_is_aligned_and_says_what_bounds_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "step", *FLOAT32]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cpu, 1 thread, float32, torch ")
    assert max(map(len, lines)) <= 120
    head = next(line for line in lines if line.endswith("ms a step   share  GFLOP/s"))
    pieces = [line for line in lines if re.match(r"  (data|augmentation|forward|loss|backward|optimizer)\b", line)]
    assert len(pieces) == 6
    for line in pieces:
        milliseconds = re.match(r"  \w+ +[\d.,]+", line)
        assert milliseconds is not None
        assert milliseconds.end() == head.index("ms a step") + len("ms a step")
        assert line.index("%") == head.index("share") + len("share") - 1
    assert re.match(r"  Bound by the \w+: \d+% of the step", lines[-1])


def test_what_is_not_known_is_not_given_as_a_number() -> None:
    row = {
        "rows": 16,
        "batch_size": 8,
        "images_per_second": 100.0,
        "peak_memory_bytes": None,
        "spread": [90.0, 110.0],
        "width": 128,
        "precision": "float32",
    }
    assert "not known" in table("loss", [row])


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["lose"], 2, "should be one of step, augment, loss, data, all (got 'lose')"),
        (["step", "--batch-size", "1"], 2, "--batch-size: should be at least 2 (got 1)"),
        (["step", "--image-size", "4"], 2, "--image-size: should be at least 8 (got 4)"),
        (["step", "--backbone", "vit_tiny_patch16_224"], 2, "vit_tiny_patch16_224 does not take images of 64 pixels"),
        (["data", "--unlabeled", "nowhere"], 3, "nowhere is not a folder: check --unlabeled."),
        (["all", "--unlabeled", "."], 3, ". holds no two readable images"),
        (["loss", "--batch-size", "10000000000"], 6, "does not fit into memory: lower --batch-size."),
        (["data", "--batch-size", "10000000000"], 6, "10,000,000,000 random images need 122880.00 GB in"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], code: int, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *words, "--device", "cpu"]) == code
    said = capsys.readouterr().err
    assert said.startswith("twoviews: ")
    assert said.count("\n") == 1
    assert expected in said
    assert list((tmp_path / "temporary").iterdir()) == []


def test_help_loads_no_torch_and_warns_of_nothing() -> None:
    code = (
        "import sys\nfrom twoviews.cli import main\ntry:\n    main(['bench', '--help'])\nexcept SystemExit:\n    pass\n"
    )
    words = [sys.executable, "-W", "error", "-c", code + "assert 'torch' not in sys.modules"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "90"})
    assert done.returncode == 0, done.stderr
    assert "--view-size" in done.stdout
    assert "--json" in done.stdout
