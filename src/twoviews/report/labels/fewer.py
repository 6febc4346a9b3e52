"""What a study says of fewer labels and of folds: it stands beside the answer with all labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twoviews.report.labels.points import amount, folds_difference, label_points, labels_of_fold, per_class_factor
from twoviews.report.number_words import count, joined, signed, signed_range
from twoviews.report.values import dig, items, number, pair

_MOST = 3  # numbers of labels in the sentence, the fewest first; the page's table has all


@dataclass(frozen=True)
class FewerLabels:
    """How fine-tuning stands to the baseline with fewer labels.

    Attributes:
        helps: whether it is above the baseline with the fewest labels, and with none of the others below it; each time
            by an interval without zero. One number of labels decides, so that trying more of them finds no more.
            Without other numbers the folds decide.
        says: the differences in a sentence or two.
        all_labels: "all 1,000 labels".
    """

    helps: bool
    says: str
    all_labels: str


def fewer_labels(results: Mapping[str, Any]) -> FewerLabels | None:
    """None for a study of one number of labels, or where nothing was compared with fewer."""
    curve, folds = _of_curve(results), _of_folds(results)
    if curve is not None and folds is not None:
        return FewerLabels(curve.helps, f"{curve.says} {folds.says}", curve.all_labels)
    return curve or folds


def _of_curve(results: Mapping[str, Any]) -> FewerLabels | None:
    points = label_points(results)
    fewer = [point for point in points[:-1] if point.points is not None]
    if not fewer or fewer[0] is not points[0]:
        return None
    factor = per_class_factor(points)
    told = []
    said_once = (" points", " a class" if factor != 1.0 else " labels", "95% interval ")
    for i, point in enumerate(fewer[:_MOST]):
        measure, counted, interval = said_once if i == 0 else ("", "", "")
        text = f"{signed(point.points)}{measure} at {amount(point.labels / factor)}{counted}"
        told.append(text if point.ci95 is None else f"{text} ({interval}{signed_range(point.ci95)})")
    return FewerLabels(
        helps=fewer[0].sign == 1 and all(point.sign != -1 for point in fewer),
        says=f"With fewer labels the difference is {joined(told)}.",
        all_labels=f"all {count(points[-1].labels)} labels",
    )


def _of_folds(results: Mapping[str, Any]) -> FewerLabels | None:
    """None too where a fold has as many labels as the study itself, or that isn't known."""
    found = folds_difference(results)
    points, interval = number(dig(found, "points")), pair(dig(found, "ci95"))
    folds = items(results.get("folds"))
    most = max((labels_of_fold(fold) or 0 for fold in folds), default=0)
    labels = sum(number(dig(results, "data", "counts", part)) or 0 for part in ("train", "val"))
    if points is None or len(folds) < 2 or not 0 < most < labels:
        return None
    text = f"Over {len(folds)} folds of {count(most)} labels the difference is {signed(points)} points"
    return FewerLabels(
        helps=interval is not None and interval[0] > 0,
        says=text + (f" (95% interval {signed_range(interval)})." if interval else "."),
        all_labels=f"all {count(labels)} labels",
    )
