"""Which trial of a recipe sweep is taken: the best one, if it is the best by more than chance.

Among several trials scored on few images the best is often only the luckiest (the "winner's curse"), and a recipe that
was tuned before is thrown away for it. From ``ENOUGH`` images on the luck is small beside what settings change; below
them a trial has to beat the recipe in a test. ``benchmarks/tuning_rule.py`` shows what either rule gains and loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twoviews.evaluation.significance import mcnemar_exact

ENOUGH = 1000  # scored images
LEVEL = 0.1  # share of studies in which the chance of images replaces the recipe where no trial differs from it


@dataclass(frozen=True)
class TrialScores:
    """One trial on the images that it was not trained on.

    Attributes:
        correct: (N,) whether each image was classified correctly; the same images in the same order for every trial.
        loss: (N,) cross-entropy of each image.
    """

    correct: npt.NDArray[np.bool_]
    loss: npt.NDArray[np.float64]

    @property
    def top1(self) -> float:
        """Fraction of images classified correctly, in [0, 1]."""
        return float(np.mean(self.correct))

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy."""
        return float(np.mean(self.loss))


@dataclass(frozen=True)
class Choice:
    """The trial that is taken.

    Attributes:
        number: of the trial; 0 is the recipe.
        because: why, as a sentence.
        p: for each trial ``p_over_recipe``; None for the recipe and for trials that failed.
    """

    number: int
    because: str
    p: list[float | None]


def choose(scores: Sequence[TrialScores | None]) -> Choice:
    """The trial with the highest accuracy; on fewer than ``ENOUGH`` images among those that beat chance alone.

    Trials of equal accuracy are told apart by their cross-entropy, and then the earlier one is taken.

    Args:
        scores: of each trial, the recipe first; None: the trial failed (its loss was not finite).
    """
    recipe = scores[0]
    assert recipe is not None, "a recipe that fails ends the study"
    drawn = len(scores) - 1
    p = [None if found is None else p_over_recipe(found, recipe, drawn) for found in scores]
    p[0] = None
    enough = len(recipe.correct) >= ENOUGH

    def order(number: int) -> tuple[float, float, int]:
        found = scores[number]
        assert found is not None
        return -found.top1, found.mean_loss, number

    ranked = sorted((n for n, found in enumerate(scores) if found is not None), key=order)
    best = next((n for n in ranked if n), 0)
    beating = [n for n, value in enumerate(p) if value is not None and value <= LEVEL]
    number = ranked[0] if enough else min(beating, key=order, default=0)
    return Choice(number, _because(scores, number, best, p, enough), p)


def p_over_recipe(trial: TrialScores, recipe: TrialScores, trials: int) -> float:
    """How likely chance alone puts at least one of so many trials as far ahead of the recipe: in (0, 1].

    McNemar's exact test (1947), one-sided, times the number of trials (Bonferroni). It takes images for the only
    chance; that of a training (another seed) is in it as far as it changes the errors image by image.
    """
    ahead = int(trial.correct.sum()) - int(recipe.correct.sum())
    if ahead <= 0:
        return 1.0
    return min(1.0, trials * mcnemar_exact(trial.correct, recipe.correct) / 2)


def rule(images: int, trials: int) -> str:
    """The rule by which so many trials are judged on so many images, as a sentence."""
    if images >= ENOUGH:
        return (
            f"Of {trials} trials the one with the highest accuracy on {images:,} images that it was not trained on; "
            "of equal ones the one with the lower cross-entropy."
        )
    return (
        f"Of {trials} trials the one with the highest accuracy on {images:,} images that it was not trained on, if it "
        f"beats the recipe by more than chance (McNemar's exact test over {trials - 1} trials, p up to {LEVEL:g}); "
        "else the recipe."
    )


def _because(scores: Sequence[TrialScores | None], number: int, best: int, p: list[float | None], enough: bool) -> str:
    recipe, found = scores[0], scores[number or best]
    assert recipe is not None
    assert found is not None
    images = f"{len(recipe.correct):,} images"
    points = 100 * (found.top1 - recipe.top1)
    chance = p[number or best]
    told = f"by {points:.1f} points on {images}"
    if not enough and chance is not None:
        told += f", p = {chance:.2g} over {len(scores) - 1} trials"
    if number and points == 0:
        return f"Trial {number} is right as often as the recipe on {images}, and its cross-entropy is lower."
    if number:
        return f"Trial {number} beats the recipe {told}."
    if points > 0:
        return f"No trial beats the recipe by more than chance: the best, trial {best}, {told}."
    return f"No trial is right more often than the recipe on {images}."
