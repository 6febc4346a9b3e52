"""What a process of ``study --jobs`` could do instead of training; it loads no torch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Order = tuple[str, tuple[str, ...]]


def _each(connection: Connection, do: Callable[[Order], None]) -> None:
    connection.send(("idle",))
    while (order := connection.recv()) is not None:
        do(order)
        connection.send(("idle",))


def writes(connection: Connection, values: dict[str, Any], root: Path) -> None:
    """Every stage at once: it writes what it found in its environment."""

    def do(order: Order) -> None:
        folder, stages = order
        for stage in stages:
            (Path(folder) / stage).mkdir(parents=True)
            found = f"{os.environ['OMP_NUM_THREADS']} {values['threads']} {time.monotonic()}"
            (Path(folder) / stage / "found").write_text(found)
            connection.send(("spent", stage, 0.5, True))

    _each(connection, do)


def one_loads_for_ever(connection: Connection, values: dict[str, Any], root: Path) -> None:
    """One of two works; the other never says that it could."""
    try:
        (root / "works").mkdir()
    except FileExistsError:
        time.sleep(600)
    writes(connection, values, root)


def fails_at_the_first_test(connection: Connection, values: dict[str, Any], root: Path) -> None:
    """As a worker whose loss is not finite."""

    def do(order: Order) -> None:
        if "test" in order[1]:
            connection.send(("failed", "NumbersError", "loss is not finite", 5))
            raise SystemExit(0)

    _each(connection, do)


def is_killed(connection: Connection, values: dict[str, Any], root: Path) -> None:
    """As a worker that the system ends for lack of memory."""
    _each(connection, lambda order: os.kill(os.getpid(), signal.SIGKILL))


def asks_its_parent_to_stop(connection: Connection, values: dict[str, Any], root: Path) -> None:
    """As a training under way when Ctrl-C comes: it saves once it is told to."""

    def do(order: Order) -> None:
        os.kill(os.getppid(), signal.SIGTERM)
        assert connection.recv() is None
        (root / "saved").write_text("")
        connection.send(("failed", "Stopped", "saved", 143))
        raise SystemExit(0)

    _each(connection, do)


def is_told_to_stop_with_its_parent(connection: Connection, values: dict[str, Any], root: Path) -> None:
    """As a worker that still loads when a scheduler sends SIGTERM to all processes: it ends at once."""
    os.kill(os.getppid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


def can_not_save_when_stopped(connection: Connection, values: dict[str, Any], root: Path) -> None:
    """As a training under way when Ctrl-C comes, whose disk is full."""

    def do(order: Order) -> None:
        os.kill(os.getppid(), signal.SIGTERM)
        assert connection.recv() is None
        connection.send(("failed", "ResourceError", "Could not write", 6))
        raise SystemExit(0)

    _each(connection, do)
