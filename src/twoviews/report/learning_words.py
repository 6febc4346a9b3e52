"""When to stop pretraining, in words: whether accuracy still rose, what twice the epochs would bring, the rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twoviews.report.number_words import count, percent, signed
from twoviews.report.values import dig, items, number, pair

WORTH = 0.5  # percentage points: less than that from twice the epochs is called levelled off
FELL = 2.0  # percentage points below an earlier look: more than the looks scatter by
CHANGED = 0.1  # part of the effective rank


def learning_sentences(pretrain_results: Mapping[str, Any]) -> list[str]:
    """Sentences that follow from ``learning_curve`` of a pretraining run's results; [] for a run that has none."""
    curve = dig(pretrain_results, "learning_curve")
    points = _pairs(dig(curve, "points"))
    sentences = [*_accuracy(curve, points), *_below_its_best(points), *_rank(_pairs(dig(curve, "effective_rank")))]
    return [sentence for sentence in sentences if sentence]


def _pairs(value: Any) -> list[tuple[float, float]]:
    return [found for entry in items(value) if (found := pair(entry)) is not None]


def _accuracy(curve: Any, points: list[tuple[float, float]]) -> list[str]:
    """Rising or level, and the forecast."""
    if not points:
        return []
    looks, accuracy = len(points), _which_accuracy(curve)
    if looks == 1 or not dig(curve, "enough_points"):
        epoch, top1 = points[-1]
        seen = "1 look" if looks == 1 else f"{looks} looks"
        return [
            f"{accuracy} was {percent(top1)} at epoch {count(epoch)}; {seen} at the features cannot show whether more "
            "epochs would help: a lower --monitor-epochs (in a study: --pretrain.monitor-epochs) looks more often."
        ]
    gain, ends = number(dig(curve, "expected_gain")), pair(dig(curve, "ci95"))
    if gain is None or ends is None:
        return []
    (first, before), (last, after) = points[0], points[-1]
    state, advice = _state(ends)
    forecast = (
        f"{accuracy} went from {percent(before)} at epoch {count(first)} to {percent(after)} at epoch {count(last)} "
        f"and {state}: by curves through {looks} looks, twice the epochs "
        f"({count(dig(curve, 'next_epochs'))}) would bring about {signed(gain)} points (95% interval "
        f"{signed(ends[0])} to {signed(ends[1])}){advice}."
    )
    return [forecast, _caveat(items(dig(curve, "laws")))]


def _caveat(laws: Sequence[Any]) -> str:
    """What the forecast rests on: two laws, where the falling learning rate lifted the last looks."""
    lift = number(dig(laws[0], "annealing")) if laws else None
    if lift is None or 100 * lift < 0.1:
        return "This is a forecast from one run, not a measurement."
    same, grown = (signed(number(dig(law, "expected_gain"))) for law in (laws[0], laws[-1]))
    return (
        f"The falling learning rate seems to lift the last looks by about {100 * lift:.1f} points: if it lifts those "
        f"of a longer run by as much, that brings {same}, if this is progress like the rest, {grown}. One run cannot "
        "tell; it is a forecast, not a measurement."
    )


def _which_accuracy(curve: Any) -> str:
    images = number(dig(curve, "images"))
    if images is None:  # a run of before all labelled images were classified
        return "kNN accuracy on validation images"
    return f"kNN accuracy on {count(images)} labelled images, each by the others,"


def _state(ends: tuple[float, float]) -> tuple[str, str]:
    """What the interval of the gain says of the curve, and what follows."""
    low, high = ends
    if high < WORTH:
        return "had levelled off", ", so more epochs are hardly worth their time"
    if low >= WORTH:
        return "was still rising", ""
    return "may still have been rising", ", too wide to say that they are worth their time"


def _below_its_best(points: list[tuple[float, float]]) -> list[str]:
    if len(points) < 2:
        return []
    epoch, best = max(points, key=lambda point: point[1])
    last, end = points[-1]
    if 100 * (best - end) < FELL:
        return []
    return [
        f"kNN accuracy was highest at epoch {count(epoch)}, {percent(best)}, and {percent(end)} at epoch "
        f"{count(last)}: that may be scatter; if another seed shows it too, stop earlier."
    ]


def _rank(ranks: list[tuple[float, float]]) -> list[str]:
    """Whether the features came to use more directions or fewer."""
    if len(ranks) < 2:
        return []
    (first, before), (last, after) = ranks[0], ranks[-1]
    at = f"{before:.0f} at epoch {count(first)} to {after:.0f} at epoch {count(last)}"
    if after > before * (1 + CHANGED):
        return [f"The features' effective rank rose from {at}: they came to use more directions."]
    if after < before * (1 - CHANGED):
        return [
            f"The features' effective rank fell from {at}: they came to use fewer directions. That is a warning where "
            "accuracy falls too, and none where it rises."
        ]
    return [f"The features' effective rank stayed near {after:.0f}."]
