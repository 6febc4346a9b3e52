"""What would twice as many epochs of pretraining bring? A learning curve through what the monitor saw, read further.

Accuracy within one run does not rise as accuracy over runs of growing length does: the cosine takes the learning rate
to nothing, and that alone lifts the last points, in a short run and in a long one. So progress is counted in epochs
weighted by their learning rate, and the lift has a term of its own, as in scaling laws with learning-rate annealing
(Tissue, Wang and Wang 2024, "Scaling Law with Learning Rate Annealing", section 3), here for accuracy and with the
simplest such term:

    accuracy(e) = a - b * t(e)^(-c) + d * w(e)

t(e) is the learning rate summed up to epoch e, scaled so that t of all E epochs is E (with a constant rate, t = e);
w(e) is 0 up to the highest learning rate and then the part of it that is gone: 1 at the end of a cosine. Another
doubling takes t to 2E and ends with the same w = 1, so it brings b * E^(-c) * (1 - 2^(-c)).

That is so if the lift is as large in a longer run. In the cited law it grows with the steps at a low rate, and how far,
one run does not show: runs of twice the epochs brought more than this law foretold (docs/recipes.md). So a second law
has no such term (d = 0), as if the lift grew like all progress, and the forecast is between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar, nnls

Floats = npt.NDArray[np.float64]

PARAMETERS = 4
ENOUGH_POINTS = PARAMETERS + 2
RESAMPLES = 200
# From nearly logarithmic to a curve that is flat after a few epochs. For a given c the rest is linear least squares, so
# that trying each c leaves no other minimum unseen.
EXPONENTS = np.geomspace(0.05, 3.0, 30)


def learning_curve(rows: Iterable[Mapping[str, Any]], images: int, seed: int = 0) -> dict[str, Any]:
    """Fit saturating learning curves to a pretraining run, and say what another doubling of its epochs would bring.

    The interval is that of a residual bootstrap (Efron and Tibshirani 1993, section 9.4) of both laws taken together,
    residuals enlarged by sqrt(n / (n - 4)) for the parameters that were fitted, with a draw of other images
    (`_other_images`) each time: the same ones are classified at every point. It does not answer for a curve of another
    shape, nor for what another seed would do.

    Args:
        rows: of ``metrics.jsonl``, one each epoch: ``epoch`` (from 1), ``lr`` (of its last step), and where the monitor
            looked ``knn_top1`` (a fraction) and ``effective_rank``.
        images: how many images ``knn_top1`` is a share of.
        seed: of the bootstrap.

    Returns:
        ``points`` and ``effective_rank``: [epoch, value] pairs; ``images``; ``epochs``, E; ``next_epochs``, 2E;
        ``enough_points``; and where there are at least ``ENOUGH_POINTS``, else None: ``laws``, with the lift and
        without, each ``a``, ``b``, ``c``, ``annealing`` (d) and ``expected_gain`` over the curve at E;
        ``expected_gain``, the mean of both, and its ``ci95``, in percentage points; ``expected_top1``, a fraction.
    """
    kept = [row for row in rows if row.get("epoch") is not None]
    seen = [row for row in kept if row.get("knn_top1") is not None]
    epochs = int(kept[-1]["epoch"]) if kept else 0
    found: dict[str, Any] = {
        "points": [[int(row["epoch"]), float(row["knn_top1"])] for row in seen],
        "effective_rank": [
            [int(row["epoch"]), float(row["effective_rank"])] for row in kept if row.get("effective_rank") is not None
        ],
        "images": images,
        "epochs": epochs,
        "next_epochs": 2 * epochs,
        "enough_points": len(seen) >= ENOUGH_POINTS,
        **dict.fromkeys(("laws", "expected_top1", "expected_gain", "ci95")),
    }
    if not found["enough_points"]:
        return found
    progress, annealed = _basis([float(row["lr"]) for row in kept])
    at = [index for index, row in enumerate(kept) if row.get("knn_top1") is not None]
    top1 = np.array([row["knn_top1"] for row in seen], dtype=np.float64)
    rng = np.random.default_rng(seed)
    laws: list[dict[str, float]] = []
    ends, gains = [], []
    for lifting in (annealed, np.zeros_like(annealed)):
        curve = _Curve(progress[at] / progress[-1], lifting[at])
        fit = ceiling, short, exponent, lift = curve.refined(top1)
        gain = _gain(short, exponent)
        b = short * float(epochs) ** exponent
        laws.append({"a": ceiling, "b": b, "c": exponent, "annealing": lift, "expected_gain": 100 * gain})
        ends.append(ceiling - short + lift * float(annealed[-1]) + gain)
        gains += _other_gains(curve, top1, fit, images, rng)
    expected = [law["expected_gain"] for law in laws]
    low, high = 100 * np.quantile(gains, [0.025, 0.975])
    found |= {
        "laws": laws,
        "expected_top1": float(np.clip(np.mean(ends), 0.0, 1.0)),
        "expected_gain": float(np.mean(expected)),
        # Where a fit stands at a bound, all other curves can lie on one side of it.
        "ci95": [float(min(low, *expected)), float(max(high, *expected))],
    }
    return found


class _Curve:
    """The curve's terms at the points, for every exponent; ``progress`` is t/E, in (0, 1].

    In the form 1 - accuracy = (1 - a) + b·t^(-c) - d·w all of 1 - a, b and d are at least 0: accuracy stays below 1,
    training does not harm, and a falling learning rate does not either.
    """

    def __init__(self, progress: Floats, annealed: Floats) -> None:
        self._progress, self._annealed = progress, annealed
        self._exponents = [float(exponent) for exponent in EXPONENTS]
        self._tried = [self._terms(exponent) for exponent in self._exponents]

    def _terms(self, exponent: float) -> Floats:
        return np.stack([np.ones_like(self._progress), self._progress**-exponent, -self._annealed], axis=1)

    def fit(self, top1: Floats) -> tuple[float, float, float, float]:
        """a, what the power law is short of it at the last epoch, c, d: least squares over the exponents tried."""
        fits = [_solved(terms, 1 - top1) for terms in self._tried]
        best = int(np.argmin([length for _, length in fits]))
        return _named(fits[best][0], self._exponents[best])

    def refined(self, top1: Floats) -> tuple[float, float, float, float]:
        """``fit`` with the best exponent between those tried, which is from now on one of them."""
        _, _, exponent, _ = self.fit(top1)
        step = float(EXPONENTS[1] / EXPONENTS[0])
        between = (max(EXPONENTS[0], exponent / step), min(EXPONENTS[-1], exponent * step))
        found = minimize_scalar(lambda c: _solved(self._terms(c), 1 - top1)[1], bounds=between, method="bounded")
        self._exponents.append(float(found.x))
        self._tried.append(self._terms(self._exponents[-1]))
        return self.fit(top1)

    def at(self, ceiling: float, short: float, exponent: float, lift: float) -> Floats:
        """The curve at the points."""
        values: Floats = 1 - self._terms(exponent) @ np.array([1 - ceiling, short, lift])
        return values


def _solved(terms: Floats, target: Floats) -> tuple[Floats, float]:
    """Weights of at least 0, and what is left of the target; a constant where the solver finds no end."""
    try:
        weights, left = nnls(terms, target)
    except RuntimeError:  # results of hours of training must not wait on a forecast
        weights = np.array([target.mean(), 0.0, 0.0])
        left = np.linalg.norm(target - target.mean())
    return weights, float(left)


def _named(weights: Floats, exponent: float) -> tuple[float, float, float, float]:
    return float(1 - weights[0]), float(weights[1]), exponent, float(weights[2])


def _basis(rates: list[float]) -> tuple[Floats, Floats]:
    """The learning rate summed up to the end of each epoch, and the part of the highest that is gone since it."""
    lr = np.array(rates)
    peak = max(float(lr.max()), np.finfo(float).tiny)
    # An epoch's mean is between its last step's and the one before's; the first epoch has no other.
    progress = np.cumsum((lr + np.concatenate([lr[:1], lr[:-1]])) / 2)
    falling = np.arange(len(lr)) > int(lr.argmax())
    return np.maximum(progress, np.finfo(float).tiny), np.where(falling, 1 - lr / peak, 0.0)


def _gain(short: float, exponent: float) -> float:
    return float(short * (1 - 2.0**-exponent))


def _other_gains(
    curve: _Curve, top1: Floats, fit: tuple[float, float, float, float], images: int, rng: np.random.Generator
) -> list[float]:
    """Of curves through the fitted points with residuals and images drawn anew."""
    fitted = curve.at(*fit)
    residuals = top1 - fitted
    residuals = (residuals - residuals.mean()) * np.sqrt(len(top1) / (len(top1) - PARAMETERS))
    gains = []
    for _ in range(RESAMPLES):
        drawn = fitted + rng.choice(residuals, len(top1)) + _other_images(fitted, images, rng)
        _, short, exponent, _ = curve.fit(drawn)
        gains.append(_gain(short, exponent))
    return gains


def _other_images(accuracy: Floats, images: int, rng: np.random.Generator) -> Floats:
    """By how much a curve of other images could differ, at each of its points.

    An image that comes to be classified rightly, and stays so, does it at one accuracy of all images: the share of so
    many drawn ones that have is an empirical distribution function, and its error a Brownian bridge over accuracy
    (van der Vaart 1998, "Asymptotic Statistics", section 19.1). Images that go back and forth are in the residuals.
    """
    order = np.argsort(accuracy)
    reached = np.clip(accuracy[order], 0.0, 1.0)
    walk = np.cumsum(np.sqrt(np.diff(reached, prepend=0.0, append=1.0)) * rng.standard_normal(len(reached) + 1))
    bridge = np.empty_like(accuracy)
    bridge[order] = (walk[:-1] - reached * walk[-1]) / np.sqrt(images)
    return bridge
