"""Checkpoints: a folder each, whole or not there, checked by SHA-256 before use; the last two are kept.

``checkpoints/step-00000123/`` holds ``model.safetensors``, ``optimizer.safetensors``, ``state.json`` and, written
last, ``manifest.json`` with the size and SHA-256 of each file. The folder is written under a temporary name beside its
final place, flushed to disk, and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from twoviews.errors import CheckpointError, ResourceError
from twoviews.files import fsync_folder, read_json, write_bytes, write_json

KEEP = 2


@dataclass
class State:
    """What a run needs beside its weights to go on as if it had never stopped.

    Attributes:
        step: optimizer steps done.
        sums: running sums of the unfinished epoch's scalars.
        best: epoch and validation top-1 of the best epoch so far, where validation chooses.
        engine: state of the precision's gradient scaler.
        metrics_bytes: length of metrics.jsonl when this was saved; rows after it belong to steps that are redone.
        epoch_seconds, epoch_waited: what the unfinished epoch took so far, and how much of it was waiting for images.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    metrics_bytes: int = 0
    epoch_seconds: float = 0.0
    epoch_waited: float = 0.0


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    optimizer: Optimizer,
    state: State,
    best_weights: dict[str, Tensor] | None = None,
) -> Path:
    """Save one checkpoint and delete all but the last two.

    Raises:
        ResourceError: it could not be written; the earlier ones are intact.
    """
    final = folder / f"step-{state.step:08d}"
    temporary = folder / f".tmp-{final.name}-{os.getpid()}"
    tensors, numbers = _flatten_optimizer(optimizer)
    contents = {"model.safetensors": save(contiguous(module.state_dict()))}
    contents["optimizer.safetensors"] = save(contiguous(tensors))
    if best_weights is not None:
        contents["best.safetensors"] = save(contiguous(best_weights))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, content in contents.items():
            write_bytes(temporary / name, content)
        write_json(temporary / "state.json", {**vars(state), "optimizer": numbers})
        write_json(temporary / "manifest.json", {"files": _sums(temporary)})
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        fsync_folder(folder)
    except OSError as error:
        raise ResourceError(
            f"Could not save {final}: {error.strerror or error}. The checkpoint before it is intact; free some space."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def load_latest(
    folder: Path, module: nn.Module, optimizer: Optimizer
) -> tuple[State, dict[str, Tensor] | None, list[str]]:
    """Restore the newest checkpoint that is whole.

    Returns:
        The state (of step 0 where there is no checkpoint), the best epoch's weights or None, and what was wrong with
        each damaged one.

    Raises:
        CheckpointError: there are checkpoints, and none is whole or none fits the model.
    """
    for leftover in folder.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    damages: list[str] = []
    found = checkpoints(folder)
    for path in reversed(found):
        damage = verify(path)
        if damage is not None:
            damages.append(damage)
            continue
        try:
            module.load_state_dict(load_file(path / "model.safetensors"))
            values = read_json(path / "state.json")
            _restore_optimizer(optimizer, load_file(path / "optimizer.safetensors"), values.pop("optimizer"))
        except (RuntimeError, LookupError, SafetensorError) as error:
            raise CheckpointError(
                f"{path} belongs to another model ({str(error).splitlines()[0]}); start beside it with --new."
            ) from error
        best = path / "best.safetensors"
        return State(**values), load_file(best) if best.exists() else None, damages
    if found:
        raise CheckpointError(f"No checkpoint in {folder} is whole: {'; '.join(damages)}. Start anew with --new.")
    return State(), None, damages


def verify(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        expected = read_json(path / "manifest.json")["files"]
        actual = _sums(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path.name}: manifest.json can't be read ({type(error).__name__})"
    for name, entry in expected.items():
        if name not in actual:
            return f"{path.name}: {name} is missing"
        if actual[name] != entry:
            return f"{path.name}: {name} has changed since it was saved"
    return None


def _sums(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(p for p in folder.iterdir() if p.name != "manifest.json" and p.is_file())
    return {p.name: {"bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files}


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, in row-major order, sharing no memory."""
    return {name: t.detach().to("cpu", memory_format=torch.contiguous_format, copy=True) for name, t in tensors.items()}


def _flatten_optimizer(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                numbers[f"{index}.{name}"] = value
    return tensors, numbers


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *numbers.items()]:
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)  # channels last, as it was: the same sums, as fast
        state.setdefault(int(index), {})[name] = value
    full = optimizer.state_dict()
    full["state"] = state
    optimizer.load_state_dict(full)
