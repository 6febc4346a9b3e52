"""The label curve as a chart: accuracy over the number of labels, with intervals, seeds and what pretraining saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twoviews.report.charts.series import Places, short
from twoviews.report.labels.points import (
    CURVE_MODELS,
    LabelPoint,
    amount,
    arrow_says,
    label_points,
    per_class_factor,
    savings,
    unit,
)
from twoviews.report.model_names import short_name
from twoviews.report.number_words import count
from twoviews.report.style import LOOKS

COLOURS = {"supervised": "orange", "finetuned": "blue", "linear_probe": "grey"}


def label_chart(results: Mapping[str, Any], places: Places) -> dict[str, Any] | None:
    """What the script draws of a study's ``label_curve``; None where there is none."""
    points = label_points(results)
    if not points:
        return None
    factor = per_class_factor(points)
    what = unit(factor)
    marks = []
    for point in points:
        own = amount(point.labels / factor)
        in_all = "" if factor == 1.0 else f"{count(point.labels)} in all"
        marks.append({"x": short(point.labels), "text": own, "below": in_all, "said": f"{own} {what}"})
    return {
        "group": "labels",
        "x": {"name": f"{what.capitalize()}, validation images among them", "log": True, "marks": marks},
        "panels": [
            {
                "title": "Test accuracy (%)",
                "unit": "%",
                "digits": 1,
                "share": "labels",
                "floor": 0,
                "lines": [_line(points, name, places) for name in CURVE_MODELS if _has(points, name)],
                "saved": _saved(results, factor),
            }
        ],
    }


def _has(points: list[LabelPoint], name: str) -> bool:
    return any(name in point.models for point in points)


def _line(points: list[LabelPoint], name: str, places: Places) -> dict[str, Any]:
    there = [(point.labels, point.models[name]) for point in points if name in point.models]
    _, marker, dashes = LOOKS[name]
    return {
        "name": short_name(name),
        "colour": COLOURS[name],
        "marker": marker,
        "dash": [] if dashes == "-" else list(dashes[1]),
        "x": places.of([short(labels) for labels, _ in there]),
        # Not shortened: 59.65 and 59.650000000000006 round apart, and the page's tables say the latter's 59.7.
        "y": [100 * one.top1 for _, one in there],
        "ends": [None if one.ci95 is None else [100 * end for end in one.ci95] for _, one in there],
        "seeds": [[100 * top1 for top1 in one.per_seed] if len(one.per_seed) > 1 else [] for _, one in there],
    }


def _saved(results: Mapping[str, Any], factor: float) -> dict[str, Any] | None:
    """From the baseline's labels to those that are enough after pretraining, as the figure's arrow says it."""
    found = savings(results)
    if found is None:
        return None
    place = {"y": short(100 * found.top1), "from": short(found.labels), "to": None, "ends": None}
    says = arrow_says(found, factor)
    if found.same is None or found.saved is None or found.saved <= 0:
        return place | {"says": says}
    low, high = found.ci95
    ends = None
    if low is not None or high is not None:
        ends = [None if low is None else short(low), short(found.labels if high is None else high)]
    return place | {"to": short(found.same), "ends": ends, "says": says}
