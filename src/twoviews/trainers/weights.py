"""Weights for others and from others: safetensors with timm's key names, and what is needed to use them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from twoviews.errors import CheckpointError
from twoviews.files import write_bytes
from twoviews.trainers.checkpoint import contiguous

MATCH = 0.99  # share of the backbone's tensors that a weights file must bring
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "encoder_q.", "resnet.")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "backbone")
# Older ones can be made to run code by a file, even with weights_only (CVE-2026-24747).
_SAFE_TORCH = (2, 10)
# Tensors of heads: of no use to a backbone, and no sign of a wrong file.
_HEADS = ("fc.", "head.", "classifier.", "projection_head.", "projector.", "projection.")


def save_weights(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write weights; ``about`` (model, stem, normalisation, ...) goes into the file's metadata as JSON."""
    metadata = {"twoviews": json.dumps(about), "format": "pt"}
    write_bytes(path, save(contiguous(tensors), metadata=metadata))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a .safetensors or PyTorch weights file, and what twoviews wrote about them ({} if foreign).

    Raises:
        CheckpointError: missing, damaged, a pickle that holds more than tensors, or one that this torch can't read
            safely.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get("twoviews", "{}"))
                if not isinstance(about, dict):
                    raise ValueError("its metadata is not what twoviews writes")
                return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
        _refuse_unsafe_torch(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole weights file: {str(error).splitlines()[0]}") from error
    except Exception as error:  # pickle.UnpicklingError: pages of advice, and somewhere what it refused
        refused = re.search(r"GLOBAL (\S+)|Unsupported [^\n]*", str(error))
        what = (refused[1] or refused[0]) if refused else type(error).__name__
        raise CheckpointError(
            f"{path} holds more than tensors ({what}) and is not loaded: save its state dict alone and try again."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no state dict.")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    return tensors, {}


def _refuse_unsafe_torch(path: Path) -> None:
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_TORCH:
        raise CheckpointError(
            f"{path} is not loaded: with torch {torch.__version__} such a file could run code (CVE-2026-24747); "
            f"install torch {'.'.join(map(str, _SAFE_TORCH))} or newer, or convert the file to .safetensors."
        )


@dataclass(frozen=True)
class Loaded:
    """What of a weights file went into a backbone.

    Attributes:
        tensors: of the backbone's, how many were there and had their shape.
        wanted: how many it has; BatchNorm's counters, which older files lack, count in neither.
        misfit: one that stayed as it was, and why; empty where there is none.
        unused: tensors of the file that are neither the backbone's nor a head's.
        prefixes: what was taken off the names.
    """

    tensors: int
    wanted: int
    misfit: str
    unused: int
    prefixes: tuple[str, ...]

    @property
    def as_it_is(self) -> bool:
        """Whether the file holds this backbone and its head: nothing missing, renamed or left over."""
        return not (self.misfit or self.unused or self.prefixes)

    def sentence(self, origin: str) -> str:
        """All of it in one line; ``origin``: what the file is called."""
        said = f"{self.tensors} of {self.wanted} tensors loaded from {origin}"
        said += f" ({self.misfit})" if self.misfit else ""
        said += f", {self.unused} others not used"
        return f"{said}; {', '.join(self.prefixes)} taken off their names" if self.prefixes else said


def load_backbone_weights(backbone: nn.Module, tensors: dict[str, Tensor], origin: str) -> Loaded:
    """Load a backbone from tensors that may carry a wrapper's prefixes and heads.

    Raises:
        CheckpointError: fewer than ``MATCH`` of the backbone's tensors are there with the right shape, or two
            different tensors have the same name once the prefixes are off.
    """
    wanted = backbone.state_dict()
    cleaned: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for name, tensor in tensors.items():
        plain = _strip(name, wanted)
        if plain in wanted and plain in cleaned and not torch.equal(tensor, cleaned[plain]):
            raise CheckpointError(
                f"{origin} holds two backbones: {names[plain]} and {name} differ; save the one to load alone."
            )
        cleaned[plain], names[plain] = tensor, name
    matched = {k: v for k, v in cleaned.items() if k in wanted and v.shape == wanted[k].shape}
    wrong = [k for k in cleaned if k in wanted and k not in matched]
    missing = [k for k in wanted if k not in matched and not k.endswith("num_batches_tracked")]
    needed = sum(not k.endswith("num_batches_tracked") for k in wanted)
    misfit = f"{wrong[0]} has another shape" if wrong else f"{missing[0]} is missing" if missing else ""
    if needed - len(missing) < MATCH * needed:
        raise CheckpointError(
            f"{origin}: only {needed - len(missing)} of the backbone's {needed} tensors fit ({misfit}); "
            "name the --backbone and --stem that the weights were trained with."
        )
    backbone.load_state_dict({**wanted, **matched})
    unused = sum(k not in wanted and not k.startswith(_HEADS) for k in cleaned)
    prefixes = {names[k].removesuffix(k) for k in matched} - {""}
    return Loaded(needed - len(missing), needed, misfit, unused, tuple(sorted(prefixes)))


def _strip(name: str, wanted: dict[str, Any]) -> str:
    while name not in wanted:
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix is None:
            return name
        name = name[len(prefix) :]
    return name
