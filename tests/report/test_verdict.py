"""The verdict's words follow from the numbers, in every case."""

from __future__ import annotations

import pytest

from twoviews.report.verdict import verdict


def results(points=None, ci95=None, p=None, seeds=(0,), each=None, images=2000, top1=(0.6, 0.6)):
    return {
        "seeds": list(seeds),
        "data": {"counts": {"test": images}},
        "models": {"supervised": {"test_top1": top1[0]}, "finetuned": {"test_top1": top1[1]}},
        "comparison": {
            "finetuned_minus_supervised": {
                "points": points,
                "ci95": ci95,
                "mcnemar_p": p,
                "mcnemar_p_per_seed": each or [p],
            }
        },
    }


def said(**numbers):
    answer = verdict(results(**numbers))
    return answer.kind, f"{answer.lead}: {answer.sentence}"


def test_helped():
    assert said(points=6.4, ci95=[4.6, 8.2], p=0.0000004) == (
        "helped",
        "Pretraining helped in this run: for this pair of models, test accuracy is 6.4 percentage points higher with"
        " SimCLR pretraining than without (95% interval +4.6 to +8.2; McNemar p < 0.001; 2,000 test images).",
    )


def test_hurt():
    assert said(points=-3.1, ci95=[-4.9, -1.3], p=0.0021) == (
        "hurt",
        "Pretraining hurt in this run: for this pair of models, test accuracy is 3.1 percentage points lower with"
        " SimCLR pretraining than without (95% interval −4.9 to −1.3; McNemar p = 0.002; 2,000 test images).",
    )


def test_unclear_says_what_still_fits():
    assert said(points=0.6, ci95=[-1.2, 2.4], p=0.52, images=500) == (
        "unclear",
        "No difference that this test can see: for this pair of models, test accuracy is 0.6 percentage"
        " points higher with SimCLR pretraining than without (95% interval −1.2 to +2.4; McNemar p = 0.52;"
        " 500 test images); anything from 1.2 points lost to 2.4 points gained fits these results.",
    )


def test_no_change_at_all():
    kind, text = said(points=0.0, ci95=[-1.5, 1.5], p=1.0)
    assert kind == "unclear"
    assert "test accuracy is the same with SimCLR pretraining as without (95% interval −1.5 to +1.5;" in text


@pytest.mark.parametrize(("ci95", "p"), [([0.1, 4.0], 0.06), ([-0.1, 4.0], 0.04)])
def test_interval_and_test_that_disagree_decide_nothing(ci95, p):
    kind, text = said(points=2.0, ci95=ci95, p=p)
    assert kind == "unclear"
    assert text.startswith("Too close to call: ")


def test_several_seeds_go_by_the_interval():
    kind, text = said(points=2.0, ci95=[0.8, 3.2], p=0.3, seeds=(0, 1, 2), each=[0.3, 0.01, 0.02])
    assert kind == "helped"
    assert "over 3 seeds, mean test accuracy is 2.0 percentage points higher" in text
    assert "McNemar p < 0.05 for 2 of 3 seeds" in text
    assert "pair of models" not in text


def test_a_small_bound_is_never_printed_as_zero():
    assert "95% interval +0.04 to +3.10" in said(points=1.57, ci95=[0.04, 3.1], p=0.04)[1]


def test_a_narrow_interval_is_not_printed_as_no_width():
    text = said(points=0.1, ci95=[0.051, 0.149], p=0.0001, images=100_000)[1]
    assert "is 0.10 percentage points higher" in text
    assert "95% interval +0.05 to +0.15" in text


def test_an_end_at_zero_is_neither_lost_nor_gained():
    assert "from none at all to 10.0 points gained fits" in said(points=3.3, ci95=[0.0, 10.0], p=1.0, images=30)[1]


def test_only_several_seeds_say_it_of_pretraining_as_such():
    of_one = said(points=2.0, ci95=[0.8, 3.2], p=0.01)[1]
    of_three = said(points=2.0, ci95=[0.8, 3.2], p=0.01, seeds=(0, 1, 2))[1]
    assert of_one.startswith("Pretraining helped in this run: ")
    assert of_three.startswith("Pretraining helped: ")


HURT, UNCLEAR, HELPED = (-4.0, [-6.0, -2.0], 0.001), (0.5, [-1.5, 2.5], 0.6), (4.0, [2.0, 6.0], 0.001)


def probed(finetuned, probe):
    """The verdict where fine-tuning and the linear probe have these points, interval and p against the baseline."""
    found = results(*finetuned)
    points, ci95, p = probe
    found["comparison"]["linear_probe_minus_supervised"] = {"points": points, "ci95": ci95, "mcnemar_p": p}
    return verdict(found)


