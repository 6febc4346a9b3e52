"""A small folder of pictures that classify, and the real commands on it."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
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


@pytest.fixture(scope="session")
def for_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the processes that run the tests: what is there is made by the first that needs it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "for-all"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def photos(for_all: Path) -> Path:
    """For reading only, as ``study`` is: other tests read them at the same time."""
    with FileLock(for_all / "photos.lock"):
        if not (for_all / "photos").exists():
            write_photos(for_all / "photos")
    return for_all / "photos"


Run = Callable[..., subprocess.CompletedProcess[str]]


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


# Python runs this first in every process, those that decode and train included.
NO_NETWORK = """
import os
import sys

WAYS_OUT = ("connect", "sendto", "sendmsg", "bind", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")


def guard(event, arguments):
    if event.startswith("socket.") and event.partition(".")[2] in WAYS_OUT:
        if event in ("socket.connect", "socket.bind") and isinstance(arguments[1], (str, bytes)):
            return  # a socket that is a file: another process of ours
        with open(os.environ["CONNECTIONS"], "a") as stream:
            stream.write(f"{event} {arguments[1:] or arguments}\\n")
        raise OSError(f"no network here: {event}")


sys.addaudithook(guard)
"""
PLACES = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")


def listing(root: Path) -> dict[str, tuple[int, str]]:
    """Time and content of every file below ``root``; of a folder, that it is there."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        if path.is_file()
        else (0, "folder")
        for path in sorted(root.rglob("*"))
    }


@dataclass(frozen=True)
class Watched:
    """A study that ran without a network, in an empty working folder, with empty places of the user's.

    Attributes:
        study: its run folder.
        work: the folder it ran in.
        environment: what it ran with.
        connections: what it tried to reach, one a line.
        photos: the user's images before and after it.
        places: what lies in the user's places after it.
        made: what lies in the working folder after it.
    """

    study: Path
    work: Path
    environment: dict[str, str]
    connections: Path
    photos: tuple[dict[str, tuple[int, str]], dict[str, tuple[int, str]]]
    places: set[str]
    made: set[str]


@pytest.fixture(scope="session")
def watched(photos: Path, for_all: Path) -> Watched:
    """A finished study, run by the real command, and what it did to its surroundings."""
    found = for_all / "watched.pickle"
    with FileLock(for_all / "watched.lock"):
        if not found.exists():
            found.write_bytes(pickle.dumps(vars(watch(photos, for_all / "watched"))))
        return Watched(**pickle.loads(found.read_bytes()))


def watch(photos: Path, root: Path) -> Watched:
    """Run a study below ``root``."""
    work, places, guard = (root / name for name in ("work", "places", "guard"))
    for folder in (work, places, guard):
        folder.mkdir(parents=True)
    (guard / "sitecustomize.py").write_text(NO_NETWORK)
    connections = guard / "connections"
    connections.write_text("")
    # Nothing that would send a library's files elsewhere.
    env = {k: v for k, v in environment().items() if not k.startswith(("MPL", "XDG_", "TORCH", "HF_", "TMP", "TEMP"))}
    for name in PLACES:
        (places / name).mkdir()
        env[name] = str(places / name)
    env |= {"PYTHONPATH": str(guard), "CONNECTIONS": str(connections), "API_TOKEN": TOKEN}
    before = listing(photos)
    done = fresh("study", photos, *FAST, *STAGES, cwd=work, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return Watched(
        work / "output" / "study-photos",
        work,
        env,
        connections,
        (before, listing(photos)),
        set(listing(places)) - set(PLACES),
        set(listing(work)),
    )


@pytest.fixture(scope="session")
def study(watched: Watched) -> Path:
    """The folder of a finished study, run by the real command."""
    return watched.study
