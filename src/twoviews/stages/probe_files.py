"""Linear probes on disk: safetensors with the weights and the standardisation that goes before them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from twoviews.evaluation.probes import LinearProbe
from twoviews.files import write_bytes

_ARRAYS = ("weight", "bias", "mean", "scale")


def save_probe(path: Path, probe: LinearProbe) -> None:
    """Write a probe; its strength ``c`` goes into the metadata."""
    arrays = {name: np.ascontiguousarray(getattr(probe, name)) for name in _ARRAYS}
    write_bytes(path, save(arrays, metadata={"twoviews": json.dumps({"c": probe.c})}))


def load_probe(path: Path) -> LinearProbe:
    """Read what ``save_probe`` wrote."""
    with safe_open(path, framework="np") as file:
        about = json.loads((file.metadata() or {}).get("twoviews", "{}"))
        return LinearProbe(**{name: file.get_tensor(name) for name in _ARRAYS}, c=about["c"])
