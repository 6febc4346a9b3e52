"""On what a run computes: versions and machine, kept in environment.json; no environment variable is written."""

from __future__ import annotations

import os
import platform
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import twoviews
from twoviews.cpus import said_of_processor
from twoviews.files import read_record, write_json

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "numpy",
    "numba",
    "llvmlite",
    "scikit-learn",
    "openTSNE",
    "pillow",
)
# What changes no number: how much of it there is, not what it computes with. Precision is not here but a setting.
_NOT_COMPARED = {"cores", "memory_gb", "precision"}


def now() -> str:
    """The time in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command_line() -> str:
    """The command as it was typed."""
    return " ".join(["twoviews", *sys.argv[1:]])


def first_start(path: Path) -> dict[str, Any] | None:
    """What environment.json says of a run's first start, or None where there is none yet.

    Raises:
        CheckpointError: the file is damaged.
    """
    if not path.exists():
        return None
    return read_record(path, "put it back, or delete it to go on without knowing where the run began", "machine")


def record_start(path: Path, machine: dict[str, Any], more: dict[str, Any]) -> list[str]:
    """Write environment.json at a run's first start, and add each later one to its ``resumes``.

    Args:
        path: the file.
        machine: where the engine computes.
        more: what else to record of a first start.

    Returns:
        What is not as it was at the first start, in words.

    Raises:
        CheckpointError: the file is damaged.
    """
    start = {
        "twoviews": twoviews.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "memory_gb": _memory_gb(), **machine},
        "command": command_line(),
        "started": now(),
    }
    first = first_start(path)
    if first is None:
        write_json(path, {"run_id": uuid.uuid4().hex, **start, **more})
        return []
    write_json(path, {**first, "resumes": [*first.get("resumes", []), start]})
    return list(_changes(first, start))


def _changes(first: dict[str, Any], later: dict[str, Any]) -> Iterator[str]:
    machines = first["machine"], later["machine"]
    versions = ({name: start[name] for name in ("twoviews", *_PACKAGES) if name in start} for start in (first, later))
    for old, new in (machines, versions):
        for name in new:
            if name in old and name not in _NOT_COMPARED and old[name] != new[name]:
                yield f"{name} {new[name]} instead of {old[name]}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    return said_of_processor("model name") or platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
