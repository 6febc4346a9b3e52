"""How often do the intervals hold the truth? Simulated studies whose true accuracies are known.

    python benchmarks/interval_coverage.py [--studies 20000] [--images 500]

Each simulated study has S seeds, N test images and a few models. A model is right on an image if a sum of normal parts
is above zero: the model's quality, how easy the image is for all models and for this one, the seed's luck, and the
rest. So the true accuracies over seeds and images are known exactly. Columns: percent of studies whose 95 % interval
holds the true difference of two models, with Satterthwaite's degrees of freedom as they are and with ours, and the same
for a model's mean accuracy. For one seed, a tenth of the studies: the bootstrap's interval and Wilson's, against what
this pair of trained models would do on all images. Last, a tenth of the studies too: the interval of the number of
labels at which the fine-tuned model is as good as the baseline. Eight minutes of one processor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from machine import machine
from scipy.special import ndtr, ndtri, stdtrit

from twoviews.evaluation.label_savings import CurvePoint, label_savings
from twoviews.evaluation.random_effects import grand_mean, mean_squares
from twoviews.evaluation.significance import DEFAULT_RESAMPLES, bootstrap_intervals, wilson_interval

LEVEL = 0.95


class World(NamedTuple):
    """Standard deviations of what decides whether a model is right, beside a rest of 1.

    Attributes:
        common: how easy an image is for both models.
        own: how easy it is for one of them.
        seed: a training's luck.
    """

    common: float
    own: float
    seed: float


WORLDS = {
    "seeds alike": World(0.8, 0.5, 0.0),
    "seeds differ little": World(0.8, 0.5, 0.03),
    "seeds as much as images": World(0.8, 0.5, 0.1),
    "seeds more than images": World(0.8, 0.5, 0.2),
    "seeds dominate": World(0.8, 0.5, 0.5),
    "images more than seeds": World(0.8, 1.5, 0.1),
    "images as much as seeds": World(0.8, 1.5, 0.2),
    "models of a kind": World(0.8, 0.0, 0.0),
    "models of a kind, seeds differ": World(0.8, 0.0, 0.1),
}
ACCURACIES = (0.70, 0.62)
LABELS = (100, 300, 1000)
CURVE = (0.55, 0.63, 0.71, 0.62)
"""Accuracies of the fine-tuned model at ``LABELS``, then of the baseline with all of them."""


class Studies(NamedTuple):
    """Simulated studies.

    Attributes:
        correct: (models, studies, S, N).
        truth: (models,) their expected accuracies, over seeds and images.
        truth_of_seeds: (models, studies, S) over images, for the seeds as drawn.
    """

    correct: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.float64]
    truth_of_seeds: npt.NDArray[np.float64]


def simulate(
    world: World, studies: int, seeds: int, images: int, accuracies: tuple[float, ...] = ACCURACIES, seed: int = 0
) -> Studies:
    """Studies of models with these true accuracies."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> npt.NDArray[np.float32]:
        return generator.standard_normal(shape, dtype=np.float32)

    whole = np.sqrt(1 + world.common**2 + world.own**2 + world.seed**2)
    shared = world.common * normal(studies, 1, images)
    correct = np.empty((len(accuracies), studies, seeds, images), dtype=bool)
    of_seeds = np.empty((len(accuracies), studies, seeds))
    for model, accuracy in enumerate(accuracies):
        quality = whole * ndtri(accuracy) + world.seed * normal(studies, seeds, 1)
        easy = shared + world.own * normal(studies, 1, images)
        correct[model] = normal(studies, seeds, images) > -(quality + easy).astype(np.float32)
        of_seeds[model] = ndtr(quality[..., 0] / np.sqrt(1 + world.common**2 + world.own**2))
    return Studies(correct, np.asarray(accuracies), of_seeds)


def covered(values: npt.NDArray[Any], truth: float) -> float:
    """Share of (studies, S, N) values whose interval holds the truth."""
    found = grand_mean(values, LEVEL)
    return float(np.mean(np.abs(found.mean - truth) <= found.half_width))


