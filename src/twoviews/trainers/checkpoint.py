"""Checkpoints: a folder each, whole or not there, checked by SHA-256 before use; the last two are kept.

``checkpoints/step-00000123/`` holds ``model.safetensors``, ``optimizer.safetensors``, ``state.json`` and, written
last, ``manifest.json`` with the size and SHA-256 of each file. The folder is written under a temporary name beside its
final place, flushed to disk, renamed, and read back before an older one is deleted. ``checkpoints/LATEST`` names the
newest for people and scripts; a run itself looks for the newest that is whole.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from twoviews import disk
from twoviews.errors import CheckpointError, ResourceError
from twoviews.files import read_json, write_text
from twoviews.trainers.manifest import MANIFEST, manifest, verify

KEEP = 2
LATEST = "LATEST"
_ADVICE = "The checkpoint before it is intact: free some space, and the same command goes on from there."


@dataclass
class State:
    """What a run needs beside its weights to go on as if it had never stopped.

    Attributes:
        step: optimizer steps done.
        sums: running sums of the unfinished epoch's scalars.
        losses: of the last steps, by which a jump of the loss is known.
        left_out: steps that are not trained on, since the loss jumped after them.
        rollbacks: how often it did, and the run went back.
        best: epoch and validation top-1 of the best epoch so far, where validation chooses.
        engine: state of the precision's gradient scaler.
        metrics_bytes: length of metrics.jsonl when this was saved; rows after it belong to steps that are redone.
        epoch_seconds, epoch_waited: what the unfinished epoch took so far, and how much of it was waiting for images.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    rollbacks: int = 0
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
    reach: int = 0,
) -> Path:
    """Save one checkpoint, read it back, and delete all but the last two; with ``reach``, see ``settle``.

    Raises:
        ResourceError: it could not be written, or not read back; the earlier ones are intact.
    """
    final = folder / f"step-{state.step:08d}"
    if final.exists() and verify(final) is None:
        settle(folder, state.step, reach)
        return final  # of a run that was stopped right after a save: the same step, the same state
    tensors, numbers = _flatten_optimizer(optimizer)
    contents = {"model.safetensors": save(contiguous(module.state_dict()))}
    contents["optimizer.safetensors"] = save(contiguous(tensors))
    if best_weights is not None:
        contents["best.safetensors"] = save(contiguous(best_weights))
    contents["state.json"] = json.dumps({**vars(state), "optimizer": numbers}, indent=2).encode()
    contents[MANIFEST] = manifest(contents)

    def attempt() -> None:
        disk.make_folder(folder)
        temporary = disk.temporary_folder(final)
        try:
            for name, content in contents.items():
                _write(temporary / name, content)
            disk.flush_folder(temporary)
            disk.usual_mode(temporary, folder=True)
            disk.remove_folder(final)
            disk.rename(temporary, final)
            disk.flush_folder(folder)
        except BaseException:
            with suppress(OSError):  # what made the save fail is on its way to the caller
                disk.remove_folder(temporary)
            raise

    disk.retried(attempt, final, size=sum(map(len, contents.values())), advice=_ADVICE)
    damage = verify(final, from_disk=True)
    if damage is not None:
        raise ResourceError(
            f"{folder}: a checkpoint can't be read back ({damage}): check the disk. The one before it is intact."
        )
    settle(folder, state.step, reach)
    return final


def settle(folder: Path, step: int, reach: int = 0) -> None:
    """What comes after a save, and at a resume where the run was stopped before it: LATEST, and the older ones go.

    Args:
        folder: of the checkpoints.
        step: of the newest.
        reach: a run that goes back when its loss jumps keeps one that is so many steps older than the newest, too.

    Raises:
        ResourceError: the disk does not let it.
    """
    pointer, name = folder / LATEST, f"step-{step:08d}\n"
    if not pointer.exists() or pointer.read_text(encoding="utf-8") != name:
        write_text(pointer, name)
    found = checkpoints(folder)
    behind = [path for path in found if step_of(path) <= max(0, step - reach)] if reach else []
    for old in found[:-KEEP]:
        if old in behind[-1:]:
            continue
        disk.retried(partial(disk.remove_folder, old), old, advice="An old checkpoint can't be deleted.")


def _write(path: Path, content: bytes) -> None:
    with disk.open_to_append(path) as stream:
        disk.write(stream, path, lambda opened: opened.write(content))
        disk.flush(stream, path)


def require_room(folder: Path, module: nn.Module, optimizer: str, *, keeps_best: bool, more: int = 0) -> None:
    """Refuse to begin where the checkpoints that a run keeps, and the one being written, will not fit.

    Args:
        folder: of the checkpoints.
        module: what is trained.
        optimizer: ``sgd``, ``adamw`` or ``lars``.
        keeps_best: the best epoch's weights are kept too.
        more: checkpoints than usual that are kept.

    Raises:
        ResourceError: too few bytes are free.
    """
    weights = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    one = weights * (2 + (optimizer == "adamw") + keeps_best)
    needed = one * max(1, KEEP + 1 + more - len(checkpoints(folder)))
    free = disk.room(folder)
    if free < needed:
        raise ResourceError(
            f"{folder}: checkpoints need {disk.in_bytes(needed)} ({disk.in_bytes(one)} each), "
            f"{disk.in_bytes(free)} are free: free some space or choose another folder with --out."
        )


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def step_of(checkpoint: Path) -> int:
    """How many steps were done when it was saved."""
    return int(checkpoint.name.removeprefix("step-"))


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
    path, damages = newest_whole(folder)
    if path is None:
        return State(), None, damages
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


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, or None where there is none yet; what is wrong with newer ones.

    Raises:
        CheckpointError: there are checkpoints, and none is whole.
    """
    damages: list[str] = []
    found = checkpoints(folder)
    for path in reversed(found):
        damage = verify(path)
        if damage is None:
            return path, damages
        damages.append(damage)
    if found:
        raise CheckpointError(f"No checkpoint in {folder} is whole: {'; '.join(damages)}. Start anew with --new.")
    return None, damages


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
