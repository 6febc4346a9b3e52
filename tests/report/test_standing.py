"""Which model is called the best or the highest, and where none is more than guessing."""

from __future__ import annotations

import json
import re

import pytest

from twoviews.report.page import write_report
from twoviews.report.run import load
from twoviews.report.standing import place_of, standing


def results(models, sizes=(50, 50, 50, 50), **more):
    """Models as accuracy and interval; a confusion matrix whose rows have these sums."""
    matrix = [[size, *[0] * (len(sizes) - 1)] for size in sizes]
    found = {
        name: {"test_top1": top1, "ci95": ends, "confusion": matrix if sizes else None}
        for name, (top1, ends) in models.items()
    }
    return {"models": found, "seeds": [0], "data": {"classes": ["a", "b", "c", "d"]}} | more


POOR = {"supervised": (0.35, [0.22, 0.50]), "finetuned": (0.25, [0.14, 0.40])}
PROBE = {"linear_probe": (0.50, [0.35, 0.65]), "knn": (0.375, [0.24, 0.53])}


def test_the_highest_is_named_though_it_is_not_one_of_the_two_compared():
    found = standing(results(POOR | PROBE))
    assert found.says == (
        "Of the 4 models tested, the linear probe on SimCLR’s features has the highest accuracy: 50.0%"
    )
    assert found.model == "linear_probe"
    assert found.guessing == (
        "Guessing would be right in 25.0%: 4 classes, equally frequent. Neither the baseline nor the fine-tuned model"
        " is clearly better than that: there may be too few epochs, labels or test images."
    )


@pytest.mark.parametrize(
    ("others", "is_best"),
    [
        ({"knn": (0.5, [0.45, 0.54])}, True),
        ({"knn": (0.5, [0.45, 0.56])}, False),  # overlaps
        ({"knn": (0.5, None)}, False),  # nothing is known of it
    ],
)
def test_best_is_said_only_where_no_other_interval_reaches_it(others, is_best):
    says = standing(results({"linear_probe": (0.6, [0.55, 0.65])} | others)).says
    assert ("is the best" in says) is is_best
    assert ("has the highest accuracy" in says) is not is_best


@pytest.mark.parametrize(
    ("points", "ci95", "p", "third", "is_best"),
    [
        (4.0, [1.0, 7.0], 0.01, [0.40, 0.50], True),  # the paired test tells the two apart, though intervals overlap
        (4.0, [-1.0, 9.0], 0.2, [0.40, 0.50], False),
        (4.0, [1.0, 7.0], 0.01, [0.40, 0.58], False),  # not the third model
    ],
)
def test_the_verdict_counts_for_the_two_compared(points, ci95, p, third, is_best):
    models = {"supervised": (0.56, [0.50, 0.62]), "finetuned": (0.6, [0.55, 0.65]), "knn": (0.45, third)}
    comparison = {"finetuned_minus_supervised": {"points": points, "ci95": ci95, "mcnemar_p": p}}
    found = results(models, comparison=comparison)
    assert standing(found).says.startswith(
        f"Of the 3 models tested, the fine-tuned model {'is the best' if is_best else 'has the highest accuracy'}: 60.0"
    )


def test_the_baseline_may_be_the_best():
    models = {"supervised": (0.6, [0.55, 0.65]), "finetuned": (0.56, [0.50, 0.62])}
    comparison = {"finetuned_minus_supervised": {"points": -4.0, "ci95": [-7.0, -1.0], "mcnemar_p": 0.01}}
    found = standing(results(models, comparison=comparison))
    assert found.says == "Of both models tested, the supervised baseline is the best: 60.0%"


def test_equal_accuracies_share_the_place():
    found = standing(results({"linear_probe": (0.59, None), "knn": (0.59, None), "supervised": (0.4, None)}))
    assert found.says == (
        "Of the 3 models tested, the linear probe on SimCLR’s features and kNN on SimCLR’s features are equally high:"
        " 59.0% right"
    )
    assert found.model == ""


def test_seeds_and_label_budgets_are_said():
    found = standing(results(POOR | PROBE, seeds=[0, 1, 2], label_curve=[{"labels": 10}, {"labels": 100}]))
    assert found.says.startswith("Of the 4 models tested with all labels, ")
    assert found.says.endswith(": 50.0%, the mean of 3 seeds")


def test_guessing_where_classes_differ_in_size_names_the_largest():
    found = standing(results(PROBE, sizes=(10, 60, 20, 10)))
    assert found.guessing.startswith("Always naming the most frequent class, “b”, would be right in 60.0%.")
    assert found.guessing.endswith(
        "No model is clearly better than that: there may be too few epochs, labels or test images."
    )


def test_guessing_without_counts_is_one_of_the_classes():
    assert standing(results(PROBE, sizes=())).guessing == "Guessing one of 4 classes would be right in 25.0%."
    assert standing(results(PROBE, sizes=(), data={})).guessing == ""


def test_an_interval_below_guessing_is_no_better_and_one_above_it_is():
    below = {"supervised": (0.1, [0.05, 0.2]), "finetuned": (0.1, [0.05, 0.2])}
    assert "Neither the baseline" in standing(results(below | {"sgd_probe": (0.6, [0.5, 0.7])})).guessing
    above = {"supervised": (0.4, [0.3, 0.5]), "finetuned": (0.25, [0.14, 0.40])}
    assert "better than that" not in standing(results(above)).guessing
    assert standing(results({"supervised": (0.25, [0.14, 0.40]), "finetuned": (0.6, [0.5, 0.7])})).guessing.endswith(
        "The baseline is not clearly better than that: the comparison is with a model that has hardly learned."
    )
    unknown = {"supervised": (0.25, None), "finetuned": (0.25, [0.14, 0.40])}
    assert "better than that" not in standing(results(unknown)).guessing


def test_one_model_alone_is_not_called_the_highest():
    found = standing(results({"finetuned": (0.25, [0.14, 0.40])}))
    assert found.says == "Only the fine-tuned model was tested: 25.0% right"
    assert "The model is not clearly better than that" in found.guessing
    assert found.model == ""


@pytest.mark.parametrize("nothing", [{}, {"models": {}}, {"models": {"knn": {"test_top1": None}}}, {"models": 3}])
def test_without_a_tested_model_nothing_is_said(nothing):
    assert standing(nothing) is None


def test_the_place_is_named_where_something_is_there(tmp_path):
    for path in ("seed0/supervised", "seed0/features", "seed0/finetune/models"):
        (tmp_path / path).mkdir(parents=True)
    run = load(tmp_path)
    assert place_of(run, "finetuned") == "seed0/finetune/models/"
    assert place_of(run, "linear_probe") == ""  # its file is missing
    (tmp_path / "seed0/features/linear_probe.safetensors").touch()
    assert place_of(run, "linear_probe") == "seed0/features/linear_probe.safetensors"
    assert place_of(run, "knn") == place_of(run, "") == ""


def test_the_line_is_on_the_page_under_the_verdict(tmp_path):
    """One line, escaped, also where nothing can be compared yet; the place after the accuracy that it belongs to."""
    (tmp_path / "features").mkdir()
    (tmp_path / "features/linear_probe.safetensors").touch()
    found = results(PROBE, sizes=(90, 10), data={"classes": ["<b>", "c"]})
    (tmp_path / "results.json").write_text(json.dumps(found))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    (line,) = re.findall(r'<p class="ahead">(.*)</p>', page)
    place = " (<code>features/linear_probe.safetensors</code>)"
    assert (
        f"accuracy: 50.0%{place}. Always naming the most frequent class, “&lt;b&gt;”, would be right in 90.0%." in line
    )
