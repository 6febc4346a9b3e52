"""3×3 convolutions by minimal filtering: the direct convolution's values and gradients, within float32's rounding."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_convolution import error
from torch import Tensor, nn

from twoviews.model import convolution, winograd
from twoviews.model.convolution import speed_up_convolutions
from twoviews.model.winograd import Winograd


def check(x: Tensor, weight: Tensor) -> None:
    x, weight = x.contiguous(memory_format=torch.channels_last).requires_grad_(), weight.requires_grad_()
    upstream = torch.randn(len(x), len(weight), *x.shape[2:])
    out = Winograd.apply(x, weight)
    ours = [out, *torch.autograd.grad(out, [x, weight], upstream)]
    x64, weight64 = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    exact = F.conv2d(x64, weight64, padding=1)
    theirs = [exact, *torch.autograd.grad(exact, [x64, weight64], upstream.double())]
    assert out.is_contiguous(memory_format=torch.channels_last)
    for mine, right in zip(ours, theirs, strict=True):
        assert error(mine.double(), right) < 5e-6


@pytest.mark.parametrize("tile", [2, 3, 4])
def test_points_give_the_correlation_of_three_taps(tile: int) -> None:
    to_points, kernel, to_pixels = winograd._matrices(tile)
    generator = np.random.default_rng(0)
    pixels, taps = generator.normal(size=tile + 2), generator.normal(size=3)
    ours = to_pixels @ ((kernel @ taps) * (to_points @ pixels))
    np.testing.assert_allclose(ours, np.correlate(pixels, taps, mode="valid"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (3, 4), (4, 10), (9, 2)])
@pytest.mark.parametrize("images", [1, 5])
def test_values_and_gradients_are_those_of_float64(
    size: tuple[int, int], images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few tiles at a time that the five images are several blocks, the last of them smaller.
    monkeypatch.setattr(winograd, "_TILES_AT_A_TIME", 8)
    torch.manual_seed(0)
    check(torch.randn(images, 8, *size), torch.randn(12, 8, 3, 3))


def test_rounding_does_not_grow_with_the_channels() -> None:
    torch.manual_seed(0)
    check(torch.rand(16, 512, 4, 4), torch.randn(512, 512, 3, 3))


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_only_the_gradient_that_is_asked_for(frozen: str) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 6, 6), torch.randn(4, 4, 3, 3)
    asked = weight if frozen == "x" else x
    asked.requires_grad_()
    (ours,) = torch.autograd.grad(Winograd.apply(x, weight).square().sum(), asked)
    (theirs,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), asked)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_the_same_bits_each_time() -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 64, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(128, 64, 3, 3, requires_grad=True)
    results = []
    for _ in range(3):
        out = Winograd.apply(x, weight)
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, weight])])
    for again in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(again, results[0], strict=True))


@pytest.mark.parametrize(
    ("channels", "images", "size", "with_avx2", "with_avx512"),
    [
        (128, 64, (3, 3), True, True),
        (128, 16, (8, 8), True, True),
        (64, 128, (4, 4), True, False),  # one tile: too few channels with AVX-512
        (32, 128, (4, 4), False, False),  # and with both
        (64, 128, (8, 8), False, False),  # too few channels for several tiles
        (128, 16, (6, 6), True, False),  # too few for tiles that save less
        (256, 16, (6, 6), True, True),
        (255, 16, (6, 6), True, False),
        (127, 16, (8, 8), False, False),  # a channel too few for tiles that save much
        (128, 64, (5, 5), False, False),  # tiles reach far beyond the map
        (256, 64, (5, 5), False, False),
        (512, 16, (8, 8), True, False),  # too few tiles for so many channels
        (512, 32, (8, 8), True, True),
        (520, 16, (8, 8), False, False),
        (91, 64, (4, 4), True, True),  # one tile: 64·128 pairs
        (90, 64, (4, 4), True, False),
        (128, 63, (4, 4), False, False),  # too few tiles
        (128, 64, (2, 2), False, False),  # one matrix
        (128, 512, (1, 1), False, False),  # a pixel is no map
    ],
)
@pytest.mark.parametrize(("trained", "vectors"), [(True, "AVX2"), (False, "AVX2"), (True, "AVX512")])
def test_where_a_convolution_goes_this_way(
    channels: int,
    images: int,
    size: tuple[int, int],
    with_avx2: bool,
    with_avx512: bool,
    trained: bool,
    vectors: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    apply = Winograd.apply
    monkeypatch.setattr(Winograd, "apply", lambda *given: seen.append(1) or apply(*given))
    monkeypatch.setattr(convolution, "widest_vectors", lambda: vectors)
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, channels, 3, padding=1, bias=False).requires_grad_(trained)
    fast = speed_up_convolutions(copy.deepcopy(plain))
    x = torch.randn(images, channels, *size).contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(trained):
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-4)
    assert bool(seen) == (with_avx512 if vectors == "AVX512" else with_avx2)
    # Neither in bf16 nor on other processors.
    seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast(x[:1].expand_as(x))
    monkeypatch.setattr(convolution, "widest_vectors", lambda: "DEFAULT")
    fast(x)
    assert not seen


def test_one_image_without_a_batch_goes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "widest_vectors", lambda: "AVX2")
    fast = speed_up_convolutions(nn.Conv2d(128, 128, 3, padding=1, bias=False))
    assert fast(torch.randn(128, 8, 8)).shape == (128, 8, 8)
