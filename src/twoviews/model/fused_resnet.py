"""timm's ResNets with BatchNorm, shortcut and ReLU as one operation on CPUs; layers, names and weights are timm's.

What a block gives goes to the next one's first convolution and to its shortcut. It goes to them as two tensors in one
memory, whose gradients meet in the kernel (``batchnorm_relu_for_two``).
"""

from __future__ import annotations

from typing import TypeGuard

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from twoviews.model.batchnorm_relu import batchnorm_relu, batchnorm_relu_for_two, is_altered
from twoviews.model.batchnorm_start import kernels


def _shortcut(block: BasicBlock | Bottleneck, x: Tensor) -> Tensor:
    if block.downsample is None:
        return x
    if not isinstance(block.downsample, nn.Sequential):
        out: Tensor = block.downsample(x)
        return out
    *before, norm = block.downsample
    for layer in before:
        x = layer(x)
    return batchnorm_relu(norm, x, None)


class _FusedBlock:
    """What both kinds of block share; with attention, dropped paths or anti-aliasing a block goes timm's way."""

    def forward(self, x: Tensor) -> Tensor:
        return self.for_two(x, x)[0]

    def for_two(self, x: Tensor, again: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output twice, from its input twice, once for the shortcut."""
        if _has_more(self):
            out: Tensor = super().forward(x)  # type: ignore[misc]
            return out, out
        return batchnorm_relu_for_two(*self._last(x), _shortcut(self, again))

    def _last(self, x: Tensor) -> tuple[nn.Module, Tensor, nn.Module]:
        """The last BatchNorm, what goes into it, and the activation after the shortcut."""
        raise NotImplementedError


class FusedBasicBlock(_FusedBlock, BasicBlock):  # type: ignore[misc]
    """timm's BasicBlock."""

    def _last(self, x: Tensor) -> tuple[nn.Module, Tensor, nn.Module]:
        hidden = batchnorm_relu(self.bn1, self.conv1(x), self.act1)
        return self.bn2, self.conv2(hidden), self.act2


class FusedBottleneck(_FusedBlock, Bottleneck):  # type: ignore[misc]
    """timm's Bottleneck."""

    def _last(self, x: Tensor) -> tuple[nn.Module, Tensor, nn.Module]:
        hidden = batchnorm_relu(self.bn1, self.conv1(x), self.act1)
        hidden = batchnorm_relu(self.bn2, self.conv2(hidden), self.act2)
        return self.bn3, self.conv3(hidden), self.act3


class FusedResNet(ResNet):  # type: ignore[misc]
    """timm's ResNet, whose stem is fused too."""

    def forward_features(self, x: Tensor) -> Tensor:
        if self.grad_checkpointing:
            out: Tensor = super().forward_features(x)
            return out
        x, again = batchnorm_relu_for_two(self.bn1, self.conv1(x), self.act1)
        if type(self.maxpool) is not nn.Identity or is_altered(self.maxpool):
            x = again = self.maxpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x, again = _through(stage, x, again)
        return x


def _through(stage: nn.Module, x: Tensor, again: Tensor) -> tuple[Tensor, Tensor]:
    """A stage's blocks, each by its input twice; where somebody looks on, by one tensor that has the whole gradient."""
    if type(stage) is not nn.Sequential or is_altered(stage):
        x = stage(x)
        return x, x
    for block in stage:
        if _is_as_made(block):
            x, again = block.for_two(x, again)
        else:
            x = again = block(x)
    return x, again


def _is_as_made(block: nn.Module) -> TypeGuard[FusedBasicBlock | FusedBottleneck]:
    return type(block) in (FusedBasicBlock, FusedBottleneck) and not _holds_altered(block)


def _holds_altered(module: nn.Module) -> bool:
    """Whether it or anything in it is. Asked at every step, and so without ``modules()``, which takes its time."""
    return is_altered(module) or any(_holds_altered(child) for child in module._modules.values() if child is not None)


def _has_more(block: BasicBlock | Bottleneck) -> bool:
    is_plain = isinstance(block.drop_block, nn.Identity) and isinstance(block.aa, nn.Identity)
    return not is_plain or block.se is not None or block.drop_path is not None


_FUSED: dict[type[nn.Module], type[nn.Module]] = {
    BasicBlock: FusedBasicBlock,
    Bottleneck: FusedBottleneck,
    ResNet: FusedResNet,
}


def fuse_resnets(module: nn.Module) -> nn.Module:
    """Make the ResNets of ``module`` and their blocks fused ones, in place, where this machine has the kernels."""
    found = [child for child in module.modules() if type(child) in _FUSED]
    if found and kernels() is not None:
        for child in found:
            child.__class__ = _FUSED[type(child)]
    return module
