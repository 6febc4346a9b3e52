"""Accuracy over the number of labels: what ``results.json`` holds of it, and what it says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twoviews.report.number_words import count, joined, percent
from twoviews.report.values import dig, items, number, pair

CURVE_MODELS = ("supervised", "linear_probe", "finetuned")
TABLE_MODELS = ("supervised", "linear_probe", "sgd_probe", "finetuned")


@dataclass(frozen=True)
class Mark:
    """A model's test accuracy, as fractions: the mean over seeds, its interval, its deviation, each seed's."""

    top1: float
    ci95: tuple[float, float] | None
    std: float | None
    per_seed: tuple[float, ...]


@dataclass(frozen=True)
class LabelPoint:
    """One number of labels, validation among them, and how the models did with it.

    ``points`` is fine-tuned minus baseline in percentage points, ``ci95`` its interval.
    """

    labels: float
    per_class: float | None
    train: float | None
    val: float | None
    models: dict[str, Mark]
    points: float | None
    ci95: tuple[float, float] | None

    @property
    def sign(self) -> int | None:
        """1 where the interval lies above zero, −1 below, 0 where it holds zero; None without an interval."""
        return None if self.ci95 is None else (self.ci95[0] > 0) - (self.ci95[1] < 0)


@dataclass(frozen=True)
class SavingsRow:
    """At how many labels the fine-tuned model is as good as the baseline with ``labels``.

    ``same`` is None where it never is; ``bound`` is "at most" where it already is with the fewest labels tried.
    An end of ``ci95`` is None where the curves give none.
    """

    labels: float
    top1: float
    same: float | None
    bound: str
    ci95: tuple[float | None, float | None]

    @property
    def saved(self) -> float | None:
        """The share of the labels that pretraining saves; not above zero where it saves none."""
        return None if self.same is None else 1 - self.same / self.labels


def mark(row: Any) -> Mark | None:
    """A model's entry as numbers, or None where it has no test accuracy."""
    top1 = number(dig(row, "test_top1"))
    if top1 is None:
        return None
    each = tuple(value for one in items(dig(row, "per_seed")) if (value := number(one)) is not None)
    return Mark(top1, pair(dig(row, "ci95")), number(dig(row, "std")), each)


def difference(row: Any, models: Mapping[str, Mark]) -> tuple[float | None, tuple[float, float] | None]:
    """Fine-tuned minus baseline in percentage points, and its interval, of a point or a fold."""
    compared = dig(row, "comparison", "finetuned_minus_supervised") or dig(row, "comparison")
    points = number(dig(compared, "points"))
    if points is None and {"supervised", "finetuned"} <= set(models):
        points = 100 * (models["finetuned"].top1 - models["supervised"].top1)
    return points, pair(dig(compared, "ci95"))


def labels_of_fold(row: Any) -> float | None:
    """How many labels a fold's row has: those it trains on; in earlier results "labels" counts validation in."""
    return number(dig(row, "train")) or number(dig(row, "labels"))


def folds_difference(results: Mapping[str, Any]) -> Any:
    """Fine-tuned minus baseline over the official folds, as results.json has it; None where there are none."""
    found = dig(results, "folds_summary", "comparison")
    return dig(found, "finetuned_minus_supervised") or found


def label_points(results: Mapping[str, Any]) -> list[LabelPoint]:
    """The points that can be drawn, by rising number of labels; none unless there are two, for a curve."""
    found = []
    for row in items(results.get("label_curve")):
        labels = number(dig(row, "labels"))
        models = {name: one for name in TABLE_MODELS if (one := mark(dig(row, "models", name))) is not None}
        if labels is None or labels <= 0 or not set(CURVE_MODELS) & set(models):
            continue
        per_class, train, val = (number(dig(row, key)) for key in ("labels_per_class", "train", "val"))
        found.append(LabelPoint(labels, per_class, train, val, models, *difference(row, models)))
    found.sort(key=lambda point: point.labels)
    return found if len({point.labels for point in found}) > 1 else []


def savings(results: Mapping[str, Any]) -> SavingsRow | None:
    """The number of labels that pretraining saves, or None where it wasn't read off."""
    found = dig(results, "label_savings")
    labels, top1, same = (number(dig(found, key)) for key in ("labels", "baseline_top1", "same_accuracy_labels"))
    bound = str(dig(found, "bound") or "")
    if labels is None or labels <= 0 or top1 is None or (same is None and bound != "none"):
        return None
    ends = [number(end) for end in items(dig(found, "ci95"))]
    low, high = ends if len(ends) == 2 else (None, None)
    return SavingsRow(labels, top1, None if bound == "none" else same, bound, (low, high))


