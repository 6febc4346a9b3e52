"""What the page says of tuning: the same budget or not, and which trial was taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from twoviews.report.run import Run
from twoviews.report.tuning import tuning_section


def side(scores=(0.5, 0.6, 0.55), epochs=(20, 20, 20), chosen=1, key="val_top1", **more):
    trials = [
        {"settings": {"base_lr": 0.1 * (i + 1), "weight_decay": 5e-4}, "epochs": n, key: score}
        for i, (score, n) in enumerate(zip(scores, epochs, strict=True))
    ]
    return {"trials": trials, "chosen_trial": chosen, "chosen": trials[0]["settings"], **more}


def section(supervised=None, finetune=None, **more):
    found = {"trials": 3, **more, "supervised": supervised, "finetune": finetune}
    results = {"tuning": {key: value for key, value in found.items() if value is not None}}
    return tuning_section(Run(folder=Path(), kind="study", results=results))


def test_the_same_budget_is_said_and_the_chosen_trial_marked():
    found = section(side(because="Trial 1 beats the recipe."), side(), scored_images=1200, rule="The best.")
    assert found.says == (
        "The baseline and fine-tuning were tuned with the same budget, 3 trials of 60 epochs in all each; the choice"
        " went by accuracy on 1,200 images that a trial was not trained on. No test image was read."
    )
    assert found.rule == "The best."
    [(first, table), (second, _)] = found.tables
    assert (first, second) == ("Supervised baseline", "Fine-tuning")
    assert table.header == ["Trial", "base lr", "Accuracy"]
    assert table.rows == [["recipe", "0.1", "50.0%"], ["1, chosen", "0.2", "60.0%"], ["2", "0.3", "55.0%"]]
    assert table.marked == 1
    assert table.caption == ("Trial 1 beats the recipe. The same in all trials: weight decay 0.0005 and epochs 20.")


def test_trials_are_compared_with_the_recipe():
    tried = side(chosen=0)
    tried["trials"][0] |= {"points_over_recipe": 0.0, "p": None}
    tried["trials"][1] |= {"points_over_recipe": 10.0, "p": 0.2}
    tried["trials"][2] |= {"points_over_recipe": None, "p": None, "failed": True, "val_top1": None}
    found = section(tried, tried, trainings=2, scored_images=900)
    assert (
        "went by accuracy on 900 images that a trial was not trained on: each trial was trained on either half"
        in found.says
    )
    assert found.tables[0][1].header == ["Trial", "base lr", "Accuracy", "Over the recipe", "p"]
    assert found.tables[0][1].rows == [
        ["recipe, chosen", "0.1", "50.0%", "", ""],
        ["1", "0.2", "60.0%", "+10.0", "0.20"],
        ["2", "0.3", "loss not finite", "–", "–"],
    ]


def test_budgets_that_differ_are_said():
    assert section(side(), side(epochs=(20, 20, 40))).says.startswith(
        "The budgets differ: Supervised baseline 3 trials of 60 epochs in all and Fine-tuning 3 trials of 80 epochs"
    )
    assert section(side(), side(scores=(0.5,), epochs=(60,), chosen=0)).says.startswith("The budgets differ")
    assert section(side()).says.startswith("Only one side was tuned: Supervised baseline 3 trials")


def test_cross_validation_is_called_so():
    found = section(side(key="cv_top1"), side(key="cv_top1"))
    assert "the choice went by cross-validation on the training images" in found.says


def test_the_chosen_trial_may_be_named_by_its_settings_alone():
    tried = side(chosen=None)
    tried["chosen"] = tried["trials"][2]["settings"]
    assert section(tried).tables[0][1].marked == 2


@pytest.mark.parametrize("chosen", [7, -1, True, None])
def test_an_unknown_choice_marks_nothing(chosen):
    table = section({**side(chosen=chosen), "chosen": {"base_lr": 9}}).tables[0][1]
    assert table.marked is None
    assert "chosen" not in str(table.rows)


@pytest.mark.parametrize("tuned", [None, {}, {"trials": []}, {"trials": ["x"]}, "much"])
def test_without_trials_there_is_no_section(tuned):
    assert section(tuned) is None


def test_settings_and_scores_that_are_missing_leave_gaps():
    broken = side(chosen=0)
    broken["trials"][0] = {"settings": None, "val_top1": None}
    table = section(broken).tables[0][1]
    assert table.rows[0] == ["recipe, chosen", "–", "–", "–", "–"]
