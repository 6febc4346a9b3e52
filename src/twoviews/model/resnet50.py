"""Backbones: ResNet-50 and any other timm model, with a stem that fits the image size.

A backbone maps N×3×H×W images to N×D pooled features (the paper's h; D = 2048 for ResNet-50). Its parameters keep
timm's names, so its weights load into ``timm.create_model`` of the same name.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from functools import cache
from typing import Literal

import timm
import torch
from torch import Tensor, nn

from twoviews.errors import DataError, SettingsError, first_line
from twoviews.model import small  # noqa: F401  registers our names with timm
from twoviews.model.modes import in_eval_mode

Stem = Literal["auto", "small", "small-pool", "original"]
SMALL_IMAGE = 40  # pixels; up to here the original stem would throw most of the picture away


def resolve_stem(stem: Stem, image_size: int, name: str) -> Stem:
    """``auto`` becomes ``small`` for a ResNet up to 40 pixels, else ``original``; by image size, not view size."""
    if stem != "auto":
        return stem
    return "small" if image_size <= SMALL_IMAGE and _has_resnet_stem(name) else "original"


@cache
def _has_resnet_stem(name: str) -> bool:
    require_name(name)
    with torch.device("meta"):  # weights that take no memory, and no numbers from the generator
        return _stem_of(timm.create_model(name, num_classes=0)) is not None


def _stem_of(backbone: nn.Module) -> nn.Conv2d | None:
    """The first convolution of a ResNet, which ``small`` can replace; None of another architecture."""
    conv = getattr(backbone, "conv1", None)
    is_resnet = isinstance(conv, nn.Conv2d) and isinstance(getattr(backbone, "maxpool", None), nn.Module)
    return conv if is_resnet else None


def require_name(name: str) -> None:
    """Refuse a name that ``create_backbone`` does not know, without creating anything.

    Raises:
        SettingsError: timm has no such model.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`timm.list_models()` lists the names."
        raise SettingsError(f"--backbone {name}: timm has no such model; {hint}")


def create_backbone(name: str, stem: Stem = "original", *, pretrained: bool = False) -> nn.Module:
    """A timm model that returns pooled features.

    Args:
        name: timm model name, or ``resnet18_w16`` / ``resnet18_w32``.
        stem: ``small``: 3×3 convolution of stride 1 and no pooling (SimCLR paper, appendix B.9, for CIFAR-10);
            ``small-pool``: the same with the pooling kept; ``original``: as timm has it.
        pretrained: load timm's weights (a download, if they are not in timm's cache).

    Raises:
        SettingsError: unknown name, or a stem that this architecture does not have.
        DataError: the pretrained weights can't be had.
    """
    require_name(name)
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:
        if not pretrained:
            raise
        reason = first_line(error)[:200]
        raise DataError(
            f"timm's pretrained weights of {name} can't be had ({reason}); with a network they are downloaded, "
            "or name a weights file with --init FILE."
        ) from error
    if stem in ("small", "small-pool"):
        _swap_stem(backbone, name, keep_pool=stem == "small-pool", keep_weights=pretrained)
    return backbone


def _swap_stem(backbone: nn.Module, name: str, *, keep_pool: bool, keep_weights: bool) -> None:
    conv = _stem_of(backbone)
    if conv is None:
        raise SettingsError(f"--stem small: {name} has no ResNet stem to swap; use --stem original.")
    swapped = nn.Conv2d(conv.in_channels, conv.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
    with torch.no_grad():
        if keep_weights and conv.kernel_size == (7, 7):
            swapped.weight.copy_(conv.weight[:, :, 2:5, 2:5])
        else:
            nn.init.kaiming_normal_(swapped.weight, mode="fan_out", nonlinearity="relu")
    backbone.conv1 = swapped
    if not keep_pool:
        backbone.maxpool = nn.Identity()


def feature_width(backbone: nn.Module) -> int:
    """D, the width of the backbone's features."""
    # Of a MobileNetV3, a VGG and others, timm's num_features is the width before the layer that comes last.
    width = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    assert isinstance(width, int)
    return width


def require_size(backbone: nn.Module, name: str, size: int) -> None:
    """Refuse a backbone that does not make N×D features of images of ``size`` pixels.

    Raises:
        SettingsError: some take one size alone, or none so small; a user's own may give another shape.
    """
    try:
        # Not inference_mode: what some models keep of a forward pass is trained with later.
        with in_eval_mode(backbone), torch.no_grad():
            shape = tuple(backbone(torch.zeros(1, 3, size, size)).shape)
    except Exception as error:
        reason = first_line(error).rstrip(".")
        raise SettingsError(
            f"--backbone {name} does not take images of {size} pixels ({reason}): name another, or another "
            "--image-size (and --view-size)."
        ) from error
    if shape != (1, feature_width(backbone)):
        raise SettingsError(
            f"--backbone {name} gives features of shape {shape}, not (1, {feature_width(backbone)}): name another."
        )


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters together."""
    return sum(p.numel() for p in module.parameters())


def freeze(module: nn.Module) -> None:
    """Stop gradients and keep BatchNorm in eval mode for good: its running statistics don't drift either."""
    module.requires_grad_(False)
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]


class Classifier(nn.Module):
    """A backbone with a head: N×3×H×W → N×classes logits.

    The head is a linear layer. With ``projection``, layers of a projection head (N×D → N×width) that the classifier
    keeps, it is these under a linear layer: ``head.projection`` and ``head.linear`` (SimCLR v2: Chen et al. 2020b,
    section 2, "Fine-tuning").
    """

    def __init__(self, backbone: nn.Module, classes: int, projection: nn.Sequential | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        width = feature_width(backbone)
        if projection is not None:
            width = [m.out_features for m in projection if isinstance(m, nn.Linear)][-1]
        linear = nn.Linear(width, classes)
        # Zero logits at the start: the first loss is log(classes), whatever the backbone's features are.
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.head: nn.Module = linear
        if projection is not None:
            self.head = nn.Sequential(OrderedDict(projection=projection, linear=linear))

    @property
    def linear(self) -> nn.Linear:
        """The layer that gives the logits."""
        layer = getattr(self.head, "linear", self.head)
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def projection(self) -> nn.Sequential | None:
        """The layers of a projection head that it keeps, or None."""
        layers = getattr(self.head, "projection", None)
        assert layers is None or isinstance(layers, nn.Sequential)
        return layers

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits
