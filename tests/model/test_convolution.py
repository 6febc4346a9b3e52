"""Convolutions for CPUs: oneDNN's values, and gradients within rounding of its float32 ones."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from twoviews.model import convolution
from twoviews.model.convolution import CpuConv2d, speed_up_convolutions
from twoviews.model.resnet50 import create_backbone
from twoviews.processor import multiplies_in_bf16


def gradients(conv: nn.Module, x: Tensor, upstream: Tensor, *, bf16: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of the input, gradient of the weights."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = conv(x)
    (for_input, for_weight) = torch.autograd.grad(out, [x, conv.weight], upstream.to(out.dtype))
    return out.float(), for_input.float(), for_weight


def error(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (6, 4), (7, 8)])
def test_gradients_are_those_of_a_float32_convolution(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 16, kernel, stride, kernel // 2, bias=False)
    fast = speed_up_convolutions(copy.deepcopy(plain))
    assert isinstance(fast, CpuConv2d)
    x = torch.randn(4, 8, *size).contiguous(memory_format=torch.channels_last)
    upstream = torch.randn_like(plain(x))
    exact = gradients(plain, x, upstream, bf16=False)
    onednn = gradients(plain, x, upstream, bf16=True)
    ours = gradients(fast, x, upstream, bf16=True)
    assert torch.equal(ours[0], onednn[0])
    # Not within what oneDNN is off by: its own gradient reads memory that nobody wrote, of 2×2 pixels with stride 3.
    # A processor that does not multiply in bf16 adds up in it too.
    limit = 4e-3 if multiplies_in_bf16() else 1e-2
    for mine, right in zip(ours, exact, strict=True):
        assert error(mine, right) < limit


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(2, 2), (3, 3), (6, 4), (7, 8)])
def test_float32_gradients_are_those_of_float64(
    kernel: int, stride: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 16, kernel, stride, kernel // 2, bias=False)
    fast = speed_up_convolutions(copy.deepcopy(plain))
    x = torch.randn(4, 8, *size).contiguous(memory_format=torch.channels_last)
    upstream = torch.randn_like(plain(x))
    exact = gradients(copy.deepcopy(plain).double(), x.double(), upstream.double(), bf16=False)
    patches = convolution._Ways(dict.fromkeys(convolution._BF16.products, (16, 8)))
    monkeypatch.setattr(convolution, "_FLOAT32", {convolution.widest_vectors(): patches})
    ours = gradients(fast, x, upstream, bf16=False)
    assert torch.equal(ours[0], plain(x))
    for mine, right in zip(ours, exact, strict=True):
        assert error(mine.double(), right.double()) < 1e-6
    # With few pixels it was this module's gradient, and with fewer channels than the rule has it would not be.
    assert ("_Convolution" in type(fast(x).grad_fn).__name__) == (upstream[0, 0].numel() <= 16)
    narrow = speed_up_convolutions(nn.Conv2d(7, 16, kernel, stride, kernel // 2, bias=False))
    assert "_Convolution" not in type(narrow(x[:, :7]).grad_fn).__name__


@pytest.mark.parametrize("vectors", ["AVX2", "AVX512"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_the_gradient_of_the_weights_is_a_product_up_to_the_table_s_limits(
    vectors: str, kernel: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "widest_vectors", lambda: vectors)
    pixels, channels = convolution._FLOAT32[vectors].products[kernel, stride]
    side = math.isqrt(pixels)

    def is_product(side: int, channels: int) -> bool:
        conv = speed_up_convolutions(nn.Conv2d(channels, 8, kernel, stride, kernel // 2, bias=False))
        return "_Convolution" in type(conv(torch.randn(2, channels, stride * side, stride * side)).grad_fn).__name__

    assert is_product(side, channels)
    assert not is_product(side + 1, channels)
    assert channels == 1 or not is_product(side, channels - 1)


def test_what_does_not_fit_together_is_pytorch_s_to_say() -> None:
    fast = speed_up_convolutions(nn.Conv2d(8, 8, 3, padding=1, bias=False))
    with pytest.raises(RuntimeError, match="8 channels"):
        fast(torch.randn(32, 4, 2, 2))
    with pytest.raises(RuntimeError, match="type"):
        fast.double()(torch.randn(32, 8, 2, 2))


def test_in_float32_on_other_processors_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "widest_vectors", lambda: "DEFAULT")
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 16, 3, 2, 1, bias=False)
    fast = speed_up_convolutions(copy.deepcopy(plain))
    x = torch.randn(4, 8, 4, 4)
    upstream = torch.randn_like(plain(x))
    for a, b in zip(gradients(fast, x, upstream, bf16=False), gradients(plain, x, upstream, bf16=False), strict=True):
        assert torch.equal(a, b)


def test_only_plain_convolutions_are_replaced() -> None:
    others = [
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(8, 8, 3, padding=0, bias=False),
        nn.Conv2d(8, 8, 3, padding="same", bias=False),
        nn.Conv2d(8, 8, (1, 3), padding=(0, 1), bias=False),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", bias=False),
    ]
    assert not any(isinstance(m, CpuConv2d) for m in speed_up_convolutions(nn.Sequential(*others)))


def test_a_backbone_keeps_its_weights_and_names() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("resnet18_w16", "small")
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    fast = speed_up_convolutions(backbone)
    assert sum(isinstance(m, CpuConv2d) for m in fast.modules()) == 20
    after = fast.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_frozen_weights_still_pass_the_gradient_on() -> None:
    torch.manual_seed(0)
    fast = speed_up_convolutions(nn.Conv2d(8, 16, 3, 2, 1, bias=False))
    fast.requires_grad_(False)
    x = torch.randn(4, 8, 4, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast(x).float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
