"""A recipe sweep: what is tried, and when a trial is better by more than chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, qmc

from twoviews.settings import StudyCommand
from twoviews.stages.tune_choice import ENOUGH, LEVEL, Choice, TrialScores, choose, p_over_recipe, rule
from twoviews.stages.tune_space import (
    BACKBONE_LR_SCALE,
    EPOCHS_TIMES,
    KINDS,
    LR_TIMES,
    SMALLEST_CROP,
    WEIGHT_DECAY_TIMES,
    between,
    design,
    recipes,
    searched,
)


def study(tune: int = 33, **changes: Any) -> StudyCommand:
    return StudyCommand.model_validate({"tune": tune, **changes})


def test_trial_0_is_the_recipe_as_it_is() -> None:
    settings = study(finetune={"base_lr": 0.07, "crop_scale": (0.9, 1.0)})
    assert recipes("supervised", settings)[0] == settings.supervised
    assert recipes("finetune", settings)[0] == settings.finetune


@pytest.mark.parametrize("kind", KINDS)
def test_trials_stay_within_the_bounds_and_fill_them(kind: Any) -> None:
    settings = study(tune=130)
    own = getattr(settings, kind)
    drawn = recipes(kind, settings)[1:]
    ranges = {
        "base_lr": [own.base_lr * t for t in LR_TIMES],
        "weight_decay": [own.weight_decay * t for t in WEIGHT_DECAY_TIMES],
        "jitter": [0.0, 1.0],
        "epochs": [own.epochs * t for t in EPOCHS_TIMES],
    }
    values = {name: np.array([getattr(trial, name) for trial in drawn]) for name in ranges}
    values["crop"], ranges["crop"] = np.array([trial.crop_scale[0] for trial in drawn]), list(SMALLEST_CROP)
    if kind == "finetune":
        values["scale"], ranges["scale"] = np.array([t.backbone_lr_scale for t in drawn]), list(BACKBONE_LR_SCALE)
    for name, (low, high) in ranges.items():
        found = values[name]
        assert low * 0.994 <= found.min() <= low + 0.06 * (high - low), name  # three digits of each are kept
        assert high - 0.06 * (high - low) <= found.max() <= high * 1.006, name
        if name != "jitter":  # as many below the range's geometric middle as above it
            assert abs(np.mean(found < np.sqrt(low * high)) - 0.5) < 0.05, name
    assert all(trial.grayscale == trial.jitter / 4 for trial in drawn)
    assert all(trial.crop_scale[1] == own.crop_scale[1] for trial in drawn)


def test_what_is_not_searched_is_the_recipe_s() -> None:
    settings = study(finetune={"momentum": 0.8, "label_smoothing": 0.1, "blur": 0.3, "warmup_epochs": 3.0})
    varied = {*searched(settings.finetune), "epochs", "warmup_epochs"}
    for trial in recipes("finetune", settings):
        own = settings.finetune.model_dump(exclude=varied)
        assert trial.model_dump(exclude=varied) == own
        assert trial.warmup_epochs / trial.epochs == pytest.approx(3.0 / settings.finetune.epochs)


def test_the_first_trials_are_the_same_however_many_follow() -> None:
    for kind in KINDS:
        many = recipes(kind, study(tune=40))
        for count in (2, 3, 9, 16, 17):
            assert recipes(kind, study(tune=count)) == many[:count]


def test_a_seed_has_its_own_design_and_keeps_it() -> None:
    assert recipes("supervised", study()) == recipes("supervised", study())
    assert recipes("supervised", study())[1:] != recipes("supervised", study(seed=1))[1:]
    # These very numbers: a sweep that goes on with another version of numpy or scipy must find its own runs.
    assert design(2, 0)[1] == pytest.approx([0.50968, 0.99575, 0.12283, 0.72380, 0.57754, 0.27407], abs=1e-5)


def test_the_design_covers_better_than_chance() -> None:
    chance = [qmc.discrepancy(np.random.default_rng(i).random((32, 6))) for i in range(20)]
    assert qmc.discrepancy(design(32, 5)) < min(chance)


@pytest.mark.parametrize("changes", [{}, {"supervised": {"epochs": 100}}, {"minutes": 30, "finetune": {"epochs": 7}}])
@pytest.mark.parametrize("tune", [2, 3, 12])
def test_both_kinds_have_the_same_trials_and_epochs(changes: dict[str, Any], tune: int) -> None:
    settings = study(tune=tune, **changes)
    baseline, finetune = (recipes(kind, settings) for kind in KINDS)
    assert sum(trial.epochs for trial in baseline) == sum(trial.epochs for trial in finetune)
    assert [t.epochs for t in baseline[2:]] == [t.epochs for t in finetune[2:]]
    for ours, theirs in zip(baseline[1:], finetune[1:], strict=True):
        assert ours.crop_scale == theirs.crop_scale
        assert ours.jitter == theirs.jitter
        # Multiples of each one's own recipe.
        times = (ours.base_lr / settings.supervised.base_lr, theirs.base_lr / settings.finetune.base_lr)
        assert times[0] == pytest.approx(times[1], rel=0.01)


def test_with_a_limit_of_time_no_trial_has_more_epochs_than_planned() -> None:
    assert max(t.epochs for t in recipes("supervised", study(minutes=30))) == study().supervised.epochs
    assert max(t.epochs for t in recipes("supervised", study())) > study().supervised.epochs


def test_settings_at_an_end_of_their_range_stay_settings() -> None:
    odd = {"weight_decay": 0.0, "crop_scale": (0.03, 0.05), "epochs": 1}
    settings = study(supervised=odd, finetune={**odd, "freeze_backbone": True, "backbone_lr_scale": 0.0})
    for kind in KINDS:
        for trial in recipes(kind, settings)[1:]:
            assert trial.weight_decay > 0
            assert 0 < trial.crop_scale[0] <= trial.crop_scale[1] == 0.05
            assert trial.epochs >= 1
    # A frozen backbone has no learning rate to search.
    assert "backbone_lr_scale" not in searched(settings.finetune)
    assert {t.backbone_lr_scale for t in recipes("finetune", settings)} == {0.0}


def test_between_is_even_on_a_logarithmic_scale() -> None:
    assert between(0.0, 0.5, 2.0) == 0.5
    assert between(0.5, 0.5, 2.0) == pytest.approx(1.0)
    assert between(1.0, 0.5, 2.0) == pytest.approx(2.0)


def scores(correct: Any, loss: float = 1.0) -> TrialScores:
    found = np.asarray(correct, dtype=bool)
    return TrialScores(found, np.full(len(found), loss))


def first_right(count: int, images: int, loss: float = 1.0) -> TrialScores:
    return scores(np.arange(images) < count, loss)


def test_p_is_the_one_sided_sign_test_times_the_trials() -> None:
    rng = np.random.default_rng(0)
    for share in (0.5, 0.6, 0.7):
        recipe, trial = scores(rng.random(200) < 0.5), scores(rng.random(200) < share)
        only_trial = int(np.sum(trial.correct & ~recipe.correct))
        only_recipe = int(np.sum(~trial.correct & recipe.correct))
        expected = binomtest(only_trial, only_trial + only_recipe, alternative="greater").pvalue
        found = p_over_recipe(trial, recipe, 5)
        assert found == pytest.approx(min(1.0, 5 * expected)) if only_trial > only_recipe else found == 1.0
    assert p_over_recipe(recipe, recipe, 3) == 1.0


def noise(rng: np.random.Generator, images: int, trials: int, run_points: float) -> list[TrialScores]:
    """Trials that differ by chance alone: images of every difficulty, and trainings that turn out well or badly."""
    logit = rng.normal(0.25, 1.6, images) + rng.normal(0, run_points / 17, (trials, 1))  # 17 points for each unit
    return [scores(row) for row in rng.random((trials, images)) < 1 / (1 + np.exp(-logit))]


@pytest.mark.parametrize(("images", "trials"), [(54, 4), (900, 4), (900, 8)])
def test_noise_seldom_replaces_the_recipe(images: int, trials: int) -> None:
    rng = np.random.default_rng(images + trials)
    studies = [noise(rng, images, trials, run_points=0.0) for _ in range(150)]
    kept = np.mean([choose(study).number == 0 for study in studies])
    assert kept >= 1 - LEVEL
    # The highest accuracy alone would keep it about once in as many trials.
    assert np.mean([np.argmax([s.top1 for s in study]) == 0 for study in studies]) < 1 / trials + 0.15
    # A training's own chance comes on top: a point of accuracy each, two trainings a trial.
    studies = [noise(rng, images, trials, run_points=0.7) for _ in range(150)]
    assert np.mean([choose(study).number == 0 for study in studies]) >= 0.8


def test_a_clearly_better_trial_is_taken() -> None:
    rng = np.random.default_rng(3)
    logit = rng.normal(0.25, 1.6, 900)
    effects = np.array([0.0, -0.6, 0.6, 0.0])[:, None]  # the third is 10 points better
    taken = [
        choose([scores(row) for row in rng.random((4, 900)) < 1 / (1 + np.exp(-logit - effects))]).number
        for _ in range(100)
    ]
    assert taken.count(2) >= 98


def test_below_enough_images_a_small_lead_is_chance() -> None:
    few = [first_right(500, 900), first_right(503, 900), first_right(400, 900)]
    assert choose(few).number == 0
    assert choose(few).p[1] == pytest.approx(2 * 0.125)
    assert "No trial beats the recipe by more than chance: the best, trial 1, by 0.3 points" in choose(few).because
    assert choose([first_right(500, 900), first_right(540, 900)]).number == 1


def test_from_enough_images_on_the_highest_accuracy_is_taken() -> None:
    found = choose([first_right(500, ENOUGH), first_right(503, ENOUGH), first_right(502, ENOUGH)])
    assert found.number == 1
    assert found.because == "Trial 1 beats the recipe by 0.3 points on 1,000 images."
    assert choose([first_right(500, ENOUGH), first_right(499, ENOUGH)]).number == 0


def test_ties_go_to_the_lower_loss_and_then_to_the_earlier_trial() -> None:
    equal = [first_right(500, ENOUGH, loss) for loss in (1.0, 0.9, 0.8, 0.8)]
    assert choose(equal).number == 2
    assert choose(equal[:1] * 3).number == 0
    few = [first_right(100, 900), *(first_right(200, 900, loss) for loss in (0.9, 0.8, 0.8))]
    assert choose(few).number == 2


def test_the_best_is_taken_of_those_that_beat_chance() -> None:
    """One whose lead is larger may differ from the recipe on so many images that it is chance."""
    rng = np.random.default_rng(1)
    recipe = scores(np.arange(400) % 2 == 0)
    other = ~recipe.correct  # wrong where the recipe is right
    other[:4] = True
    sure = recipe.correct.copy()
    sure[np.flatnonzero(~recipe.correct)[:6]] = True
    wild = scores(rng.permutation(other))
    assert p_over_recipe(scores(sure), recipe, 2) < LEVEL < p_over_recipe(wild, recipe, 2)
    found = choose([recipe, wild, scores(sure)])
    assert isinstance(found, Choice)
    assert found.number == 2


def test_failed_trials_are_out_and_still_count_as_tries() -> None:
    lead = [first_right(500, 900), None, first_right(504, 900)]
    found = choose(lead)
    assert found.p == [None, None, pytest.approx(2 / 16)]
    assert found.number == 0
    assert choose([*lead[:2], first_right(505, 900)]).number == 2
    assert choose([first_right(500, 900), None]).number == 0
    assert choose([first_right(500, 900), None]).because


def test_the_rule_says_what_is_done() -> None:
    assert "McNemar" in rule(900, 8)
    assert "7 trials" in rule(900, 8)
    assert "McNemar" not in rule(4500, 8)
    assert "4,500" in rule(4500, 8)