@pytest.mark.parametrize(("finetuned", "kind"), [(HURT, "hurt"), (UNCLEAR, "unclear")])
def test_a_probe_that_beats_the_baseline_is_said_where_fine_tuning_does_not(finetuned, kind):
    """The frozen features are pretraining's too: "hurt" alone would be wrong of it."""
    answer = probed(finetuned, HELPED)
    assert answer.kind == kind
    assert answer.lead == "Pretraining shows in the linear probe, not in fine-tuning"
    assert answer.sentence.startswith("after fine-tuning, for this pair of models, test accuracy is ")
    assert answer.sentence.endswith(
        "; the linear probe, on the same pretrained features left as they are, is 4.0 points above the baseline"
        " (95% interval +2.0 to +6.0)."
    )
    assert "neither interval is widened for there being two" in answer.detail


def test_a_probe_changes_nothing_where_it_is_no_clearer_than_fine_tuning():
    assert probed(HELPED, HELPED) == verdict(results(*HELPED))
    assert probed(HELPED, HURT) == verdict(results(*HELPED))
    for finetuned in (HURT, UNCLEAR):
        assert probed(finetuned, UNCLEAR) == verdict(results(*finetuned))
    for probe in ((4.0, None, 0.001), (None, [2.0, 6.0], 0.001), (4.0, [2.0, 6.0], 0.2)):
        assert probed(HURT, probe) == verdict(results(*HURT))


def test_a_probe_that_loses_too_is_said():
    answer = probed(HURT, HURT)
    assert answer.lead == "Pretraining hurt in this run"
    assert "is 4.0 points below the baseline (95% interval −6.0 to −2.0)." in answer.detail


def test_without_interval_and_p_no_claim_is_made():
    answer = verdict(results(top1=(0.60, 0.65)))
    assert answer.kind == "untested"
    assert "5.0 percentage points higher" in answer.sentence
    assert "may be chance" in answer.detail


def test_one_model_is_no_answer():
    assert verdict({"models": {"supervised": {"test_top1": 0.6}}}) is None
    assert verdict({}) is None


def detail(seeds=(0,), pretrain_seeds=None, **comparison):
    found = results(points=2.0, ci95=comparison.pop("ci95", [0.8, 3.2]), p=0.01, seeds=seeds)
    found["comparison"]["finetuned_minus_supervised"] |= comparison
    if pretrain_seeds is not None:
        found["pretrain_seeds"] = pretrain_seeds
    return verdict(found).detail


def test_what_could_have_been_seen():
    assert detail(detectable=1.94).endswith(
        "A true difference of 1.9 points would have been found in four of five such studies of one pair of models."
    )
    assert detail(seeds=(0, 1, 2), detectable=0.04).endswith(
        "A true difference of 0.04 points would have been found in four of five such studies of 3 seeds."
    )
    nothing = "No difference, however large, would have been found in four of five such studies of one pair of models."
    assert detail(detectable=100.0).endswith(nothing)
    unclear = detail(detectable=1.9, ci95=[-1.0, 5.0])
    assert "1.9 points would have been found" in unclear
    assert unclear.endswith("More test images, or more seeds, would show smaller differences.")


@pytest.mark.parametrize("detectable", [None, 0.0, float("nan"), "much"])
def test_nothing_is_said_of_a_difference_that_was_not_computed(detectable):
    assert "four of five" not in detail(detectable=detectable)


def test_several_seeds_say_each_difference_and_which_chance_is_covered():
    text = detail(seeds=(0, 1, 2), per_seed=[1.0, 2.0, 3.0], std=1.0, pretrain_seeds=[0])
    assert text == (
        "Seed by seed the difference is +1.0, +2.0 and +3.0 points (standard deviation 1.0). The interval covers chance"
        " in training (each seed has its own split, start, order and views) and in the test images; not in pretraining,"
        " which was run once."
    )
    assert detail(seeds=(0, 1, 2), pretrain_seeds=[0, 1, 2]).endswith("pretraining, too, was run anew with each seed.")
    assert detail(seeds=(0, 1, 2)).endswith("and in the test images.")


def uneven(top1, balanced):
    found = results(points=100 * (top1[1] - top1[0]), ci95=[1.0, 3.0], p=0.01, top1=top1)
    for name, value in zip(("supervised", "finetuned"), balanced, strict=True):
        found["models"][name]["balanced_accuracy"] = value
    return verdict(found).detail


def test_a_gain_in_images_that_is_a_loss_in_classes_is_said():
    """Naming the most frequent class more often raises accuracy where classes are uneven."""
    assert (
        "with each class counting the same (balanced accuracy) the fine-tuned model is 20.0 points below the baseline,"
        " 50.0% and 70.0%." in uneven((0.88, 0.90), (0.70, 0.50))
    )
    assert "4.0 points above the baseline, 64.0% and 60.0%" in uneven((0.90, 0.88), (0.60, 0.64))
    for top1, balanced in (((0.88, 0.90), (0.5, 0.7)), ((0.6, 0.62), (0.6, 0.62)), ((0.6, 0.62), (0.6, None))):
        assert "balanced" not in uneven(top1, balanced)


@pytest.mark.parametrize(("seen", "said"), [(1, "1 image of pretraining is a copy"), (12, "12 images of pretraining")])
def test_copies_of_test_images_that_only_pretraining_may_have_seen_stand_by_the_verdict(seen, said):
    found = results(points=2.0, ci95=[0.8, 3.2], p=0.01)
    assert "of test images" not in verdict(found).detail
    found["data"]["test_copies_pretrained_on"] = seen
    assert said in verdict(found).detail


