"""On what a figure was measured: for the last line of a script."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from twoviews.cpus import onednn_limit, usable_cpus
from twoviews.processor import multiplies_in_bf16, widest_vectors
from twoviews.trainers.environment import cpu_name


def machine(*packages: str) -> dict[str, Any]:
    """The processor, what torch and oneDNN use of it, cores, and the versions of Python, torch and ``packages``."""
    return {
        "cpu": cpu_name(),
        "cpu_capability": widest_vectors(),
        "bf16": multiplies_in_bf16(),
        **({"onednn_limit": onednn_limit()} if onednn_limit() else {}),
        "cores": usable_cpus(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", *packages)},
    }
