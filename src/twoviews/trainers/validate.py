"""Loops without gradient over every image once: logits, features, validation loss and accuracy."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twoviews.dataset.augmentations import normalise
from twoviews.dataset.batches import Batches
from twoviews.dataset.images import ImageSet
from twoviews.model.modes import in_eval_mode
from twoviews.processor import image_layout
from twoviews.trainers.engine import Engine
from twoviews.trainers.out_of_memory import is_out_of_memory
from twoviews.trainers.progress import say

EVALUATION_BATCH = 256
# Images at a time that were found to fit, where it was fewer: not tried anew at every epoch.
_FITTING: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, in units of [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def forward_all(
    module: nn.Module,
    images: ImageSet | Batches,
    normalisation: Normalisation,
    engine: Engine,
    view: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> npt.NDArray[np.float32]:
    """The module's output for every image, in order, in eval mode: N×D float32.

    ``view`` makes of n×3×H×W uint8 images and their identities (n,) what the module sees of them, before
    normalisation; None: the images as they are.

    The module's training mode is put back; nothing random is drawn, so training goes on as if this had not run. Where
    memory runs out half as many images are taken at a time from there on, and it is said. In float32 their outputs may
    then differ in the last digits: for how many images a convolution goes which way is a rule.
    """
    batches = images if isinstance(images, Batches) else Batches(images, engine.device)
    together = min(_FITTING.get(engine, EVALUATION_BATCH), len(batches))
    outputs: list[Tensor] = []
    done = 0
    with in_eval_mode(module), torch.inference_mode(), engine.autocast():
        while done < len(batches):
            positions = torch.arange(done, min(done + together, len(batches)))
            try:
                outputs.append(_outputs(module, batches, positions, normalisation, view))
                done += together
                continue
            except (MemoryError, RuntimeError) as error:
                if together == 1 or not is_out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)  # which hold what was computed
            say(f"evaluation: {together} images at a time do not fit in memory: {together // 2} are taken")
            together = _FITTING[engine] = together // 2
    return torch.cat(outputs).numpy() if outputs else np.zeros((0, 0), np.float32)


def _outputs(
    module: nn.Module, batches: Batches, positions: Tensor, normalisation: Normalisation,
    view: Callable[[Tensor, Tensor], Tensor] | None,
) -> Tensor:  # fmt: skip
    pixels, rows, _ = batches.get(positions)
    seen = pixels if view is None else view(pixels, rows)
    x = normalise(seen, normalisation.mean, normalisation.std)
    output: Tensor = module(x.contiguous(memory_format=image_layout(x.device))).float().cpu()
    return output


def validate(
    module: nn.Module, images: ImageSet | Batches, normalisation: Normalisation, engine: Engine
) -> dict[str, float]:
    """Cross-entropy and top-1 on labelled images: ``val_loss``, ``val_top1``."""
    labels = images.images.labels if isinstance(images, Batches) else images.labels
    assert labels is not None
    return validation_scores(forward_all(module, images, normalisation, engine), labels)


def validation_scores(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """What ``validate`` says, from logits (N×classes) that are there already."""
    scores, target = torch.from_numpy(logits), torch.from_numpy(labels)
    return {
        "val_loss": float(F.cross_entropy(scores, target)),
        "val_top1": float((scores.argmax(dim=1) == target).double().mean()),
    }
