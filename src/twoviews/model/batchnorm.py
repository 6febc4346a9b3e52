"""BatchNorm over the joint batch of all processes: on GPUs torch's SyncBatchNorm, which runs there alone, else ours.

SimCLR's statistics are those of the global 2N batch (Chen et al. 2020, section 2.2, "Global BN"): with statistics of
its own, each process could tell its positives by them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from twoviews.errors import SettingsError


class _SumOverProcesses(torch.autograd.Function):
    """all_reduce whose gradient is all_reduce: each process's loss depends on every process's input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class JointBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm1d/2d with the mean and variance of all processes' batches joined (N×C or N×C×H×W)."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected N×C or N×C×H×W, got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        x = input if input.dtype == torch.float64 else input.float()
        axes = [0] if x.dim() == 2 else [0, 2, 3]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        count = torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype, device=x.device)
        sums: Tensor = _SumOverProcesses.apply(torch.cat([x.sum(axes), (x * x).sum(axes), count]))
        channels = x.shape[1]
        mean = sums[:channels] / sums[-1]
        variance = (sums[channels:-1] / sums[-1] - mean * mean).clamp(min=0)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
                unbiased = variance * (sums[-1] / (sums[-1] - 1).clamp(min=1))
                momentum = 0.1 if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        out = (x - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)


class JointBatchNormAct(JointBatchNorm):
    """The same for timm's BatchNorm that holds the activation after it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = self.act(self.drop(super().forward(input)))
        return out


# Exactly these classes: a class derived from one of them computes something else besides, which would be lost.
_JOINT: dict[type[nn.Module], type[JointBatchNorm]] = {
    nn.BatchNorm1d: JointBatchNorm,
    nn.BatchNorm2d: JointBatchNorm,
    BatchNormAct2d: JointBatchNormAct,
}


def join_batchnorm(module: nn.Module, *, on_gpu: bool = False) -> nn.Module:
    """Replace every BatchNorm of ``module`` by one over all processes, weights and statistics kept.

    Raises:
        SettingsError: one is of a kind that can't be computed over several processes.
    """
    for name, child in module.named_modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and type(child) not in _JOINT:
            raise SettingsError(
                f"--backbone: its layer {name} is a {type(child).__name__}, whose statistics can't be taken over "
                "several processes; train it on one, or take another backbone."
            )
    if on_gpu:
        synchronised: nn.Module = convert_sync_batchnorm(module)  # torch's own would lose timm's activations
        return synchronised
    return _joined(module)


def _joined(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        kind = _JOINT.get(type(child))
        if kind is None:
            _joined(child)
            continue
        assert isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d))
        joint = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
        # The same tensors and parts: device, dtype and whether they are frozen stay as they were.
        joint._parameters, joint._buffers, joint._modules = child._parameters, child._buffers, child._modules
        joint.train(child.training)
        setattr(module, name, joint)
    return module
