"""The learning curve: what it was made from is found again, and a falling learning rate is not taken for progress."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit, least_squares

from twoviews.evaluation import learning_curve as module
from twoviews.evaluation.learning_curve import learning_curve

EPOCHS, WARMUP = 50, 5
CONSTANT = [0.3] * EPOCHS  # learning rates: both laws are the same
MANY = 10**9  # images: so many that others would give the same curve


def cosine(epochs: int = EPOCHS, warmup: int = WARMUP, peak: float = 0.9) -> list[float]:
    """Learning rate at the end of each epoch."""
    rising = [peak * (e + 1) / warmup for e in range(warmup)]
    steps = epochs - warmup
    return rising + [peak * 0.5 * (1 + math.cos(math.pi * (e + 1) / steps)) for e in range(steps)]


def curve(rates: list[float], a: float, b: float, c: float, d: float) -> np.ndarray:
    """The docstring's formula, epoch by epoch."""
    total, values, peak = 0.0, [], max(rates)
    sums = []
    for before, rate in zip([rates[0], *rates], rates, strict=False):
        total += (before + rate) / 2
        sums.append(total)
    for e, (rate, progress) in enumerate(zip(rates, sums, strict=True)):
        t = progress / sums[-1] * len(rates)
        w = 1 - rate / peak if e > rates.index(peak) else 0.0
        values.append(a - b * t**-c + d * w)
    return np.array(values)


def rows(rates: list[float], top1: np.ndarray, every: int = 5) -> list[dict[str, Any]]:
    """As metrics.jsonl has them: the monitor looks every few epochs."""
    return [
        {"epoch": e, "lr": rate, "loss": 5.0, **({"knn_top1": float(y), "effective_rank": 9.0 + e} if looks else {})}
        for e, (rate, y) in enumerate(zip(rates, top1, strict=True), start=1)
        for looks in [e % every == 0 or e == len(rates)]
    ]


def learned(seen: list[dict[str, Any]], images: int = MANY, seed: int = 0) -> dict[str, Any]:
    return learning_curve(seen, images, seed)


@pytest.mark.parametrize("rates", [cosine(), CONSTANT], ids=["cosine", "constant"])
@pytest.mark.parametrize("truth", [(0.6, 0.4, 0.5, 0.03), (0.5, 0.35, 1.0, 0.0), (0.7, 0.6, 0.2, 0.05)])
def test_a_curve_without_scatter_is_found_again(rates: list[float], truth: tuple[float, ...]) -> None:
    a, b, c, d = truth
    found = learned(rows(rates, curve(rates, a, b, c, d)))
    gain = 100 * b * EPOCHS**-c * (1 - 2**-c)
    lifted, plain = found["laws"]
    assert lifted["expected_gain"] == pytest.approx(gain, rel=0.05)
    assert lifted["c"] == pytest.approx(c, rel=0.1)
    assert plain["annealing"] == 0
    assert found["expected_gain"] == pytest.approx((lifted["expected_gain"] + plain["expected_gain"]) / 2)
    low, high = found["ci95"]
    assert low - 0.05 * gain <= lifted["expected_gain"] <= plain["expected_gain"] + 0.01 <= high + 0.05 * gain
    end = a - b * (2 * EPOCHS) ** -c + (d if rates == cosine() else 0.0)
    if rates == cosine():  # a constant rate never falls: there is nothing to tell d from
        assert lifted["annealing"] == pytest.approx(d, abs=0.003)
    else:
        assert plain == pytest.approx(lifted)
    if rates != cosine() or d == 0:
        assert found["expected_top1"] == pytest.approx(end, abs=0.003)


def test_a_lift_is_promised_by_one_law_alone() -> None:
    # Nothing is learned after epoch 10; at the end the falling learning rate lifts accuracy by 8 points.
    rates = cosine()
    top1 = curve(rates, 0.40, 0.3, 3.0, 0.08)
    found = learned(rows(rates, top1))
    lifted, plain = found["laws"]
    assert 0 <= lifted["expected_gain"] < 0.2
    assert lifted["annealing"] == pytest.approx(0.08, abs=0.005)
    # The other takes it for progress: least squares of a power law in what the learning rate sums up to.
    assert plain["expected_gain"] > 1.0
    at = np.arange(4, EPOCHS, 5)
    t = np.array([-curve(rates, 0.0, 1.0, 1.0, 0.0)[i] for i in at]) ** -1
    (a, b, c), _ = curve_fit(
        lambda t, a, b, c: a - b * t**-c, t, top1[at], p0=(0.6, 0.5, 0.5), bounds=([0, 0, 0.05], [1, 5, 3])
    )
    cost = np.sum((a - b * t**-c - top1[at]) ** 2)
    ours = np.sum((plain["a"] - plain["b"] * t ** -plain["c"] - top1[at]) ** 2)
    assert ours <= 1.001 * cost
    low, high = found["ci95"]
    assert low <= lifted["expected_gain"] < found["expected_gain"] < plain["expected_gain"] <= high


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_the_least_squares_fit(seed: int) -> None:
    rates = cosine()
    noisy = curve(rates, 0.6, 0.4, 0.5, 0.03) + np.random.default_rng(seed).normal(0, 0.01, EPOCHS)
    found = learned(rows(rates, noisy))
    at = np.arange(4, EPOCHS, 5)

    def residuals(p: np.ndarray) -> np.ndarray:
        return np.asarray(curve(rates, *p)[at] - noisy[at])

    ours = residuals(np.array([found["laws"][0][name] for name in ("a", "b", "c", "annealing")]))
    bounds = ([0, 0, 0.05, 0], [1, 5, 3, 1])
    best = min(
        (least_squares(residuals, (0.6, 0.3, c, 0.01), bounds=bounds).cost for c in (0.1, 0.5, 2.0)), default=np.inf
    )
    assert best <= 0.5 * float(ours @ ours) * (1 + 1e-9)
    assert 0.5 * float(ours @ ours) <= 1.01 * best  # exponents are tried in steps


