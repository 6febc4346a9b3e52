"""What the label curve says in words, in every case."""

from __future__ import annotations

import pytest

from twoviews.report.labels.points import differences_say, label_points, savings, savings_says

TOPS = {"supervised": (0.30, 0.42, 0.542), "finetuned": (0.45, 0.53, 0.611)}
CLEAR = ((2.0, 28.0), (1.0, 21.0), (0.1, 13.7))


def results(found=None, seeds=3, per_class=(10, 30, 100), intervals=CLEAR, classes=10, tops=TOPS):
    curve = [
        {
            "labels": classes * each,
            "labels_per_class": each,
            "models": {name: {"test_top1": values[i]} for name, values in tops.items()},
            "comparison": {"points": 100 * (tops["finetuned"][i] - tops["supervised"][i]), "ci95": intervals[i]},
        }
        for i, each in enumerate(per_class)
    ]
    return {"seeds": list(range(seeds)), "label_curve": curve, "label_savings": found}


def read_off(same=310.0, bound=None, ci95=(270.0, 384.0), labels=1000):
    saved = None if same is None else 1 - same / labels
    ends = None if ci95 is None else list(ci95)
    found = {"labels": labels, "baseline_top1": 0.542, "same_accuracy_labels": same}
    return found | {"bound": bound, "saved": saved, "ci95": ends}


START = "With 100 labels a class the baseline reaches 54.2%, the mean of 3 seeds; the fine-tuned model "


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            read_off(),
            "reaches this with about 31 labels a class (95% interval 27 to 38):"
            " pretraining saves about 69% of the labels.",
        ),
        (
            read_off(same=34.0, ci95=(20.0, 61.0)),
            "reaches this with about 3.4 labels a class (95% interval 2 to 6.1):"
            " pretraining saves about 97% of the labels.",
        ),
        (
            read_off(ci95=None),
            "reaches this with about 31 labels a class: pretraining saves about 69% of the labels."
            " No interval could be given: these results rule out neither fewer labels nor more.",
        ),
        (
            read_off(ci95=(None, 384.0)),
            "reaches this with about 31 labels a class (95% interval 38 or fewer):"
            " pretraining saves about 69% of the labels.",
        ),
        (
            read_off(ci95=(270.0, None)),
            "reaches this with about 31 labels a class (95% interval 27 or more): pretraining saves about 69% of the"
            " labels, but not beyond doubt, for the interval holds 100 labels a class too.",
        ),
        (
            read_off(ci95=(270.0, 1000.0)),
            "reaches this with about 31 labels a class (95% interval 27 to 100): pretraining saves about 69% of the"
            " labels, but not beyond doubt, for the interval holds 100 labels a class too.",
        ),
        (
            read_off(same=100.0, bound="at most", ci95=(None, 140.0)),
            "is as good or better already with 10 labels a class, the fewest tried (95% interval up to 14):"
            " pretraining saves at least 90% of the labels.",
        ),
        (
            read_off(same=100.0, bound="at most", ci95=(None, 100.0)),
            "is as good or better already with 10 labels a class, the fewest tried:"
            " pretraining saves at least 90% of the labels.",
        ),
        (
            read_off(same=None, bound="none", ci95=None),
            "reaches this with no number tried, 100 labels a class at most: no saving shows here."
            " No interval could be given: these results rule out neither fewer labels nor more.",
        ),
        (
            read_off(same=None, bound="none", ci95=(1000.0, None)),
            "reaches this with no number tried, 100 labels a class at most: no saving shows here.",
        ),
        (
            read_off(same=1000.0, ci95=(600.0, None)),
            "reaches this with about 100 labels a class (95% interval 60 or more): no saving shows here.",
        ),
    ],
)
def test_labels_saved(found, said):
    assert savings_says(results(found)) == START + said


def test_one_seed_says_so():
    text = savings_says(results(read_off(ci95=None), seeds=1))
    assert text == (
        "With 100 labels a class the baseline reaches 54.2%; the fine-tuned model reaches this with about 31 labels a"
        " class: pretraining saves about 69% of the labels. No interval could be given: these results rule out neither"
        " fewer labels nor more. This is one seed: another draw of the labels and another training would give another"
        " number."
    )


def test_without_labels_a_class_the_labels_are_counted_in_all():
    found = results(read_off())
    found["label_curve"][1]["labels_per_class"] = None
    assert "With 1,000 labels the baseline" in savings_says(found)
    assert "with about 310 labels (95% interval 270 to 384)" in savings_says(found)
    assert "at each of the 3 points" in differences_say(label_points(found))


@pytest.mark.parametrize(
    "found", [None, {}, {"labels": 0}, {"labels": 100, "baseline_top1": 0.5}, "many", read_off(same=float("nan"))]
)
def test_nothing_is_said_of_what_was_not_read_off(found):
    assert savings(results(found)) is None
    assert savings_says(results(found)) == ""


def test_one_point_is_no_curve():
    found = results(read_off())
    del found["label_curve"][1:]
    assert label_points(found) == []
    assert savings_says(found) == ""
    assert label_points({}) == label_points({"label_curve": [{"labels": None}, 3, {"labels": 10}]}) == []


def test_points_are_sorted_and_differences_filled_in():
    found = results()
    found["label_curve"].reverse()
    del found["label_curve"][0]["comparison"]
    points = label_points(found)
    assert [point.labels for point in points] == [100, 300, 1000]
    assert points[2].points == pytest.approx(6.9)
    assert points[2].sign is None


NO, DOWN = (-1.0, 20.0), (-9.0, -2.0)


@pytest.mark.parametrize(
    ("intervals", "said"),
    [
        (
            CLEAR,
            "The fine-tuned model is above the baseline at each of the 3 points, where the 95% interval of the"
            " difference excludes zero.",
        ),
        (
            (CLEAR[0], CLEAR[1], NO),
            "The fine-tuned model is above the baseline at 10 and 30 labels a class, where the 95% interval of the"
            " difference excludes zero. At 100 labels a class this study can't tell the two apart: the interval holds"
            " zero.",
        ),
        (
            (CLEAR[0], NO, DOWN),
            "The fine-tuned model is above the baseline at 10 labels a class, where the 95% interval of the difference"
            " excludes zero and below the baseline at 100 labels a class, where the 95% interval of the difference"
            " excludes zero. At 30 labels a class this study can't tell the two apart: the interval holds zero.",
        ),
        (
            (NO, NO, NO),
            "At no point does this study tell the two apart: every 95% interval of the difference holds zero.",
        ),
        ((None, None, None), ""),
    ],
)
def test_where_the_models_differ(intervals, said):
    assert differences_say(label_points(results(intervals=intervals))) == said
