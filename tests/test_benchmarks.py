"""Scripts in benchmarks/ still run, and what docs/scaling.md says of memory is what can be counted."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from twoviews.model.resnet50 import create_backbone
from twoviews.settings import RunSettings
from twoviews.trainers.engine import Engine

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCALING = (BENCHMARKS.parent / "docs/scaling.md").read_text()

Script = Callable[[str], Any]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """A script as a module; scripts import one another by name, and nothing of that stays."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "stem", "size", "row"),
    [
        ("resnet50", "original", 96, "ResNet-50, 96 px, N = 256"),
        ("resnet18", "small", 24, "the same, views of 24 px"),
        ("resnet18", "original", 96, "ResNet-18, 96 px, N = 256"),
    ],
)
def test_the_numbers_of_a_view_are_the_networks(script: Script, name: str, stem: Any, size: int, row: str) -> None:
    numbers = script("memory").numbers_of_convolutions(create_backbone(name, stem), size)
    assert f"| {row} | {numbers:,} |" in SCALING


@pytest.mark.parametrize("fast", [True, False])
def test_a_step_of_step_speed_trains(script: Script, fast: bool) -> None:
    arguments = argparse.Namespace(backbone="resnet18_w16", image_size=16, batch_size=2)
    engine = Engine(RunSettings(device="cpu", precision="float32", threads=1))
    step = script("step_speed").make_step(engine, arguments, fast)
    before = torch.get_rng_state()
    step(0)
    assert torch.equal(
        torch.get_rng_state(), before
    )  # views are drawn without a generator: both variants' are the same


def test_convolutions_times_each_layer(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("convolutions")
    monkeypatch.setattr(module, "matrix_product_rate", lambda engine: (1e11, 2048))
    words = ["--backbone", "resnet18_w16", "--image-size", "32", "--view-size", "8", "--batch-size", "1"]
    monkeypatch.setattr(sys, "argv", ["convolutions.py", *words, "--repeats", "1", "--threads", "1"])
    module.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) > 2
