"""Over which range can the coverage of a t interval for several seeds lie? Ways to choose its degrees of freedom.

    python benchmarks/interval_limits.py

With many test images only the seeds' mean square is uncertain: it is a chi-square with S − 1 degrees of freedom. So
the coverage of each way is an integral over that, for a world given by how many times the rest's mean square that of
the seeds (1 to 10,000) and that of the images (1 to 100) are. One line for each way and number of seeds: the least
and the most over all worlds. ``interval_coverage.py`` simulates some such worlds with real test images. Seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from machine import machine
from scipy.special import chdtri, ndtr, ndtri, stdtrit

Doubles = npt.NDArray[np.float64]
Way = Callable[[Doubles, float, int], Doubles]

LEVEL = 0.95
OF_SEEDS = np.array([1, 1.25, 1.5, 2, 3, 5, 8, 15, 30, 60, 100, 300, 1000, 10_000])
OF_IMAGES = (1, 1.02, 1.05, 1.1, 1.3, 2, 4, 10, 100)
QUANTILES = (np.arange(1000) + 0.5) / 1000


def t_half_width(share: Doubles, variance: Doubles, freedom: int) -> Doubles:
    """Satterthwaite's interval, the seeds having this share of the variance."""
    width: Doubles = stdtrit(np.minimum(freedom / share**2, 1e8), (1 + LEVEL) / 2) * np.sqrt(variance)
    return width


def plain(seeds: Doubles, images: float, freedom: int) -> Doubles:
    """Estimated share; no mean square below the rest's."""
    seeds = np.maximum(seeds, 1)
    variance = seeds + images - 1
    return t_half_width(seeds / variance, variance, freedom)


def without_limits(seeds: Doubles, images: float, freedom: int) -> Doubles:
    """Estimated share; the seeds' mean square as it is (Hillis 2007)."""
    variance = seeds + images - 1
    return t_half_width(seeds / variance, variance, freedom)


def floor_and_few(seeds: Doubles, images: float, freedom: int) -> Doubles:
    """The seeds' mean square at least the rest's, and always the seeds' degrees of freedom."""
    width: Doubles = stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(np.maximum(seeds, 1) + images - 1)
    return width


def large_sample(seeds: Doubles, images: float, freedom: int) -> Doubles:
    """Each part of the variance with its own quantile (Graybill & Wang 1980)."""
    width: Doubles = np.sqrt(
        stdtrit(freedom, (1 + LEVEL) / 2) ** 2 * seeds + ndtri((1 + LEVEL) / 2) ** 2 * (images - 1)
    )
    return width


def upper_share(confidence: float, least: float = 1.0) -> Way:
    """Ours: the share by an upper confidence limit; at least so many standard errors of the rest wide."""

    def half_width(seeds: Doubles, images: float, freedom: int) -> Doubles:
        limit = seeds * freedom / chdtri(freedom, confidence)
        variance = seeds + images - 1
        return np.maximum(t_half_width(limit / (limit + images - 1), variance, freedom), least)

    return half_width


WAYS = {
    "plain, floors": plain,
    "plain": without_limits,
    "t of seeds, floors": floor_and_few,
    "large sample": large_sample,
    "upper share 0.5": upper_share(0.5),
    "upper share 0.75 (ours)": upper_share(0.75),
    "upper share 0.9": upper_share(0.9),
    "ours, floor 1.96": upper_share(0.75, 1.96),
}


def coverages(way: Way, freedom: int) -> list[float]:
    """Of every world."""
    found = []
    for images in OF_IMAGES:
        for seeds in OF_SEEDS:
            drawn = seeds * chdtri(freedom, QUANTILES) / freedom
            width = way(drawn, images, freedom) / np.sqrt(seeds + images - 1)
            found.append(float(np.mean(2 * ndtr(width) - 1)))
    return found


def main() -> None:
    print(f"{'way':<26}" + "".join(f"{f'{seeds} seeds':>16}" for seeds in (2, 3, 5, 10)))
    for name, way in WAYS.items():
        cells = []
        for seeds in (2, 3, 5, 10):
            found = coverages(way, seeds - 1)
            cells.append(f"{100 * min(found):8.1f} –{100 * max(found):6.1f}")
        print(f"{name:<26}" + "".join(cells), flush=True)
    print(json.dumps(machine("numpy", "scipy")))


if __name__ == "__main__":
    main()
