"""A convolution as one matrix: the values and gradients of PyTorch's, where it is taken, and where not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from twoviews.model import convolution, small_maps
from twoviews.model.convolution import speed_up_convolutions
from twoviews.model.small_maps import SmallMapConvolution, matrix_of


@pytest.fixture(autouse=True)
def has_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "multiplies_in_tiles", lambda: True)


def exact(x: Tensor, weight: Tensor, upstream: Tensor, stride: int) -> tuple[Tensor, ...]:
    x, weight = x.double().requires_grad_(), weight.double().requires_grad_()
    out = nn.functional.conv2d(x, weight, None, stride, weight.shape[2] // 2)
    return out, *torch.autograd.grad(out, [x, weight], upstream.double())


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 2), (4, 4), (5, 3)])
def test_values_and_gradients_are_those_of_float64(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 6, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(7, 6, kernel, kernel).requires_grad_()
    out: Tensor = SmallMapConvolution.apply(x, weight, stride, kernel // 2)
    assert out.is_contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(out.shape)
    ours = (out, *torch.autograd.grad(out, [x, weight], upstream))
    for mine, right in zip(ours, exact(x.detach(), weight.detach(), upstream, stride), strict=True):
        assert float(((mine.double() - right).norm() / right.norm()).detach()) < 1e-6


def test_the_matrix_holds_each_weight_where_it_lies_on_a_pixel() -> None:
    weight = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    # Output pixel (0, 0) of a 2×2 map sees itself by the kernel's middle, 5, and its neighbours by 6, 8 and 9.
    expected = [[5.0, 6.0, 8.0, 9.0], [4.0, 5.0, 7.0, 8.0], [2.0, 3.0, 5.0, 6.0], [1.0, 2.0, 4.0, 5.0]]
    assert matrix_of(weight, 2, 2, 1, 1).tolist() == expected
    assert matrix_of(weight, 1, 1, 1, 1).tolist() == [[5.0]]


def bf16(conv: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out: Tensor = conv(x)
    return out


def test_bf16_is_within_rounding_of_float32_with_gradients_and_without() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(64, 96, 3, padding=1, bias=False)
    fast = speed_up_convolutions(copy.deepcopy(plain))
    x = torch.randn(32, 64, 2, 2, requires_grad=True)
    out = bf16(fast, x)
    assert "SmallMap" in type(out.grad_fn).__name__
    with torch.no_grad():
        assert torch.equal(bf16(fast, x), out)
    out.float().square().sum().backward()
    assert x.grad is not None
    found = [out, x.grad, fast.weight.grad]
    other = x.detach().clone().requires_grad_()
    right = plain(other)
    right.square().sum().backward()
    for mine, theirs in zip(found, [right, other.grad, plain.weight.grad], strict=True):
        assert float(((mine.float() - theirs).norm() / theirs.norm()).detach()) < 1e-2


def test_frozen_weights_pass_the_gradient_on_and_a_first_layer_asks_for_none() -> None:
    conv = speed_up_convolutions(nn.Conv2d(8, 8, 3, padding=1, bias=False))
    images = torch.randn(4, 8, 2, 2)
    bf16(conv, images).float().sum().backward()
    assert conv.weight.grad is not None
    conv.requires_grad_(False)
    x = images.clone().requires_grad_()
    bf16(conv, x).float().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "size", "in_bf16", "in_float32"),
    [
        (64, 3, 1, 2, True, True),
        (64, 3, 1, 1, True, True),
        (64, 3, 2, 4, True, False),  # sixteen pixels come in, which pays with AMX
        (64, 3, 1, 3, False, False),  # nine pixels go out
        (64, 3, 2, 5, False, False),  # twenty-five come in
        (64, 1, 1, 2, False, False),  # is a matrix product as it is
        (1024, 3, 2, 4, False, False),  # 64 million numbers
    ],
)
def test_where_it_is_taken(
    channels: int, kernel: int, stride: int, size: int, in_bf16: bool, in_float32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = speed_up_convolutions(nn.Conv2d(channels, channels, kernel, stride, kernel // 2, bias=False))
    calls: list[torch.Size] = []
    way = small_maps.SmallMapConvolution.apply

    class Seen:
        @staticmethod
        def apply(x: Tensor, *rest: object) -> Tensor:
            calls.append(x.shape)
            out: Tensor = way(x, *rest)
            return out

    monkeypatch.setattr(small_maps, "SmallMapConvolution", Seen)
    x = torch.randn(16, channels, size, size)
    with torch.no_grad():
        bf16(conv, x[:1])
        assert bool(calls) == in_bf16
        calls.clear()
        monkeypatch.setattr(convolution, "multiplies_in_tiles", lambda: False)
        bf16(conv, x)
        assert not calls
        for vectors in ("AVX2", "AVX512", "DEFAULT"):
            calls.clear()
            monkeypatch.setattr(convolution, "widest_vectors", lambda name=vectors: name)
            conv(x[:15])
            assert not calls  # too few images to make the matrix for
            conv(x)
            assert bool(calls) == (in_float32 and vectors != "DEFAULT")
