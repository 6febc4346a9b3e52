"""The loss in tiles is the loss: held to the dense form in float64, wherever the borders fall, in bounded memory."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from test_info_nce import projections
from torch import Tensor

from twoviews.loss_functions import info_nce as chooser
from twoviews.loss_functions.info_nce import info_nce, info_nce_dense
from twoviews.loss_functions.tiles import LARGEST_LOGIT, info_nce_in_tiles

TEMPERATURES = [0.01, 1 / LARGEST_LOGIT, 0.05, 0.2, 1.0]


def unit(images: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(projections(images, width, seed, dtype), dim=1)


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative to the expected tensor's length."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def with_gradient(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("images", "rows"), [(2, 1), (2, 64), (7, 1), (7, 3), (7, 7), (12, 4), (12, 5), (12, 11)])
@pytest.mark.parametrize("separate", [False, True], ids=["symmetric", "candidates"])
def test_it_is_the_dense_form_in_float64(
    images: int, rows: int, temperature: float, separate: bool, decoupled: bool
) -> None:
    z = unit(images, 5, seed=images + 1).requires_grad_()
    c = z.clone() if separate else None
    loss, top1 = info_nce_in_tiles(z, c, temperature, rows=rows, decoupled=decoupled)
    expected, expected_top1 = info_nce_dense(z, None, temperature, decoupled=decoupled)
    for found, right in zip(with_gradient(loss, z), with_gradient(expected, z), strict=True):
        assert distance(found, right) < 1e-10
    assert 0 < float(top1) == float(expected_top1)
    assert not top1.requires_grad


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("separate", [False, True], ids=["symmetric", "candidates"])
def test_float32_is_right_to_five_digits(temperature: float, separate: bool, decoupled: bool) -> None:
    z = unit(150, 32, dtype=torch.float32).requires_grad_()
    exact = z.detach().double().requires_grad_()
    loss, top1 = info_nce_in_tiles(z, z.clone() if separate else None, temperature, rows=64, decoupled=decoupled)
    expected, expected_top1 = info_nce_dense(exact, None, temperature, decoupled=decoupled)
    for found, right in zip(with_gradient(loss, z), with_gradient(expected, exact), strict=True):
        assert found.dtype == torch.float32
        assert distance(found, right) < 1e-5
    assert float(top1) == pytest.approx(float(expected_top1))


@pytest.mark.parametrize("temperature", [0.01, 0.3])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)], ids=["both", "anchors", "candidates"])
def test_candidates_of_several_processes(temperature: float, wanted: tuple[bool, bool], decoupled: bool) -> None:
    # Of 10, 6 and 8 rows; the second process's are the anchors.
    parts = [unit(images, 6, seed=images) for images in (5, 3, 4)]
    anchors, candidates = (
        x.requires_grad_(w) for x, w in zip((parts[1].clone(), torch.cat(parts)), wanted, strict=True)
    )
    inputs = [x for x in (anchors, candidates) if x.requires_grad]
    expected, expected_top1 = info_nce_dense(anchors, candidates, temperature, first_row=10, decoupled=decoupled)
    right = with_gradient(expected, *inputs)
    for rows in (1, 2, 64):
        loss, top1 = info_nce_in_tiles(anchors, candidates, temperature, first_row=10, rows=rows, decoupled=decoupled)
        for found, exact in zip(with_gradient(loss, *inputs), right, strict=True):
            assert distance(found, exact) < 1e-10
        assert float(top1) == float(expected_top1)


@pytest.mark.parametrize("temperature", [0.015, 0.3])
def test_the_gradient_is_the_derivative(temperature: float, decoupled: bool) -> None:
    z, others = unit(3, 4).requires_grad_(), unit(2, 4, seed=1).requires_grad_()

    def loss(anchors: Tensor, candidates: Tensor | None, first_row: int = 0) -> Tensor:
        return info_nce_in_tiles(anchors, candidates, temperature, first_row, rows=2, decoupled=decoupled)[0]

    assert torch.autograd.gradcheck(lambda x: loss(x, None), (z,))
    assert torch.autograd.gradcheck(lambda x, o: loss(x, torch.cat([o, x]), 4), (z, others))


@pytest.mark.parametrize("separate", [False, True], ids=["symmetric", "candidates"])
@pytest.mark.parametrize("temperature", [0.01, 0.05])
def test_a_positive_that_is_nearly_sure_keeps_its_gradient(temperature: float, separate: bool) -> None:
    # Six images whose views are alike: a miss has a probability of e^-20, which 1 - p in float32 has lost.
    others = 1 - 20 * temperature  # the cosine of two images
    images = torch.cat([math.sqrt(1 - others) * torch.eye(6), torch.full((6, 1), math.sqrt(others))], dim=1)
    tilt = 0.01 * torch.randn(12, 7, generator=torch.Generator().manual_seed(0))
    z = F.normalize(images.repeat(2, 1) + tilt, dim=1).requires_grad_()
    exact = z.detach().double().requires_grad_()
    loss, _ = info_nce_in_tiles(z, z.clone() if separate else None, temperature, rows=4)
    expected, _ = info_nce_dense(exact, None, temperature)
    assert 1e-9 < float(expected.detach()) < 1e-7
    for found, right in zip(with_gradient(loss, z), with_gradient(expected, exact), strict=True):
        assert distance(found, right) < 1e-4


def test_opposite_views_at_the_ends_of_the_range_are_finite() -> None:
    for temperature in (1 / LARGEST_LOGIT, 0.001):
        z = torch.cat([torch.eye(4), -torch.eye(4)]).requires_grad_()
        loss, gradient = with_gradient(info_nce_in_tiles(z, None, temperature, rows=3)[0], z)
        assert float(loss) == pytest.approx(1 / temperature + math.log(6), rel=1e-6)
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_a_tie_is_not_a_hit(temperature: float) -> None:
    # A backbone that has collapsed finds nothing, whichever form computes it; exact in floating point.
    z = torch.eye(4)[[0] * 10]
    assert [float(form(z, None, temperature)[1]) for form in (info_nce_dense, info_nce_in_tiles)] == [0.0, 0.0]


@pytest.mark.parametrize("separate", [False, True], ids=["symmetric", "candidates"])
def test_autocast_changes_nothing(separate: bool) -> None:
    z = projections(300, 16, dtype=torch.float32).requires_grad_()
    assert len(z) ** 2 > chooser.TILES_FROM

    def run() -> list[Tensor]:
        return with_gradient(info_nce(z, 0.05, candidates=z.clone() if separate else None)[0], z)

    expected = run()
    with torch.autocast("cpu", torch.bfloat16):
        found = run()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("separate", [False, True], ids=["symmetric", "candidates"])
def test_both_sides_of_the_choice_agree(separate: bool, decoupled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    z = projections(260, 16).requires_grad_()

    def run() -> list[Tensor]:
        loss, top1 = info_nce(z, 0.1, candidates=z.clone() if separate else None, decoupled=decoupled)
        return [*with_gradient(loss, z), top1]

    tiles = run()
    monkeypatch.setattr(chooser, "TILES_FROM", math.inf)
    for found, right in zip(tiles, run(), strict=True):
        assert distance(found, right) < 1e-10


# Not getrusage: what it calls a process's peak begins at that of the process which started it.
PEAK = """
import pathlib, re, sys, torch
from twoviews.loss_functions.info_nce import info_nce

def resident(field):
    return 1024 * int(re.search(field + r":\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])

def work(rows):
    z = torch.randn(rows, 16, requires_grad=True)
    info_nce(z, 0.2, candidates=z.clone() if sys.argv[1] == "candidates" else None)[0].backward()

work(1024)
before = resident("VmRSS")
work(16384)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's peak where Linux keeps it")
@pytest.mark.parametrize("form", ["symmetric", "candidates"])
def test_memory_does_not_grow_with_the_square(form: str) -> None:
    grown = int(subprocess.run([sys.executable, "-c", PEAK, form], capture_output=True, text=True, check=True).stdout)
    # The matrix alone would be 1 GiB.
    assert 0 < grown < 128 * 2**20
