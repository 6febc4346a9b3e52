"""One folder of pictures and one finished study for all tests that read them."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from real_commands import FAST, STAGES, TOKEN, environment, fresh, listing, write_photos


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
