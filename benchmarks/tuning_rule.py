"""What ``study --tune`` gains by its rule, and by others: simulated sweeps whose trials' true accuracies are known.

    python benchmarks/tuning_rule.py

Images have difficulties of their own; each training turns out a little better or worse than its recipe (a point of
accuracy, as different seeds do) and is right on an image with the probability that follows. Lines are by what was
searched (true difference of a trial to the recipe, in points: mean and deviation), by how trials are scored, and by
rule: the share of sweeps that keep the recipe, and the mean true difference of what is chosen. Takes a minute.
"""

from __future__ import annotations

import json

import numpy as np
from machine import machine

from twoviews.stages.tune_choice import LEVEL, TrialScores, choose

SWEEPS, TRIALS = 1000, 8
SPACES = {"no trial differs": (0.0, 0.0), "as good as the recipe": (0.0, 3.0), "mostly worse": (-3.0, 3.0)}
# Images that are scored, trainings a trial: validation as it is, either half of 900 or 4,500 training images.
SCORED = {
    "100 validation images": (100, 1),
    "900 by halves": (900, 2),
    "500 validation images": (500, 1),
    "4,500 by halves": (4500, 2),
    "5,000 validation images": (5000, 1),
}
DIFFICULTY = 1.6  # deviation of the images' logits: two trainings of one recipe differ on three images in ten
TRAINING = 1.0  # points: deviation of a training's accuracy


def main() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0.25, DIFFICULTY, 100_000)
    right = 1 / (1 + np.exp(-logits))
    points = 100 * float(np.mean(right * (1 - right)))  # of accuracy, for a unit of logit
    for space, (mean, deviation) in SPACES.items():
        for scored, (images, trainings) in SCORED.items():
            chosen: dict[str, list[float]] = {}
            kept: dict[str, list[bool]] = {}
            for _ in range(SWEEPS):
                true = np.concatenate([[0.0], rng.normal(mean, deviation, TRIALS - 1)])
                found = sweep(rng, true / points, images, trainings, TRAINING / points)
                accuracy = [scores.top1 for scores in found]
                choice = choose(found)
                beats = [n for n, p in enumerate(choice.p) if p is not None and p <= LEVEL]
                taken = {
                    "rule": choice.number,
                    "highest accuracy": int(np.argmax(accuracy)),
                    "highest that beats chance": max(beats, key=lambda n: accuracy[n], default=0),
                }
                for rule, number in taken.items():
                    chosen.setdefault(rule, []).append(float(true[number]))
                    kept.setdefault(rule, []).append(number == 0)
            row = {
                rule: {"recipe_kept": round(float(np.mean(kept[rule])), 3), "points": round(float(np.mean(v)), 2)}
                for rule, v in chosen.items()
            }
            print(json.dumps({"trials": TRIALS, "space": space, "scored": scored, **row}), flush=True)
    print(json.dumps(machine("numpy")))


def sweep(
    rng: np.random.Generator, effects: np.ndarray, images: int, trainings: int, training: float
) -> list[TrialScores]:
    """Scores of trials whose logits differ by ``effects``; each training scores its part of the images."""
    logits = rng.normal(0.25, DIFFICULTY, images) + effects[:, None]
    luck = rng.normal(0, training, (len(effects), trainings))
    logits += np.repeat(luck, -(-images // trainings), axis=1)[:, :images]
    correct = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return [TrialScores(row, np.zeros(images)) for row in correct]


if __name__ == "__main__":
    main()
