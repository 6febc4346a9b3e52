"""What the page says and draws of folds."""

from __future__ import annotations

import numpy as np
import pytest

from twoviews.report.folds import comparison_says, folds_of, folds_plot, protocol_says


def results(before=(0.56, 0.58), after=(0.71, 0.75), points=16.0, std=2.8, ci95=(12.1, 19.9), name="stl10", train=5000):
    folds = [
        {
            "fold": i,
            "labels": 1000,
            "models": {"supervised": {"test_top1": low}, "finetuned": {"test_top1": high}},
        }
        for i, (low, high) in enumerate(zip(before, after, strict=True))
    ]
    summary = {"comparison": {"points": points, "std": std, "ci95": ci95 and list(ci95)}}
    counts = {"train": train, "val": 0, "test": 8000}
    return {"data": {"name": name, "counts": counts}, "folds": folds, "folds_summary": summary}


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (
            {},
            "Over 2 folds the fine-tuned model is 16.0 ± 2.8 points above the baseline (95% interval +12.1 to +19.9),"
            " and better in each of them.",
        ),
        (
            {"after": (0.57, 0.57), "points": 0.1, "std": 1.1, "ci95": (-9.0, 9.2)},
            "Over 2 folds the fine-tuned model is 0.1 ± 1.1 points above the baseline (95% interval −9.0 to +9.2),"
            " and better in 1 of them. The interval holds zero: the folds don’t tell the two apart.",
        ),
        (
            {"after": (0.50, 0.52), "points": -6.0, "std": 0.0, "ci95": None},
            "Over 2 folds the fine-tuned model is 6.0 ± 0.0 points below the baseline, and worse in each of them.",
        ),
        (
            {"points": None, "std": None, "ci95": None},
            "Over 2 folds the fine-tuned model is 16.0 points above the baseline, and better in each of them.",
        ),
        (
            {"before": (0.5,), "after": (0.5,), "points": 0.0, "std": None, "ci95": None},
            "Over 1 fold the fine-tuned model is as good as the baseline, and better in 0 of them.",
        ),
    ],
)
def test_the_difference_in_a_sentence(numbers, said):
    assert comparison_says(results(**numbers)) == said


def test_the_protocol_has_its_name():
    assert protocol_says(results()) == (
        "STL-10’s protocol (Coates, Ng and Lee, AISTATS 2011): pretrained once; every model trained on each of 2 fixed"
        " folds of 1,000 labelled images and tested on all 8,000 test images; mean ± standard deviation."
    )
    assert protocol_says(results(name="cifar10_as_stl10")).startswith("STL-10’s protocol, on CIFAR-10 cut as STL-10 is")
    assert protocol_says(results(name="mine")).startswith("Pretrained once; every model trained on each of 2 fixed")
    assert "share images" in protocol_says(results(train=1500))


def test_the_plot_has_a_line_a_fold_and_means_beside():
    (axis,) = folds_plot(folds_of(results())).axes
    joined = [line.get_ydata() for line in axis.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2]
    np.testing.assert_allclose(joined, [[56, 71], [58, 75]])
    means = [
        float(line.get_ydata()[0]) for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1
    ]
    np.testing.assert_allclose(means, [57, 73])
    assert [text.get_text() for text in axis.get_xticklabels()] == ["Supervised\nbaseline", "SimCLR,\nfine-tuned"]


@pytest.mark.parametrize("folds", [None, [], [{"fold": 0}], ["x"], [{"models": {"knn": {"test_top1": 0.5}}}]])
def test_no_folds_say_nothing(folds):
    found = {"folds": folds}
    assert folds_of(found) == []
    assert comparison_says(found) == ""
