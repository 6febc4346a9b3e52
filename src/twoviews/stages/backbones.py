"""Backbones by name, with first weights, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from twoviews.model.resnet50 import (
    Stem,
    count_parameters,
    create_backbone,
    feature_width,
    require_size,
    resolve_stem,
)
from twoviews.settings import ModelSettings
from twoviews.stages.setup import Shared
from twoviews.trainers.progress import say
from twoviews.trainers.weights import load_backbone_weights, read_weights


def new_backbone(settings: ModelSettings, image_size: int, *, seed: int, init: str | None = None) -> nn.Module:
    """A backbone with weights that follow from the seed, or from ``init`` (a weights file, or ``timm``)."""
    stem = resolve_stem(settings.stem, image_size, settings.backbone)
    torch.manual_seed(seed)
    backbone = create_backbone(settings.backbone, stem, pretrained=init == "timm")
    asked = (getattr(settings, key, None) for key in ("view_size", "first_view_size"))
    for size in {image_size, *filter(None, asked)}:
        require_size(backbone, settings.backbone, size)
    if init is not None and init != "timm":
        tensors, _ = read_weights(Path(init))
        loaded = load_backbone_weights(backbone, tensors, init)
        if not loaded.as_it_is:
            say(loaded.sentence(init))
    return backbone


def about_model(settings: ModelSettings, shared: Shared, **more: Any) -> dict[str, Any]:
    """What someone needs to use the weights; kept inside the weights file."""
    return {
        "model": settings.backbone,
        "stem": resolve_stem(settings.stem, shared.image_size, settings.backbone),
        "image_size": shared.image_size,
        "mean": list(shared.splits.mean),
        "std": list(shared.splits.std),
        "data": shared.splits.name,
        **more,
    }


def backbone_from(about: dict[str, Any]) -> nn.Module:
    """An empty backbone as a weights file describes it."""
    stem: Stem = about.get("stem", "original")
    return create_backbone(about["model"], stem)


def say_model(name: str, settings: ModelSettings, module: nn.Module, shared: Shared) -> None:
    """Print the architecture and its size."""
    backbone = module.backbone
    assert isinstance(backbone, nn.Module)
    head = count_parameters(module) - count_parameters(backbone)
    say(
        f"{name}: {settings.backbone}, {resolve_stem(settings.stem, shared.image_size, settings.backbone)} stem, "
        f"{count_parameters(backbone):,} parameters, {feature_width(backbone)} features, "
        f"and a head of {head:,} parameters"
    )
