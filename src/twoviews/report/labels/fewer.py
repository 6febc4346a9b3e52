"""What a study of several numbers of labels says of the smaller ones: it stands beside the answer with all labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twoviews.report.labels.points import amount, label_points, per_class_factor
from twoviews.report.words import count, joined, signed, signed_range

_MOST = 3  # numbers of labels in the sentence, the fewest first; the page's table has all


@dataclass(frozen=True)
class FewerLabels:
    """How fine-tuning stands to the baseline with fewer labels.

    Attributes:
        helps: whether it is above the baseline with the fewest labels, and with none of the others below it; each time
            by an interval without zero. One number of labels decides, so that trying more of them finds no more.
        says: the differences in a sentence.
        all_labels: "all 1,000 labels".
    """

    helps: bool
    says: str
    all_labels: str


def fewer_labels(results: Mapping[str, Any]) -> FewerLabels | None:
    """None for a study of one number of labels, or where nothing was compared with fewer."""
    points = label_points(results)
    fewer = [point for point in points[:-1] if point.points is not None]
    if not fewer or fewer[0] is not points[0]:
        return None
    factor = per_class_factor(points)
    told = []
    for first, point in zip((True, False, False), fewer[:_MOST], strict=False):
        where = f"{amount(point.labels / factor)}{(' a class' if factor != 1.0 else ' labels') if first else ''}"
        interval = "" if point.ci95 is None else f" ({'95% interval ' if first else ''}{signed_range(point.ci95)})"
        told.append(f"{signed(point.points)}{' points' if first else ''} at {where}{interval}")
    return FewerLabels(
        helps=fewer[0].sign == 1 and all(point.sign != -1 for point in fewer),
        says=f"With fewer labels the difference is {joined(told)}.",
        all_labels=f"all {count(points[-1].labels)} labels",
    )
