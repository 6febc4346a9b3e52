"""Sentences on when to stop follow from the numbers, and from nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from twoviews.report.learning_words import learning_sentences


def results(**changes: Any) -> dict[str, Any]:
    curve = {
        "points": [[5, 0.31], [10, 0.36], [20, 0.40], [30, 0.43], [40, 0.46], [50, 0.485]],
        "effective_rank": [[5, 14.2], [50, 31.4]],
        "images": 1000,
        "epochs": 50,
        "next_epochs": 100,
        "enough_points": True,
        "laws": [{"annealing": 0.021, "expected_gain": 0.91}, {"annealing": 0.0, "expected_gain": 1.55}],
        "expected_top1": 0.497,
        "expected_gain": 1.23,
        "ci95": [0.62, 2.04],
    }
    return {"learning_curve": {**curve, **changes}}


def test_a_curve_that_still_rises() -> None:
    rising, caveat, rank = learning_sentences(results())
    assert rising == (
        "kNN accuracy on 1,000 labelled images, each by the others, went from 31.0% at epoch 5 to 48.5% at epoch 50 "
        "and was still rising: by curves through 6 looks, twice the epochs (100) would bring about +1.2 points (95% "
        "interval +0.6 to +2.0)."
    )
    assert caveat == (
        "The falling learning rate seems to lift the last looks by about 2.1 points: if it lifts those of a longer run "
        "by as much, that brings +0.9, if this is progress like the rest, +1.6. One run cannot tell; it is a forecast, "
        "not a measurement."
    )
    assert (
        rank
        == "The features' effective rank rose from 14 at epoch 5 to 31 at epoch 50: they came to use more directions."
    )


@pytest.mark.parametrize(
    ("gain", "ends", "state"),
    [
        (1.2, [0.5, 2.0], "and was still rising"),
        (0.1, [0.0, 0.3], "and had levelled off"),
        (0.8, [0.0, 3.1], "and may still have been rising"),
    ],
)
def test_the_interval_decides_the_words(gain: float, ends: list[float], state: str) -> None:
    sentence = learning_sentences(results(expected_gain=gain, ci95=ends))[0]
    assert f"{state}:" in sentence
    assert f"about +{gain} points" in sentence
    assert sentence.endswith("." if ends[0] >= 0.5 else "worth their time.")


def test_without_a_lift_none_is_spoken_of() -> None:
    text = " ".join(learning_sentences(results(laws=[{"annealing": 0.0, "expected_gain": 1.2}] * 2)))
    assert "learning rate" not in text
    assert "This is a forecast from one run" in text


def test_too_few_looks() -> None:
    nothing = {"enough_points": False, "expected_gain": None, "ci95": None, "laws": None}
    two = learning_sentences(results(points=[[5, 0.3], [8, 0.35]], effective_rank=[], **nothing))
    assert two == [
        "kNN accuracy on 1,000 labelled images, each by the others, was 35.0% at epoch 8; 2 looks at the features "
        "cannot show whether more epochs would help: a lower --monitor-epochs (in a study: --pretrain.monitor-epochs) "
        "looks more often."
    ]
    one = learning_sentences(results(points=[[3, 0.3]], effective_rank=[[3, 9.0]], **nothing))
    assert len(one) == 1
    assert "1 look at the features cannot" in one[0]


def test_accuracy_that_fell() -> None:
    points = [[5, 0.31], [10, 0.44], [20, 0.43], [30, 0.42], [40, 0.41], [50, 0.40]]
    sentences = learning_sentences(results(points=points))
    assert sum("highest at epoch 10, 44.0%, and 40.0% at epoch 50" in s for s in sentences) == 1
    points[-1][1] = 0.425  # within the scatter
    assert not any("highest" in s for s in learning_sentences(results(points=points)))


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ([[1, 62.0], [6, 40.0]], "fell from 62 at epoch 1 to 40 at epoch 6: they came to use fewer directions"),
        ([[1, 40.0], [6, 42.0]], "stayed near 42."),
    ],
)
def test_the_rank_falls_or_stays(ranks: list[list[float]], words: str) -> None:
    assert words in learning_sentences(results(effective_rank=ranks))[-1]


@pytest.mark.parametrize(
    "old",
    [
        {},
        {"knn_top1": 0.4, "epochs": 50},
        {"learning_curve": None},
        {"learning_curve": {}},
        {"learning_curve": {"points": "none", "effective_rank": [1, 2]}},
        results(points=[], effective_rank=[]),
    ],
)
def test_what_is_not_there_is_not_spoken_of(old: dict[str, Any]) -> None:
    assert learning_sentences(old) == []


def test_a_forecast_without_its_interval_is_left_out() -> None:
    assert learning_sentences(results(ci95=None, effective_rank=[])) == []
