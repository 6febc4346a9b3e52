"""Features like a backbone's: correlated, never negative, with classes that overlap."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

Labelled = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
Blobs = Callable[..., Labelled]


@pytest.fixture
def blobs() -> Blobs:
    def make(images: int, dimensions: int, classes: int, separation: float = 1.0, seed: int = 0) -> Labelled:
        generator = np.random.default_rng(seed)
        labels = np.arange(images, dtype=np.int64) % classes
        centres = generator.standard_normal((classes, 12)) * separation
        latent = generator.standard_normal((images, 12)) + centres[labels]
        features = latent @ generator.standard_normal((12, dimensions))
        features += generator.standard_normal((images, dimensions))
        return np.maximum(features, 0.0).astype(np.float32), labels

    return make


@pytest.fixture(scope="session")
def coverage() -> ModuleType:
    """The simulation of benchmarks/interval_coverage.py."""
    file = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"
    spec = importlib.util.spec_from_file_location("interval_coverage", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(file.parent)  # scripts import one another by name
        spec.loader.exec_module(module)
    sys.modules.pop("machine", None)
    return module
