"""What a study's intervals and tests do in cases of their own: simulated studies whose true accuracies are known.

    python benchmarks/interval_cases.py [--studies 1000]

One JSON line a row. ``one seed``: two recipes of equal expected accuracy (66 %), one model of each, 5,000 test images:
the share of studies whose interval and McNemar's test both call one of the two better, in a world where seeds don't
matter and in one where they do a little, with the standard deviation of a pair's true difference in points. ``few
errors``: models of 98 and 97 % on 50 test images, 2 and 10 seeds: the least and the most over the worlds of
``interval_coverage.py`` of how often the interval holds the truth, of a mean and of a difference; and of a mean by a
score interval (Wilson's, with as many images as the estimated variance is worth and the quantile of our t), with its
mean width over ours. ``detectable``: the share of studies that would find a difference of that size, by draws from the
noncentral t distribution, and one of the size that adds two t quantiles. Minutes of one processor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from interval_coverage import LEVEL, WORLDS, Studies, simulate
from machine import machine
from scipy.special import stdtrit

from twoviews.evaluation.random_effects import grand_mean
from twoviews.evaluation.seeds import _detectable, difference_over_seeds, mean_over_seeds

AT_ONCE = 100
DRAWS = 1_000_000


def one_seed(studies: int) -> Iterator[dict[str, Any]]:
    """Pairs of models that are as good as each other on average."""
    for world in ("seeds alike", "seeds differ little"):
        called, true = 0, []
        for part in range(-(-studies // AT_ONCE)):
            found = simulate(WORLDS[world], AT_ONCE, 1, 5000, (0.66, 0.66), seed=part)
            true.append(100 * (found.truth_of_seeds[0] - found.truth_of_seeds[1]))
            for a, b in zip(*found.correct, strict=True):
                difference = difference_over_seeds(a, b)
                outside = difference.low > 0 or difference.high < 0
                called += outside and difference.mcnemar_p < 1 - LEVEL
        yield {
            "case": "one seed",
            "world": world,
            "studies": len(true) * AT_ONCE,
            "deviation_of_a_pair_in_points": round(float(np.std(true)), 2),
            "one_called_better": round(called / (len(true) * AT_ONCE), 3),
        }


def few_errors(studies: int) -> Iterator[dict[str, Any]]:
    """Accuracies near 1 with few images."""
    for seeds in (2, 10):
        found = [simulate(world, studies, seeds, 50, (0.98, 0.97)) for world in WORLDS.values()]
        held, wide = zip(*(by_score(one.correct[0], float(one.truth[0])) for one in found), strict=True)
        row: dict[str, Any] = {"case": "few errors", "seeds": seeds, "studies": studies, "worlds": len(found)}
        row["mean"] = _ends([means_held(one) for one in found])
        row["difference"] = _ends([differences_held(one) for one in found])
        yield row | {"mean_by_score": _ends(held), "score_over_ours_in_width": _ends(wide)}


def means_held(found: Studies) -> float:
    """Share of studies whose interval of the first model's accuracy holds it."""
    each = [mean_over_seeds(one) for one in found.correct[0]]
    return float(np.mean([one.low <= found.truth[0] <= one.high for one in each]))


def differences_held(found: Studies) -> float:
    """The same of the first model's accuracy less the second's."""
    truth = 100 * (found.truth[0] - found.truth[1])
    each = [difference_over_seeds(a, b) for a, b in zip(*found.correct, strict=True)]
    return float(np.mean([one.low <= truth <= one.high for one in each]))


def by_score(correct: npt.NDArray[np.bool_], truth: float) -> tuple[float, float]:
    """Share of studies whose score interval (ours, where no image differs) holds the truth; mean width over ours."""
    found = grand_mean(correct, LEVEL)
    differ = found.standard_error > 0
    mean, error = found.mean[differ], found.standard_error[differ]
    images = mean * (1 - mean) / error**2  # as many independent ones have this variance
    quantile = stdtrit(found.degrees_of_freedom[differ], (1 + LEVEL) / 2)
    holds = np.abs(mean - truth) <= quantile * np.sqrt(truth * (1 - truth) / images)
    half = quantile * np.sqrt(mean * (1 - mean) / images + quantile**2 / (4 * images**2)) / (1 + quantile**2 / images)
    ours = [mean_over_seeds(one) for one in correct]
    equal = [one.low <= truth <= one.high for one, differs in zip(ours, differ, strict=True) if not differs]
    width = np.array([one.high - one.low for one in ours])[differ]
    return float(np.mean([*holds, *equal])), float(2 * half.mean() / width.mean())


def power() -> Iterator[dict[str, Any]]:
    """How often a difference would be found that is called detectable, and one of the usual size."""
    generator = np.random.default_rng(0)
    for freedom in (2, 4, 9):
        critical = float(stdtrit(freedom, (1 + LEVEL) / 2))
        sizes = {"detectable": _detectable(freedom, LEVEL), "two_quantiles": critical + float(stdtrit(freedom, 0.8))}
        normal = generator.standard_normal(DRAWS)
        scale = np.sqrt(generator.chisquare(freedom, DRAWS) / freedom)
        row = {name: round(float(np.mean(np.abs(normal + size) > critical * scale)), 3) for name, size in sizes.items()}
        yield {"case": "detectable", "degrees_of_freedom": freedom, "found": row}


def _ends(values: Any) -> list[float]:
    return [round(min(values), 3), round(max(values), 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="of each row and world")
    arguments = parser.parse_args()
    for rows in (power(), one_seed(arguments.studies), few_errors(arguments.studies)):
        for row in rows:
            print(json.dumps(row), flush=True)
    print(json.dumps(machine("numpy", "scipy")))


if __name__ == "__main__":
    main()
