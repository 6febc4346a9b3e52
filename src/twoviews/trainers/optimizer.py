"""Optimizers, their parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from twoviews.settings import TrainingSettings

REFERENCE_BATCH = 256  # base_lr is per this many images


def peak_lr(settings: TrainingSettings, batch_size: int) -> float:
    """The highest learning rate: base_lr scaled by the batch (SimCLR paper, section 2.2 and appendix B.1)."""
    ratio = batch_size / REFERENCE_BATCH
    scale = {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[settings.lr_scaling]
    return settings.base_lr * scale


def schedule(settings: TrainingSettings, batch_size: int, steps_per_epoch: int) -> dict[str, Any]:
    """What ``lr_at`` needs beside the step; the warm-up takes at most half of the steps."""
    return {
        "steps": settings.epochs * steps_per_epoch,
        "warmup_steps": round(min(settings.warmup_epochs, settings.epochs / 2) * steps_per_epoch),
        "peak": peak_lr(settings, batch_size),
    }


def lr_at(step: int, *, steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up to ``peak``, then a cosine that reaches 0 after the last step; steps count from 0."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


# Names of what comes pretrained: the backbone, and layers of the projection head that a classifier keeps.
_PRETRAINED = ("backbone.", "head.projection.")


def parameter_groups(
    module: nn.Module, weight_decay: float, backbone_lr_scale: float = 1.0, *, decay_all: bool = False
) -> list[dict]:
    """Groups with and without weight decay, for what comes pretrained and the rest.

    Biases and BatchNorm have no decay, as in SimCLR (Chen et al. 2020, appendix B.1), unless ``decay_all``. timm's
    LARS ties its adaptation to the decay: with ``decay_all`` it adapts their steps too.

    Each group carries ``lr_scale``, the factor on the scheduled learning rate. Frozen parameters are left out.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if decay_all or parameter.ndim > 1 else 0.0
        scale = backbone_lr_scale if name.startswith(_PRETRAINED) else 1.0
        groups.setdefault((decay, scale), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), parameters in groups.items()
    ]


def build_optimizer(
    module: nn.Module, settings: TrainingSettings, backbone_lr_scale: float = 1.0, *, fused: bool = True
) -> Optimizer:
    """SGD with Nesterov momentum, AdamW, or LARS (You et al. 2017) as timm has it.

    ``fused`` updates all weights in one pass over them, for SGD and AdamW.
    """
    groups = parameter_groups(module, settings.weight_decay, backbone_lr_scale, decay_all=settings.decay_all)
    lr = settings.base_lr  # set anew at each step
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=fused, foreach=not fused)
    if settings.optimizer == "lars":
        from timm.optim import Lars

        optimizer: Optimizer = Lars(groups, lr=lr, momentum=settings.momentum)
        return optimizer
    nesterov = settings.momentum > 0
    return torch.optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=nesterov, fused=fused, foreach=not fused)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Give each group its share of the scheduled learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def parameters_of(optimizer: Any) -> list[nn.Parameter]:
    """All that an optimizer updates, group by group."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def norm_of(gradients: list[Tensor]) -> Tensor:
    """L2 norm of all gradients together, 0-dimensional, on their device."""
    if gradients[0].device.type != "cpu":
        return nn.utils.get_total_norm(gradients)
    # Three times as fast as torch's norm, which is slow where tensors are channels last.
    return torch.stack([torch.dot(flat, flat) for flat in map(_in_memory_order, gradients)]).sum().sqrt()


def _in_memory_order(tensor: Tensor) -> Tensor:
    """The numbers of a tensor as they lie, without a copy where they lie side by side."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1)