def test_without_an_interval_no_chance_is_claimed_to_be_covered():
    found = results(points=2.0, seeds=(0, 1))
    found["comparison"]["finetuned_minus_supervised"]["per_seed"] = [1.5, 2.5]
    text = verdict(found).detail
    assert "Seed by seed the difference is +1.5 and +2.5 points." in text
    assert "covers" not in text


def on_labels(few, every, seeds=(0, 1, 2)):
    """A study with 10 and 30 labels a class of 3 classes, and with all 300."""
    found = results(*every, seeds=seeds)
    marks = {name: {"test_top1": 0.5} for name in ("supervised", "finetuned")}
    found["label_curve"] = [
        {"labels": 3 * n, "labels_per_class": n, "models": marks, "comparison": {"points": points, "ci95": ci95}}
        for n, (points, ci95) in ((10, few[0]), (30, few[1]), (100, every[:2]))
    ]
    return verdict(found)


FEW_HELP = ((13.4, [10.8, 16.1]), (9.9, [6.4, 13.3]))


@pytest.mark.parametrize(
    ("few", "every", "seeds", "lead"),
    [
        (FEW_HELP, (1.9, [-2.8, 6.5]), (0, 1, 2), "Pretraining helped with few labels, not measurably with all"),
        (FEW_HELP, (-3.0, [-5.0, -1.0]), (0, 1, 2), "Pretraining helped with few labels and hurt with all"),
        (FEW_HELP, (4.5, [2.3, 6.8]), (0, 1, 2), "Pretraining helped"),
        (
            FEW_HELP,
            (1.9, [-2.8, 6.5], 0.3),
            (0,),
            "Pretraining helped with few labels in this run, not measurably with all",
        ),
        # The fewest labels decide: one point of many that excludes zero may do so by chance.
        (((1.0, [-2.0, 4.0]), FEW_HELP[1]), (1.9, [-2.8, 6.5]), (0, 1, 2), "No difference that this test can see"),
        ((FEW_HELP[0], (-4.0, [-6.0, -2.0])), (0.0, [-2.8, 2.8]), (0, 1, 2), "No difference that this test can see"),
    ],
)
def test_few_labels_have_a_say_in_how_the_answer_opens(few, every, seeds, lead):
    answer = on_labels(few, every, seeds)
    assert answer.lead == lead
    assert answer.sentence.startswith("with all 300 labels, ")
    assert answer.fewer.startswith("With fewer labels the difference is ")


def test_the_differences_with_fewer_labels_are_said():
    assert on_labels(FEW_HELP, (1.9, [-2.8, 6.5])).fewer == (
        "With fewer labels the difference is +13.4 points at 10 a class (95% interval +10.8 to +16.1) and +9.9 at 30"
        " (+6.4 to +13.3)."
    )
    assert verdict(results(points=1.0, ci95=[-1.0, 3.0])).fewer == ""


def on_folds(ci95, every, *, labels=1000):
    found = results(*every, seeds=(0,))
    found["data"]["counts"] |= {"train": 4500, "val": 500}
    found["folds"] = [{"fold": i, "train": labels, "val": 400, "labels": labels + 400} for i in range(10)]
    found["folds_summary"] = {"comparison": {"points": 2.287, "ci95": ci95}}
    return found


def test_folds_have_a_say_as_fewer_labels_do():
    hurt = (-1.5, [-2.3, -0.6], 0.001)
    answer = verdict(on_folds([1.5, 3.0], hurt))
    assert answer.lead == "Pretraining helped with few labels in this run and hurt with all"
    assert answer.sentence.startswith("with all 5,000 labels, ")
    assert answer.fewer == "Over 10 folds of 1,000 labels the difference is +2.3 points (95% interval +1.5 to +3.0)."
    assert verdict(on_folds([-0.1, 4.7], hurt)).lead == "Pretraining hurt in this run"
    assert verdict(on_folds([1.5, 3.0], hurt, labels=5000)).fewer == ""


def test_where_there_are_both_the_fewest_labels_open_and_folds_are_said():
    found = on_folds([1.5, 3.0], (-1.5, [-2.3, -0.6], 0.001))
    marks = {name: {"test_top1": 0.5} for name in ("supervised", "finetuned")}
    found["label_curve"] = [
        {"labels": 10 * n, "labels_per_class": n, "models": marks, "comparison": {"points": points, "ci95": ci95}}
        for n, points, ci95 in ((10, 0.5, [-1.0, 2.0]), (500, -1.5, [-2.3, -0.6]))
    ]
    answer = verdict(found)
    assert answer.lead == "Pretraining hurt in this run"
    assert answer.fewer.endswith(
        "(95% interval −1.0 to +2.0). Over 10 folds of 1,000 labels the difference is +2.3"
        " points (95% interval +1.5 to +3.0)."
    )
