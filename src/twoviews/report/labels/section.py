"""The part of the page about the number of labels: a sentence, the curve, a table of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twoviews.report.labels.curve import alt_text, label_curve
from twoviews.report.labels.points import (
    TABLE_MODELS,
    LabelPoint,
    Mark,
    amount,
    differences_say,
    label_points,
    per_class_factor,
    savings,
    savings_says,
)
from twoviews.report.model_names import short_name
from twoviews.report.number_words import NONE, count, percent, signed, signed_range
from twoviews.report.pictures import Picture, embed
from twoviews.report.run import Run
from twoviews.report.tables import Table


@dataclass(frozen=True)
class LabelSection:
    """What the page says and shows about the number of labels."""

    says: str
    differences: str
    curve: Picture
    read: str
    table: Table


def label_section(run: Run) -> LabelSection | None:
    """The section, or None for a study with one number of labels."""
    points = label_points(run.results)
    if not points:
        return None
    return LabelSection(
        savings_says(run.results),
        differences_say(points),
        embed(label_curve(run.results), alt_text(points), chart="labels"),
        _how_to_read(run, points),
        _table(points),
    )


def _how_to_read(run: Run, points: Sequence[LabelPoint]) -> str:
    marks = [one for point in points for one in point.models.values()]
    bars = "Bars are 95% intervals" if any(one.ci95 for one in marks) else "No intervals were recorded"
    rings = ", rings single seeds" if any(len(one.per_seed) > 1 for one in marks) else ""
    text = f"{bars}{rings}. All models have the same labels at a point, and those of a smaller point are among them."
    found = savings(run.results)
    if found is not None and found.saved is not None and found.saved > 0:
        text += " The arrow leads from the baseline to the number of labels at which the fine-tuned model is as good"
        text += ", read off between the points"
        tops = [point.models["finetuned"].top1 for point in points if "finetuned" in point.models]
        text += " with its curve evened out where that falls" if sorted(tops) != tops else ""
        text += "; the broad bar is the 95% interval of that number." if any(found.ci95) else "."
    return text


def _table(points: Sequence[LabelPoint]) -> Table:
    """Each point with the models and their difference."""
    is_per_class = per_class_factor(points) != 1.0
    names = [name for name in TABLE_MODELS if any(name in point.models for point in points)]
    header = ["Labels a class", "In all"] if is_per_class else ["Labels"]
    header += [*map(short_name, names), "Difference, points", "95% interval", "Excludes zero"]
    rows = []
    for point in points:
        cells = [amount(point.per_class)] if is_per_class and point.per_class else []
        cells += [count(point.labels), *(_accuracy(point.models.get(name)) for name in names)]
        excludes = NONE if point.sign is None else "yes" if point.sign else "no"
        rows.append([*cells, signed(point.points), signed_range(point.ci95), excludes])
    caption = "Validation images are among the labels. The difference is fine-tuned minus baseline, on the same images."
    if any(point.sign is not None for point in points):
        caption += " Each interval stands by itself: of 20 points without a difference one excludes zero by chance."
    if any(one.std is not None for point in points for one in point.models.values()):
        caption += " ± is the standard deviation over the seeds."
    return Table(header, rows, caption)


def _accuracy(one: Mark | None) -> str:
    if one is None:
        return NONE
    return percent(one.top1) + ("" if one.std is None else f" ± {100 * one.std:.1f}")
