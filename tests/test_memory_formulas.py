"""What docs/scaling.md says of memory, as far as it can be counted: the numbers that convolutions make of a view."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from twoviews.model.resnet50 import create_backbone

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCALING = (BENCHMARKS.parent / "docs/scaling.md").read_text()


@pytest.fixture(scope="module")
def memory() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("memory_benchmark", BENCHMARKS / "memory.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("name", "stem", "size", "row"),
    [
        ("resnet50", "original", 96, "ResNet-50, 96 px, N = 256"),
        ("resnet18", "small", 24, "the same, views of 24 px"),
        ("resnet18", "original", 96, "ResNet-18, 96 px, N = 256"),
    ],
)
def test_the_numbers_of_a_view_are_the_networks(memory: Any, name: str, stem: Any, size: int, row: str) -> None:
    numbers = memory.numbers_of_convolutions(create_backbone(name, stem), size)
    assert f"| {row} | {numbers:,} |" in SCALING
