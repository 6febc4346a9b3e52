"""Linear probes on disk: safetensors with the weights and the standardisation that goes before them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from twoviews.evaluation.probes import LinearProbe
from twoviews.files import write_bytes

_ARRAYS = ("weight", "bias", "mean", "scale")


def save_probe(path: Path, probe: LinearProbe, class_names: Sequence[str]) -> None:
    """Write a probe; its strength ``c`` and the names of its classes go into the metadata."""
    arrays = {name: np.ascontiguousarray(getattr(probe, name)) for name in _ARRAYS}
    about = json.dumps({"c": probe.c, "class_names": list(class_names)})
    write_bytes(path, save(arrays, metadata={"twoviews": about}))


def load_probe(path: Path) -> LinearProbe:
    """Read what ``save_probe`` wrote."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in _ARRAYS}
    return LinearProbe(**arrays, c=_about(path)["c"])


def probe_class_names(path: Path) -> list[str]:
    """The classes of a probe, in the order of its scores; empty for one of an older version."""
    return [str(name) for name in _about(path).get("class_names", [])]


def as_linear_layer(probe: LinearProbe) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Weight (C×D) and bias (C,) that give the probe's logits of features that are not standardised."""
    weight = probe.weight / probe.scale
    return np.ascontiguousarray(weight), probe.bias - weight @ probe.mean


def _about(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="np") as file:
        found: dict[str, Any] = json.loads((file.metadata() or {}).get("twoviews", "{}"))
    return found
