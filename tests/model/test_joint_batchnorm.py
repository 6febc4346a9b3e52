"""Joining BatchNorm over processes leaves everything else that a backbone computes as it is."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from twoviews.errors import SettingsError
from twoviews.model.batchnorm import join_batchnorm


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "regnety_002", "mobilenetv3_small_050"])
def test_a_joined_backbone_is_the_same_function(name: str, on_gpu: bool) -> None:
    """regnety and mobilenetv3 have timm's BatchNorm with the activation in it."""
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=0).eval()
    joined = join_batchnorm(copy.deepcopy(backbone), on_gpu=on_gpu)
    kinds = {type(m).__name__ for m in joined.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert kinds <= ({"SyncBatchNorm", "SyncBatchNormAct"} if on_gpu else {"JointBatchNorm", "JointBatchNormAct"})
    assert list(joined.state_dict()) == list(backbone.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(joined(x), backbone(x))


def test_a_batchnorm_that_computes_something_else_is_refused() -> None:
    class Shifted(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) + 1

    module = nn.Sequential(nn.Conv2d(3, 4, 1), Shifted(4))
    for on_gpu in (False, True):
        with pytest.raises(SettingsError, match="its layer 1 is a Shifted"):
            join_batchnorm(module, on_gpu=on_gpu)