@pytest.mark.parametrize(("truth", "every"), [((0.6, 0.4, 0.5, 0.03), 5), ((0.5, 0.35, 1.0, 0.03), 3)])
def test_the_interval_holds_the_gain(truth: tuple[float, ...], every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 60)
    rates, (_, b, c, _) = CONSTANT, truth
    gain = 100 * b * EPOCHS**-c * (1 - 2**-c)
    rng = np.random.default_rng(5)
    held = []
    for _ in range(20):
        low, high = learned(rows(rates, curve(rates, *truth) + rng.normal(0, 0.01, EPOCHS), every))["ci95"]
        held.append(low <= gain <= high)
        assert low < high
    assert sum(held) >= 17


def test_more_scatter_is_a_wider_interval() -> None:
    rates, rng = CONSTANT, np.random.default_rng(0)
    noise = rng.normal(0, 1, EPOCHS)
    widths = []
    for scale in (0.001, 0.01):
        low, high = learned(rows(rates, curve(rates, 0.6, 0.4, 0.5, 0.03) + scale * noise))["ci95"]
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_fewer_images_are_a_wider_interval() -> None:
    rates, noise = CONSTANT, np.random.default_rng(0).normal(0, 0.002, EPOCHS)
    seen = rows(rates, curve(rates, 0.6, 0.4, 0.5, 0.03) + noise)
    widths = [high - low for images in (100, 1000, MANY) for low, high in [learned(seen, images)["ci95"]]]
    assert widths[0] > 1.2 * widths[1] > 1.2**2 * widths[2]
    assert learned(seen, 100)["images"] == 100
    assert learned(seen, 100)["expected_gain"] == learned(seen)["expected_gain"]


@pytest.mark.parametrize("images", [100, 1000])
def test_the_interval_holds_the_gain_of_all_images(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each image turns right at an accuracy of its own and stays so, but for a look in twenty.
    monkeypatch.setattr(module, "RESAMPLES", 60)
    rates, (a, b, c, d) = CONSTANT, (0.6, 0.4, 0.5, 0.03)
    truth, gain = curve(rates, a, b, c, d), 0.9 * 100 * b * EPOCHS**-c * (1 - 2**-c)
    rng, held = np.random.default_rng(7), {images: 0, MANY: 0}
    for _ in range(40):
        right = rng.random(images)[:, None] < truth
        right ^= rng.random(right.shape) < 0.05
        seen = rows(rates, right.mean(axis=0), 3)
        for told in held:
            low, high = learned(seen, told)["ci95"]
            held[told] += low <= gain <= high
    assert held[images] >= 34
    assert held[images] >= held[MANY]


def test_a_flat_and_a_falling_curve_promise_nothing() -> None:
    rates = cosine()
    for top1 in (np.full(EPOCHS, 0.4), np.linspace(0.45, 0.4, EPOCHS)):
        found = learned(rows(rates, top1))
        assert found["expected_gain"] == pytest.approx(0, abs=0.05)
        assert found["expected_top1"] == pytest.approx(float(top1.mean()), abs=0.01)


def test_a_solver_that_gives_up_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*arguments: Any) -> None:
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(module, "nnls", gives_up)
    top1 = curve(cosine(), 0.6, 0.4, 0.5, 0.03)
    found = learned(rows(cosine(), top1))
    assert (found["expected_gain"], found["ci95"]) == (0, [0, 0])
    assert found["expected_top1"] == pytest.approx(top1[4::5].mean())


def test_accuracy_does_not_pass_one() -> None:
    rates = cosine()
    found = learned(rows(rates, np.linspace(0.5, 0.999, EPOCHS)))
    assert 0.9 < found["expected_top1"] <= 1


def test_too_few_looks_are_no_curve() -> None:
    rates = cosine()
    top1 = curve(rates, 0.6, 0.4, 0.5, 0.03)
    few, enough = (learned(rows(rates, top1, every)) for every in (10, 9))
    assert (len(few["points"]), few["enough_points"]) == (5, False)
    assert (len(enough["points"]), enough["enough_points"]) == (6, True)
    assert few["points"][-1] == [EPOCHS, pytest.approx(float(top1[-1]))]
    assert few["effective_rank"][-1] == [EPOCHS, 9.0 + EPOCHS]
    assert (few["epochs"], few["next_epochs"]) == (EPOCHS, 2 * EPOCHS)
    figures = {key for key, value in enough.items() if value is not None} - {k for k, v in few.items() if v is not None}
    assert figures == {"laws", "expected_top1", "expected_gain", "ci95"}


def test_without_labels_there_are_ranks_alone() -> None:
    unlabeled = [{"epoch": e, "lr": 0.1, "effective_rank": 5.0 * e} for e in (1, 2)]
    found = learned(unlabeled)
    assert (found["points"], found["effective_rank"]) == ([], [[1, 5.0], [2, 10.0]])
    assert learned([])["epochs"] == 0


def test_the_same_run_gives_the_same_figures_in_json() -> None:
    rates = cosine()
    noisy = curve(rates, 0.6, 0.4, 0.5, 0.03) + np.random.default_rng(0).normal(0, 0.01, EPOCHS)
    first, second = (json.dumps(learned(rows(rates, noisy), seed=3), allow_nan=False) for _ in range(2))
    assert first == second
    assert json.loads(first)["ci95"] != learned(rows(rates, noisy), seed=4)["ci95"]
