"""The real commands, and a small folder of pictures that classify.

Tests import from here and not from conftest: a conftest is one name for the files of every folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from forked import run_forked
from PIL import Image

# Small enough for seconds, whole enough to run every stage.
FAST = ["--backbone", "resnet18_w16", "--image-size", "32", "--precision", "float32", "--threads", "1"]
STAGES = [
    *("--supervised.epochs", "3", "--finetune.epochs", "3", "--pretrain.epochs", "3"),
    *("--pretrain.checkpoint-minutes", "1e-9"),  # a checkpoint at every step: a kill finds it at any of them
    *("--minutes", "60"),  # far more than it takes: plan.json is written, the epochs stay
    *("--supervised.batch-size", "16", "--finetune.batch-size", "16", "--pretrain.batch-size", "32"),
]

# A class and a file may be called anything: whatever reads or writes a name meets these.
CLASSES = ("=upright", "level", "<img src=x onerror=alert(1)>")
HOSTILE_FILE = "=cmd|' calc'!A0.png"
# What a camera writes beside the pixels; no file of ours may carry it.
SECRET = "taken at our house"
TOKEN = "sk-a-key-in-the-environment"


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
        for kind, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(kind, rng).save(folder / (f"{i:03d}.png" if i else HOSTILE_FILE), exif=whereabouts())
    folder = root / "unlabeled" / "deep"
    folder.mkdir(parents=True)
    for i in range(unlabeled):
        picture(i % 3, rng).save(folder / f"{i:03d}.jpg", quality=92)
    return root


def whereabouts() -> Image.Exif:
    """EXIF with a place in words and in degrees."""
    exif = Image.Exif()
    exif[0x010E] = SECRET
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    return exif


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def twoviews(*words: object, cwd: Path, light: bool = False) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own; ``light`` as in ``Forked``."""
    return run_forked([*map(str, words)], cwd, environment(), timeout=280, light=light)


def fresh(*words: object, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The same in a Python of its own, for what is looked up while modules load."""
    return subprocess.run(
        [sys.executable, "-m", "twoviews", *map(str, words)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )


def listing(root: Path) -> dict[str, tuple[int, str]]:
    """Time and content of every file below ``root``; of a folder, that it is there."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        if path.is_file()
        else (0, "folder")
        for path in sorted(root.rglob("*"))
    }
