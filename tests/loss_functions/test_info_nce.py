"""InfoNCE against the paper's equation written in loops, and what must hold of it whatever the numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from twoviews.loss_functions.info_nce import info_nce


def paper(z: Tensor, temperature: float, decoupled: bool = False) -> tuple[float, float]:
    """Equation 1 of Chen et al. 2020, number by number: the mean loss, and the share of anchors that are right.

    Decoupled, it is L_DC of Yeh et al. 2022, section 3: the sum is over the negatives alone.
    """
    rows = z.double().tolist()
    count = len(rows)

    def similarity(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)))

    losses, right = [], 0
    for i in range(count):
        j = i + count // 2 if i < count // 2 else i - count // 2
        others = {k: similarity(rows[i], rows[k]) for k in range(count) if k != i}
        denominator = sum(math.exp(s / temperature) for k, s in others.items() if not (decoupled and k == j))
        losses.append(-math.log(math.exp(others[j] / temperature) / denominator))
        right += max(others, key=lambda k: others[k]) == j
    return sum(losses) / count, right / count


def projections(images: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Two views that resemble each other, of lengths far from 1."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(images, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(2 * images, width, generator=generator, dtype=torch.float64)
    return (3 * (torch.cat([image, image]) + noise)).to(dtype)


@pytest.mark.parametrize("images", [2, 3, 8])
@pytest.mark.parametrize("width", [2, 5, 16])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 7.0])
def test_it_is_the_paper_s_equation(images: int, width: int, temperature: float, decoupled: bool) -> None:
    z = projections(images, width, seed=images * width)
    loss, top1 = info_nce(z, temperature, decoupled=decoupled)
    expected_loss, expected_top1 = paper(z, temperature, decoupled)
    assert float(loss) == pytest.approx(expected_loss, rel=1e-12, abs=1e-14)
    assert float(top1) == pytest.approx(expected_top1)


@pytest.mark.parametrize("images", [2, 5, 64])
def test_equal_similarities_give_the_log_of_the_number_of_candidates(images: int, decoupled: bool) -> None:
    loss, _ = info_nce(torch.ones(2 * images, 7, dtype=torch.float64), 0.3, decoupled=decoupled)
    assert float(loss) == pytest.approx(math.log(2 * images - 1 - decoupled), rel=1e-12)


def test_decoupled_an_easy_positive_is_pulled_as_hard_as_any_other() -> None:
    # Views alike and images apart: InfoNCE has next to nothing left to teach (Yeh et al. 2022, section 3).
    axes = torch.eye(4, dtype=torch.float64)
    z = torch.cat([axes, axes + 0.1 * axes.roll(1, 0)]).requires_grad_()
    pulls = [torch.autograd.grad(info_nce(z, 0.05, decoupled=d)[0], z)[0].norm() for d in (False, True)]
    assert float(pulls[0]) < 1e-4 * float(pulls[1])


def test_it_is_symmetric_in_the_two_views() -> None:
    z = projections(6, 9)
    first, second = z.chunk(2)
    loss, top1 = info_nce(z, 0.2)
    swapped_loss, swapped_top1 = info_nce(torch.cat([second, first]), 0.2)
    assert float(swapped_loss) == pytest.approx(float(loss), rel=1e-12)
    assert float(swapped_top1) == float(top1)
    # And it does look at which row belongs to which: other pairs are another loss.
    other, _ = info_nce(torch.cat([first, second.roll(1, 0)]), 0.2)
    assert abs(float(other) - float(loss)) > 0.1


def test_the_length_of_a_projection_does_not_matter() -> None:
    z = projections(6, 9)
    lengths = torch.logspace(-3, 3, 12, dtype=torch.float64)[:, None]
    loss, top1 = info_nce(z, 0.2)
    scaled_loss, scaled_top1 = info_nce(z * lengths, 0.2)
    assert float(scaled_loss) == pytest.approx(float(loss), rel=1e-12)
    assert float(scaled_top1) == float(top1)


def test_top1_counts_the_anchors_whose_positive_is_nearest() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    # Three images with views alike; the fourth's second view looks like the first image.
    second = axes.clone()
    second[3] = axes[0] + 0.01 * axes[3]
    z = torch.cat([axes, second]).requires_grad_()
    _, top1 = info_nce(z, 0.5)
    # Its own first view is still the one that is nearest to it; it alone is nearer to another.
    assert float(top1) == 7 / 8
    assert not top1.requires_grad


def test_it_computes_in_float32_under_autocast() -> None:
    # Unit vectors nearly alike: in bfloat16 (8 bits) their similarities would be all the same.
    z = torch.nn.functional.normalize(1 + 0.02 * projections(8, 32), dim=1).float()
    expected = paper(z, 0.01)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = info_nce(z, 0.01)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_a_small_temperature_stays_finite_in_bfloat16() -> None:
    z = projections(16, 32, dtype=torch.bfloat16).requires_grad_()
    loss, _ = info_nce(z, 0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    # The input has been rounded to bfloat16; the loss of the rounded numbers is right to float32.
    assert float(loss.detach()) == pytest.approx(paper(z.detach(), 0.01)[0], rel=1e-4)
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())


def test_opposite_views_at_a_small_temperature_are_finite() -> None:
    z = torch.cat([torch.eye(4), -torch.eye(4)])
    loss, _ = info_nce(z, 0.01)
    # The positive is at -1, six candidates at 0: log(6 + e^-100) + 100.
    assert float(loss) == pytest.approx(100 + math.log(6), rel=1e-6)


@pytest.mark.parametrize("parts", [2, 4])
def test_anchors_in_parts_give_the_whole_loss_and_gradient(parts: int, decoupled: bool) -> None:
    images, temperature = 8, 0.2
    mine = images // parts
    z = projections(images, 6).requires_grad_()
    first, second = z.chunk(2)
    # As processes hold them: each with the two views of its own images, gathered one process after the other.
    shares = [torch.cat([first[p * mine : (p + 1) * mine], second[p * mine : (p + 1) * mine]]) for p in range(parts)]
    gathered = torch.cat(shares)
    results = [
        info_nce(share, temperature, candidates=gathered, first_row=2 * mine * p, decoupled=decoupled)
        for p, share in enumerate(shares)
    ]
    loss = torch.stack([r[0] for r in results]).mean()
    top1 = torch.stack([r[1] for r in results]).mean()
    (gradient,) = torch.autograd.grad(loss, z)

    whole, whole_top1 = info_nce(z, temperature, decoupled=decoupled)
    (whole_gradient,) = torch.autograd.grad(whole, z)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-12)
    assert float(top1) == pytest.approx(float(whole_top1))
    torch.testing.assert_close(gradient, whole_gradient, rtol=1e-10, atol=1e-12)


def test_the_gradient_is_the_derivative(decoupled: bool) -> None:
    z = projections(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: info_nce(x, 0.3, decoupled=decoupled)[0], (z,))
    others = projections(2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, o: info_nce(x, 0.3, candidates=torch.cat([o, x]), first_row=4, decoupled=decoupled)[0], (z, others)
    )


@pytest.mark.parametrize("images", [8, 256])
@pytest.mark.parametrize("separate", [False, True])
def test_a_learned_temperature_gets_its_gradient_in_both_forms(images: int, separate: bool, decoupled: bool) -> None:
    z, temperature = projections(images, 4), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def loss(t: float | Tensor) -> Tensor:
        return info_nce(z, t, candidates=z.clone() if separate else None, decoupled=decoupled)[0]

    (gradient,) = torch.autograd.grad(loss(temperature), temperature)
    assert loss(temperature).item() == pytest.approx(loss(0.3).item(), rel=1e-12)
    assert gradient.item() == pytest.approx((loss(0.3 + 1e-6) - loss(0.3 - 1e-6)).item() / 2e-6, rel=1e-6)


@pytest.mark.parametrize("separate", [False, True])
def test_a_second_derivative_is_right_or_refused(separate: bool) -> None:
    def penalty(images: int) -> Tensor:
        """What a gradient penalty does: the loss's gradient does not itself need one."""
        z = projections(images, 3).requires_grad_()
        loss, _ = info_nce(z, 0.5, candidates=z if separate else None)
        (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
        return gradient.square().sum()

    assert penalty(4).requires_grad
    with pytest.raises(RuntimeError, match="differentiated once"):
        penalty(256)


def test_what_can_not_be_computed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one number, got a tensor \(4, 3\); two views go in as one tensor"):
        info_nce(torch.randn(4, 3), torch.randn(4, 3))  # as other libraries take them
    with pytest.raises(ValueError, match=r"rows×D, got \(2, 4, 3\)"):
        info_nce(torch.randn(2, 4, 3))
    with pytest.raises(ValueError, match=r"rows×D, got \(8, 5\)"):
        info_nce(torch.randn(4, 3), candidates=torch.randn(8, 5))
    with pytest.raises(ValueError, match="two views of each image, got 5 rows"):
        info_nce(torch.randn(5, 3))
    with pytest.raises(ValueError, match="at least 2 images"):
        info_nce(torch.randn(2, 3))
    for temperature in (0.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive"):
            info_nce(torch.randn(4, 3), temperature)
