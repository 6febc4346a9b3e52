"""Multinomial logistic regression to convergence, fast enough to sweep its strength on a laptop.

The objective is scikit-learn's: the sum over images of the cross-entropy, plus ‖W‖² / (2c), intercepts free.
Two steps make it quick without changing its optimum. The features are rotated into their principal axes: a
rotation leaves ‖W‖ as it is, drops the axes no image extends into (there the optimum is zero), and makes the
curvature nearly diagonal. L-BFGS (Liu & Nocedal 1989) then runs in units in which that diagonal is one. What it
costs is reading the features over and over: hence tiles that fit a cache, and float32 where a rough optimum will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from twoviews.evaluation.arrays import Doubles, Floats, Whole

TOLERANCE = 5e-5
"""Largest entry of the gradient at the optimum, in units in which the curvature is about one."""

LEAST_SPREAD = 1e-4
"""A floor on p(1-p): a confident start promises a flatness that the path to the optimum doesn't have."""

MOST_RESTARTS = 4
"""The curvature changes on the way: measured again at the end, it shows whether the end is the optimum."""

MOST_ITERATIONS = 2_000
KEPT_STEPS = 20
"""Steps from which L-BFGS estimates the curvature."""

CACHED_BYTES = 4 << 20
"""Features that are read for the logits are still near the processor when they are read for the gradient."""

FLAT_AXIS = 1e-12
"""An axis with less than this fraction of the widest one's variance is rounding, not data."""


@dataclass(frozen=True)
class Standardised:
    """Features with mean 0 and deviation 1 in each dimension, rotated into their principal axes.

    Attributes:
        mean: (D,) mean of each dimension.
        scale: (D,) standard deviation of each dimension; 1 where it is zero.
        axes: D×R orthonormal axes, R = rank of the features.
        rows: N×R float64 or float32; ``((features - mean) / scale) @ axes``.
    """

    mean: Doubles
    scale: Doubles
    axes: Doubles
    rows: Floats

    @classmethod
    def of(cls, features: Floats, kept_as: npt.DTypeLike = np.float64) -> Standardised:
        """Learnt in float64 from N×D ``features``, whose rotated rows are ``kept_as`` float64 or float32.

        Takes the size of the features in float64 once more than the result, and one D×D or N×N matrix.
        """
        rows = features.astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        scale = np.sqrt(np.mean(rows**2, axis=0))
        # A dimension that never changes differs from its mean by rounding alone, which must not be blown up.
        flat = scale <= 1e-7 * np.abs(mean)
        rows[:, flat] = 0.0
        scale[flat] = 1.0
        rows /= scale
        images, dimensions = rows.shape
        if images > dimensions:
            variances, axes = eigh(rows.T @ rows)
            axes = axes[:, variances > FLAT_AXIS * max(variances[-1], 0.0)]
            return cls(mean, scale, axes, rows.astype(kept_as, copy=False) @ axes.astype(kept_as, copy=False))
        # Fewer images than dimensions: the same axes from the smaller N×N matrix.
        variances, images_on_axes = eigh(rows @ rows.T)
        kept = variances > FLAT_AXIS * max(variances[-1], 0.0)
        lengths = np.sqrt(variances[kept])
        images_on_axes = images_on_axes[:, kept]
        on_axes = (images_on_axes * lengths).astype(kept_as, copy=False)
        return cls(mean, scale, rows.T @ (images_on_axes / lengths), on_axes)


def fit_path(
    standardised: Standardised,
    labels: Whole,
    classes: int,
    strengths: Sequence[float],
    tolerance: float = TOLERANCE,
) -> Iterator[tuple[Doubles, Doubles]]:
    """The optimum for each strength, each fit started from the one before: give strengths in rising order.

    Args:
        standardised: N images.
        labels: (N,) class numbers; every class in [0, classes) must occur.
        classes: number of classes, C.
        strengths: c of each fit, above 0; larger means less regularisation.
        tolerance: largest entry of the gradient, in units in which the curvature is about one.

    Yields:
        weights C×D on the standardised features, and intercepts (C,) with mean zero (a softmax doesn't change
        when all of them move together).
    """
    rows = standardised.rows
    images, rank = rows.shape
    truth = np.zeros((images, classes), dtype=rows.dtype)
    truth[np.arange(images), labels] = 1.0
    weight = np.zeros((classes, rank))
    # With no weights the best intercepts are the log frequencies.
    bias = np.log(truth.mean(axis=0, dtype=np.float64))
    for c in strengths:
        for _ in range(MOST_RESTARTS):
            weight, bias, steps = _descend(rows, truth, c, weight, bias, tolerance)
            if steps <= 1:
                break
        yield weight @ standardised.axes.T, bias - bias.mean()


def _descend(
    rows: Floats, truth: Floats, c: float, weight: Doubles, bias: Doubles, tolerance: float
) -> tuple[Doubles, Doubles, int]:
    """L-BFGS from weights C×R and intercepts (C,): where it ends, and in how many steps."""
    from scipy.optimize import minimize  # slow to import, and stages that fit no probe read this module too

    # Diagonal of the curvature at the start.
    curvature = np.concatenate([np.full(weight.shape, 1.0 / c), np.zeros((len(bias), 1))], axis=1)
    for part, (_, probabilities) in _softmax(rows, weight, bias):
        spread = np.maximum(probabilities * (1.0 - probabilities), LEAST_SPREAD)
        curvature[:, :-1] += spread.T @ rows[part] ** 2
        curvature[:, -1] += spread.sum(axis=0)
    units = np.sqrt(curvature)

    def objective(point: Doubles) -> tuple[float, Doubles]:
        parameters = point.reshape(units.shape) / units
        weight, bias = parameters[:, :-1], parameters[:, -1]
        loss = float(np.sum(weight**2)) / (2.0 * c)
        gradient = np.concatenate([weight / c, np.zeros((len(bias), 1))], axis=1)
        for part, (losses, probabilities) in _softmax(rows, weight, bias):
            error = probabilities - truth[part]
            loss += float(np.einsum("nc,nc->", losses, truth[part], dtype=np.float64))
            gradient[:, :-1] += error.T @ rows[part]
            gradient[:, -1] += error.sum(axis=0)
        return loss, (gradient / units).ravel()

    start = np.concatenate([weight, bias[:, None]], axis=1) * units
    found = minimize(
        objective,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={
            "gtol": tolerance,
            "ftol": 0.0,
            "maxiter": MOST_ITERATIONS,
            "maxfun": 2 * MOST_ITERATIONS,
            "maxcor": KEPT_STEPS,
        },
    )
    parameters = found.x.reshape(units.shape) / units
    return parameters[:, :-1], parameters[:, -1], int(found.nit)


def _softmax(rows: Floats, weight: Doubles, bias: Doubles) -> Iterator[tuple[slice, tuple[Floats, Floats]]]:
    """Tile by tile: which rows, and their −log probabilities and probabilities, n×C in the rows' own precision."""
    weight_of, bias = np.ascontiguousarray(weight.T, dtype=rows.dtype), bias.astype(rows.dtype)
    step = max(1, CACHED_BYTES // (rows.itemsize * max(1, rows.shape[1])))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        logits = rows[part] @ weight_of + bias
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        total = shares.sum(axis=1, keepdims=True)
        yield part, (np.log(total) - logits, shares / total)