def covered_plainly(values: npt.NDArray[Any], truth: float) -> float:
    """The same with Satterthwaite's degrees of freedom as they are, each mean square at least that of the rest."""
    seeds, images = values.shape[-2:]
    squares = mean_squares(values)
    of_seeds, of_images = (np.maximum(one, squares.rest) for one in (squares.seeds, squares.images))
    whole = of_seeds + of_images - squares.rest
    uncertain = of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1)
    uncertain += squares.rest**2 / ((seeds - 1) * (images - 1))
    half = stdtrit(whole**2 / uncertain, (1 + LEVEL) / 2) * np.sqrt(whole / (seeds * images))
    return float(np.mean(np.abs(values.mean(axis=(1, 2)) - truth) <= half))


def covered_by_one_seed(studies: Studies, resamples: int = DEFAULT_RESAMPLES) -> tuple[float, float]:
    """Shares of one-seed studies whose interval holds the true difference of the pair, and the first's accuracy."""
    a, b = studies.correct[:, :, 0]
    true_a, true_b = studies.truth_of_seeds[..., 0]
    only = np.stack([(a & ~b).sum(axis=1), (~a & b).sum(axis=1), (a == b).sum(axis=1)], axis=-1)
    low, high = bootstrap_intervals(only, resamples, level=LEVEL)
    truth = 100 * (true_a - true_b)
    wilson = {right: wilson_interval(right, a.shape[1], LEVEL) for right in np.unique(a.sum(axis=1)).tolist()}
    ends = np.array([wilson[right] for right in a.sum(axis=1).tolist()])
    of_model = (ends[:, 0] <= true_a) & (true_a <= ends[:, 1])
    return float(np.mean((low <= truth) & (truth <= high))), float(of_model.mean())


def covered_savings(world: World, studies: int, seeds: int, images: int, seed: int = 0) -> float:
    """Share of studies whose interval of label savings holds the true number of labels."""
    *rising, goal = CURVE
    found = simulate(world, studies, seeds, images, CURVE, seed)
    truth = float(np.exp(np.interp(goal, rising, np.log(LABELS))))
    holds = 0
    for study in np.moveaxis(found.correct, 1, 0):
        # Only the baseline with all labels matters here; the same stands in for the points below it.
        savings = label_savings([CurvePoint(n, study[-1], one) for n, one in zip(LABELS, study, strict=False)])
        assert savings is not None
        holds += (savings.low or 0.0) <= truth <= (savings.high or np.inf)
    return holds / studies


def several(world: World, studies: int, seeds: int, images: int, seed: int) -> tuple[float, float, float]:
    """Shares of studies of several seeds that hold the difference, plainly and by ours, and a model's mean."""
    found = simulate(world, studies, seeds, images, seed=seed)
    values = found.correct[0].astype(np.int8) - found.correct[1].astype(np.int8)
    truth = float(found.truth[0] - found.truth[1])
    mean = covered(found.correct[0], float(found.truth[0]))
    return covered_plainly(values, truth), covered(values, truth), mean


def parts(studies: int, at_once: int = 500) -> Iterator[tuple[int, int]]:
    """Seed and size of equal parts that fit into memory."""
    return ((seed, at_once) for seed in range(-(-studies // at_once)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()
    print(f"{'world':<32} seeds  plain   ours   mean")
    for name, world in WORLDS.items():
        found = [simulate(world, part, 1, arguments.images, seed=seed) for seed, part in parts(arguments.studies // 10)]
        ours, mean = np.mean([covered_by_one_seed(one) for one in found], axis=0)
        print(f"{name:<32} {1:>5}         {ours:6.1%} {mean:6.1%}", flush=True)
        for seeds in (2, 3, 5, 10):
            rows = [several(world, part, seeds, arguments.images, seed) for seed, part in parts(arguments.studies)]
            plain, ours, mean = np.mean(rows, axis=0)
            print(f"{name:<32} {seeds:>5} {plain:6.1%} {ours:6.1%} {mean:6.1%}", flush=True)
    for name, world in WORLDS.items():
        for seeds in (1, 3, 5):
            if seeds > 1 or world.seed == 0:
                share = covered_savings(world, arguments.studies // 10, seeds, arguments.images)
                print(f"label savings, {name:<32} {seeds:>5} {share:6.1%}", flush=True)
    print(json.dumps(machine("numpy", "scipy")))


if __name__ == "__main__":
    main()
