"""A small folder of pictures that classify, and the real commands on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Small enough for seconds, whole enough to run every stage.
FAST = ["--backbone", "resnet18_w16", "--image-size", "32", "--precision", "float32", "--threads", "1"]
STAGES = [
    *("--supervised.epochs", "3", "--finetune.epochs", "3", "--pretrain.epochs", "3"),
    *("--minutes", "60"),  # far more than it takes: plan.json is written, the epochs stay
    *("--supervised.batch-size", "16", "--finetune.batch-size", "16", "--pretrain.batch-size", "32"),
]


def picture(kind: int, rng: np.random.Generator, size: int = 40) -> Image.Image:
    """A noisy picture with a bar: upright (0), level (1) or slanted (2)."""
    y, x = np.mgrid[0:size, 0:size]
    offset = rng.integers(-8, 8)
    distance = [x - size // 2 - offset, y - size // 2 - offset, (x - y) / 1.4 - offset][kind]
    shape = (np.abs(distance) < 5)[:, :, None] * rng.integers(60, 160, 3)
    noise = rng.integers(0, 90, (size, size, 3))
    return Image.fromarray((shape + noise).clip(0, 255).astype(np.uint8))


def write_photos(root: Path, *, train: int = 20, test: int = 16, unlabeled: int = 96) -> Path:
    """unlabeled/, train/<class>/ and test/<class>/ of three classes."""
    rng = np.random.default_rng(7)
    for part, count in (("train", train), ("test", test)):
        for kind, name in enumerate(("upright", "level", "slanted")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(kind, rng).save(folder / f"{i:03d}.png")
    folder = root / "unlabeled" / "deep"
    folder.mkdir(parents=True)
    for i in range(unlabeled):
        picture(i % 3, rng).save(folder / f"{i:03d}.jpg", quality=92)
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


Run = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def twoviews(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "twoviews", *map(str, words)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session")
def study(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study, run by the real command."""
    work = tmp_path_factory.mktemp("work")
    done = twoviews("study", photos, *FAST, *STAGES, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    return work / "output" / "study-photos"
