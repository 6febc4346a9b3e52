"""Features like a backbone's: correlated, never negative, with classes that overlap."""

from __future__ import annotations

from collections.abc import Callable

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
