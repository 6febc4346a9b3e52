"""Scores of probabilities: they reward a model that is right and says how sure it can be.

They need the probability of every class. Reliability and ECE, which need that of the predicted class alone, are worked
out from predictions.csv by ``report/calibration/reliability.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.errors import DataError

LEAST_PROBABILITY = 1e-7


def brier_score(probabilities: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> float:
    """Brier score (1950), the form over all classes: mean squared distance of the probabilities from the one-hot label.

    In [0, 2], 0 for a perfect and certain model; 1 − 1/C for one that gives each of C classes the same.

    Args:
        probabilities: N×C, rows that add up to 1.
        labels: (N,) class numbers in [0, C).

    Raises:
        DataError: no images, or shapes or labels that don't fit.
    """
    p, own = _checked(probabilities, labels)
    return float(((p**2).sum(axis=1) - 2 * own + 1).mean())


def negative_log_likelihood(probabilities: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> float:
    """Mean of −log of the true class's probability, nats: the cross-entropy on these images. At least 0; log C for a
    model that gives each of C classes the same.

    kNN gives some classes a probability of exactly zero, which would make the mean infinite: less than 1e-7 counts as
    1e-7.

    Args, raises: as `brier_score`.
    """
    _, own = _checked(probabilities, labels)
    return float(-np.log(np.maximum(own, LEAST_PROBABILITY)).mean())


def _checked(
    probabilities: npt.NDArray[Any], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The probabilities, and those of the true classes."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != (len(p),) or not len(p):
        raise DataError(f"probabilities {p.shape} and labels {y.shape} don't fit: N×C and N, N at least 1")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise DataError(f"labels from {y.min()} to {y.max()} don't fit {p.shape[1]} classes")
    return p, p[np.arange(len(p)), y]
