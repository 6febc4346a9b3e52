"""A new run from the weights of one that is there: other settings, a fresh optimizer, step 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from twoviews.errors import CheckpointError
from twoviews.files import read_json
from twoviews.trainers.checkpoint import newest_whole
from twoviews.trainers.weights import read_weights, save_weights

START = "models/start.safetensors"


def copy_weights(source: Path, target: Path) -> None:
    """Copy a run's weights into a new run's folder, so that it begins from them however often it is started.

    They are the model of a finished run, else those of its newest whole checkpoint.

    Raises:
        CheckpointError: the run has none, or they are damaged.
    """
    tensors, step = _weights_of(source)
    origin = {"path": str(source), "step": step, "run_id": _run_id(source)}
    save_weights(target / START, tensors, {"forked_from": origin})


def origin_of(folder: Path) -> dict[str, Any]:
    """``forked_from`` of a forked run: path, step (None: a finished model without checkpoints) and run_id; else {}."""
    path = folder / START
    return {"forked_from": read_weights(path)[1]["forked_from"]} if path.exists() else {}


def load_start(module: nn.Module, folder: Path) -> str | None:
    """Load the weights that a forked run begins from; returns a line about them, or None for any other run.

    Raises:
        CheckpointError: they are damaged, or not of this model.
    """
    path = folder / START
    if not path.exists():
        return None
    tensors, about = read_weights(path)
    origin = about["forked_from"]
    wanted = module.state_dict()
    fitting = [name for name, tensor in wanted.items() if name in tensors and tensors[name].shape == tensor.shape]
    if len(fitting) < len(wanted) or tensors.keys() - wanted.keys():
        wrong = next(name for name in [*wanted, *tensors] if name not in fitting)
        raise CheckpointError(
            f"--fork: {len(fitting)} of the model's {len(wanted)} tensors fit the {len(tensors)} of {origin['path']} "
            f"({wrong} does not): a fork keeps backbone, stem and head; for the backbone alone name a weights file "
            "with --init."
        )
    module.load_state_dict(tensors)
    at = "" if origin["step"] is None else f" at step {origin['step']}"
    return f"from the weights of {origin['path']}{at}; optimizer and steps begin anew"


def _weights_of(source: Path) -> tuple[dict[str, Tensor], int | None]:
    """A run's weights under the names of its training module, and their step."""
    found, _ = newest_whole(source / "checkpoints")
    if found is not None:
        best = found / "best.safetensors"
        finished = (source / "results.json").exists()
        try:
            tensors = load_file(best if finished and best.exists() else found / "model.safetensors")
            return tensors, int(read_json(found / "state.json")["step"])
        except (OSError, SafetensorError) as error:  # a run that is being trained deletes its old checkpoints
            raise CheckpointError(
                f"{found} went away while it was read ({type(error).__name__}); try again."
            ) from error
    models = source / "models"
    if (models / "classifier.safetensors").exists():
        tensors, _ = read_weights(models / "classifier.safetensors")
        heads = {f"head.{name.removeprefix('fc.')}": t for name, t in tensors.items() if name.startswith("fc.")}
        return {**heads, **{f"backbone.{k}": t for k, t in tensors.items() if not k.startswith("fc.")}}, None
    if (models / "projection_head.safetensors").exists():
        parts = {name: read_weights(models / f"{name}.safetensors")[0] for name in ("backbone", "projection_head")}
        return {f"{part}.{name}": t for part, tensors in parts.items() for name, t in tensors.items()}, None
    raise CheckpointError(f"--fork: {source} has no checkpoint and no finished model yet; leave --fork out to go on.")


def _run_id(source: Path) -> str | None:
    try:
        value = read_json(source / "environment.json").get("run_id")
    except (OSError, ValueError, AttributeError):
        return None  # it only names the origin; the weights were checked
    return value if isinstance(value, str) else None