def per_class_factor(points: Sequence[LabelPoint]) -> float:
    """Labels in all ÷ labels a class, where every point has both; otherwise 1: labels are then counted in all."""
    last = points[-1].per_class if points else None
    return points[-1].labels / last if last and all(point.per_class for point in points) else 1.0


def amount(value: float) -> str:
    """A number of labels as it is said: 1,000; 31; 3.4."""
    return count(value) if value >= 9.95 or round(value, 1) == round(value) else f"{value:.1f}"


def unit(factor: float) -> str:
    """What is counted."""
    return "labels" if factor == 1.0 else "labels a class"


def arrow_says(found: SavingsRow, factor: float) -> list[str]:
    """What stands at the curve's arrow, line by line; without labels saved there is no arrow, and it is one line."""
    if found.same is None:
        return ["the baseline’s accuracy, never reached"]
    if found.saved is None or found.saved <= 0:
        return ["no labels saved"]
    few, more = ("≤ ", "at least ") if found.bound == "at most" else ("", "")
    return [f"{few}{amount(found.same / factor)} {unit(factor)}", f"{more}{percent(found.saved, 0)} fewer"]


def savings_says(results: Mapping[str, Any]) -> str:
    """How many labels pretraining saves, in a sentence; empty where it wasn't read off."""
    found, points = savings(results), label_points(results)
    if found is None or not points:
        return ""
    factor = per_class_factor(points)
    what, all_of_them = unit(factor), amount(found.labels / factor)
    seeds = len(items(results.get("seeds")))
    mean = f", the mean of {seeds} seeds" if seeds > 1 else ""
    text = f"With {all_of_them} {what} the baseline reaches {percent(found.top1)}{mean}; the fine-tuned model "
    text += _reached(found, factor, what, amount(points[-1].labels / factor))
    if found.ci95 == (None, None):
        text += " No interval could be given: these results rule out neither fewer labels nor more."
    if seeds <= 1:
        text += " This is one seed: another draw of the labels and another training would give another number."
    return text


def _reached(found: SavingsRow, factor: float, what: str, most: str) -> str:
    """Where the fine-tuned model is as good, and what that saves."""
    if found.same is None or found.saved is None:
        return f"reaches this with no number tried, {most} {what} at most: no saving shows here."
    same, all_of_them = amount(found.same / factor), amount(found.labels / factor)
    low, high = (None if end is None else amount(end / factor) for end in found.ci95)
    about = "about"
    if found.bound == "at most":
        about = "at least"
        text = f"is as good or better already with {same} {what}, the fewest tried"
        if found.ci95[1] is not None and found.ci95[1] > found.same:
            text += f" (95% interval up to {high})"
    else:
        text = f"reaches this with about {same} {what}"
        if low or high:
            ends = f"{low} to {high}" if low and high else f"{low} or more" if low else f"{high} or fewer"
            text += f" (95% interval {ends})"
    if found.saved <= 0:
        return f"{text}: no saving shows here."
    text += f": pretraining saves {about} {_share(found.saved)} of the labels"
    if (low or high) and (found.ci95[1] is None or found.ci95[1] >= found.labels):
        text += f", but not beyond doubt, for the interval holds {all_of_them} {what} too"
    return text + "."


def _share(saved: float) -> str:
    return "99%" if 0.99 < saved < 1 else f"{100 * saved:.0f}%" if saved >= 0.095 else f"{100 * saved:.1f}%"


def differences_say(points: Sequence[LabelPoint]) -> str:
    """Where the fine-tuned model is above or below the baseline beyond doubt, and where that stays open."""
    tested = [point for point in points if point.sign is not None]
    if not tested:
        return ""
    factor = per_class_factor(points)
    parts = []
    for sign, said in ((1, "above the baseline"), (-1, "below the baseline")):
        at = [point for point in tested if point.sign == sign]
        if at:
            where = f"each of the {len(at)} points" if len(at) == len(points) else _at(at, factor)
            parts.append(f"{said} at {where}, where the 95% interval of the difference excludes zero")
    text = f"The fine-tuned model is {joined(parts)}." if parts else ""
    unclear = [point for point in tested if point.sign == 0]
    if unclear:
        where = "At no point" if not parts else f"At {_at(unclear, factor)}"
        text += f" {where} " + (
            "does this study tell the two apart: every 95% interval of the difference holds zero."
            if not parts
            else "this study can't tell the two apart: the interval holds zero."
        )
    return text.strip()


def _at(points: Sequence[LabelPoint], factor: float) -> str:
    return f"{joined([amount(point.labels / factor) for point in points])} {unit(factor)}"
