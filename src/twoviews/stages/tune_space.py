"""What a recipe sweep tries: the same settings, drawn alike for the baseline and for fine-tuning.

Trial 0 is the recipe as it is. The others are points of a Sobol sequence, which covers a space of several settings
more evenly than a grid or chance does (Bergstra and Bengio 2012, section 3), and of which any first part is a design of
its own: the first ten trials of a hundred are the ten of ``--tune 10``.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from twoviews.settings import ClassifierSettings, FinetuneSettings, StudyCommand

Kind = Literal["supervised", "finetune"]
KINDS: tuple[Kind, ...] = ("supervised", "finetune")
NAMES = {"supervised": "baseline", "finetune": "fine-tuning"}

# Ranges; "times" means times the recipe's value. All but the jitter's are covered evenly on a logarithmic scale.
LR_TIMES = (1 / 4, 4.0)
WEIGHT_DECAY_TIMES = (1 / 10, 10.0)
SMALLEST_CROP = (0.08, 0.8)  # share of the image's area; the largest crop stays the recipe's
JITTER = (0.0, 1.0)  # probability
GRAYSCALE_OF_JITTER = 1 / 4  # as in SimCLR: 0.2 beside 0.8
EPOCHS_TIMES = (1 / 2, 2.0)
BACKBONE_LR_SCALE = (0.1, 1.0)  # fine-tuning alone has it

_AXES = ("base_lr", "weight_decay", "crop_scale", "jitter", "epochs", "backbone_lr_scale")
_SALT = 0x7C4E  # keeps the draw apart from others of the same seed


def recipes(kind: Kind, settings: StudyCommand) -> list[Any]:
    """The settings of each trial, ``settings.tune`` of them, as the final stage would take them.

    Both kinds get the same values of what both have, relative to their own recipe, and the same epochs in all, so that
    they see equally many images: trial 1 has the other kind's epochs (the same, if the recipes agree), and from trial 2
    on the epochs are multiples of the mean of both. Where ``--minutes`` limits the study, none has more than that.
    """
    own: ClassifierSettings = getattr(settings, kind)
    other = settings.finetune if kind == "supervised" else settings.supervised
    mean_epochs = (own.epochs + other.epochs) / 2
    longest = EPOCHS_TIMES[1] if settings.minutes is None else 1.0
    found = [own]
    for number, point in enumerate(design(settings.tune - 1, settings.seed), start=1):
        at = dict(zip(_AXES, point.tolist(), strict=True))
        times = between(at["epochs"], EPOCHS_TIMES[0], longest)
        epochs = other.epochs if number == 1 else max(1, round(mean_epochs * times))
        found.append(_changed(own, at, epochs))
    return found


def searched(settings: ClassifierSettings) -> dict[str, Any]:
    """What the trials vary, with its values here; the epochs apart."""
    names = ["base_lr", "weight_decay", "crop_scale", "jitter", "grayscale"]
    if _has_backbone_lr(settings):
        names.append("backbone_lr_scale")
    return {name: getattr(settings, name) for name in names}


def design(count: int, seed: int) -> npt.NDArray[np.float64]:
    """The first ``count`` points of the seed's design: count×6, in [0, 1).

    A Sobol sequence, moved by a random vector modulo 1 (Cranley and Patterson 1976). The shift comes from a bit stream
    that does not change with versions, so that a sweep goes on with the design it began with.
    """
    axes = len(_AXES)
    if count < 1:
        return np.empty((0, axes))
    sequence = qmc.Sobol(axes, scramble=False).random_base2((count - 1).bit_length())[:count]
    shift = np.random.Generator(np.random.PCG64([seed, _SALT])).random(axes)
    moved: npt.NDArray[np.float64] = (sequence + shift) % 1.0
    return moved


def between(at: float, low: float, high: float) -> float:
    """The point at ``at`` in [0, 1] of the way from ``low`` to ``high`` on a logarithmic scale; both above 0."""
    return float(low * (high / low) ** at)


def _changed(own: ClassifierSettings, at: dict[str, float], epochs: int) -> ClassifierSettings:
    kind = type(own)
    high = own.crop_scale[1]
    decay = own.weight_decay or kind.model_fields["weight_decay"].default
    smallest = between(at["crop_scale"], min(SMALLEST_CROP[0], high), min(SMALLEST_CROP[1], high))
    jitter = round(JITTER[0] + (JITTER[1] - JITTER[0]) * at["jitter"], 2)
    changes = {
        "base_lr": _short(own.base_lr * between(at["base_lr"], *LR_TIMES)),
        "weight_decay": _short(decay * between(at["weight_decay"], *WEIGHT_DECAY_TIMES)),
        "crop_scale": (min(high, _short(smallest)), high),
        "jitter": jitter,
        "grayscale": jitter * GRAYSCALE_OF_JITTER,
        "epochs": epochs,
        "warmup_epochs": own.warmup_epochs * epochs / own.epochs,
    }
    if _has_backbone_lr(own):
        changes["backbone_lr_scale"] = _short(between(at["backbone_lr_scale"], *BACKBONE_LR_SCALE))
    return kind.model_validate({**own.model_dump(), **changes})


def _has_backbone_lr(settings: ClassifierSettings) -> bool:
    return isinstance(settings, FinetuneSettings) and not settings.freeze_backbone


def _short(value: float) -> float:
    """To three digits: nobody wants to type more of them again."""
    return float(f"{value:.3g}")
