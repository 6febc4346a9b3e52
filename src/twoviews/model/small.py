"""Small ResNets for small images, registered with timm under names of ours.

``resnet18_w16`` is a ResNet-18 (four stages of two basic blocks) with 16 to 128 channels in place of 64 to 512:
0.7 M parameters, made for 32-pixel images and two CPU cores. ``resnet18_w32`` has 32 to 256 channels and 2.8 M.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import nn


def _narrow_resnet18(width: int, pretrained: bool, **options: Any) -> ResNet:
    if pretrained:
        raise RuntimeError("there are no pretrained weights for the small nets")
    for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(key, None)
    net = ResNet(block=BasicBlock, layers=(2, 2, 2, 2), channels=(width, 2 * width, 4 * width, 8 * width), **options)
    # timm's plain stem is always 64 wide: most of the cost of so narrow a net.
    net.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    net.bn1 = nn.BatchNorm2d(width)
    net.layer1[0] = BasicBlock(width, width)
    net.init_weights(zero_init_last=True)
    return net


def resnet18_w16(pretrained: bool = False, **options: Any) -> ResNet:
    """ResNet-18 with 16, 32, 64, 128 channels."""
    return _narrow_resnet18(16, pretrained, **options)


def resnet18_w32(pretrained: bool = False, **options: Any) -> ResNet:
    """ResNet-18 with 32, 64, 128, 256 channels."""
    return _narrow_resnet18(32, pretrained, **options)


for _net in (resnet18_w16, resnet18_w32):
    register_model(_net)
