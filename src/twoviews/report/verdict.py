"""The answer in one sentence, from the numbers of ``results.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twoviews.report.labels.fewer import fewer_labels
from twoviews.report.model_names import COMPARED
from twoviews.report.number_words import count, digits_for, joined, p_value, percent, signed, signed_range
from twoviews.report.values import dig, items, number, pair


@dataclass(frozen=True)
class Verdict:
    """The answer: its kind (helped, hurt, unclear, untested), how it opens, the sentence, what to add.

    Kind and sentence are of all labels; ``fewer`` says, in a sentence, how it is with fewer, where that was tried.
    """

    kind: str
    lead: str
    sentence: str
    detail: str
    fewer: str = ""


def _kind(points: float, interval: tuple[float, float] | None, p: float | None, seeds: int) -> str:
    """Which way the evidence points: interval and test must agree; for several seeds the interval decides."""
    signs = []
    if interval is not None:
        signs.append(1 if interval[0] > 0 else -1 if interval[1] < 0 else 0)
    if p is not None and (seeds == 1 or interval is None):
        signs.append((points > 0) - (points < 0) if p < 0.05 else 0)
    if not signs:
        return "untested"
    if len(set(signs)) > 1:
        return "split"
    return {1: "helped", -1: "hurt", 0: "unclear"}[signs[0]]


_LEADS = {
    "helped": "Pretraining helped",
    "hurt": "Pretraining hurt",
    "unclear": "No difference that this test can see",
    "split": "Too close to call",
    "untested": "A difference without a test",
}
# Of a study that has fewer labels too, where pretraining helped with the fewest.
_FEW_LEADS = {
    "hurt": "Pretraining helped with few labels{here} and hurt with all",
    "unclear": "Pretraining helped with few labels{here}, not measurably with all",
    "split": "Pretraining helped with few labels{here}; with all, too close to call",
}
_PROBE_LEAD = "Pretraining shows in the linear probe, not in fine-tuning"


def verdict(results: Mapping[str, Any]) -> Verdict | None:
    """The answer that a study's numbers give, or None while there is nothing to compare."""
    comparison = dig(results, "comparison", "finetuned_minus_supervised") or {}
    before, after = (number(dig(results, "models", name, "test_top1")) for name in COMPARED)
    points = number(dig(comparison, "points"))
    if points is None and before is not None and after is not None:
        points = 100 * (after - before)
    if points is None:
        return None
    seeds = max(len(items(results.get("seeds"))), 1)
    interval, p = pair(dig(comparison, "ci95")), number(dig(comparison, "mcnemar_p"))
    kind = _kind(points, interval, p, seeds)
    probe = _probe(results, seeds) if kind in ("hurt", "unclear", "split") else None
    is_probe_ahead = probe is not None and probe.kind == "helped"
    digits = digits_for([points, *(interval or ())])

    scope = "for this pair of models, test accuracy" if seeds == 1 else f"over {seeds} seeds, mean test accuracy"
    if points == 0:
        change = f"{scope} is the same with SimCLR pretraining as without"
    else:
        side = "higher" if points > 0 else "lower"
        size = f"{abs(points):.{digits}f} percentage points"
        change = f"{scope} is {size} {side} with SimCLR pretraining than without"
    if is_probe_ahead:
        change = f"after fine-tuning, {change}"
    fewer = fewer_labels(results)
    if fewer is not None:
        change = f"with {fewer.all_labels}, {change}"
    facts = []
    if interval is not None:
        facts.append(f"95% interval {signed(interval[0], digits)} to {signed(interval[1], digits)}")
    facts.extend(_tests(comparison, p, seeds))
    images = number(dig(results, "data", "counts", "test"))
    if images:
        facts.append(f"{count(images)} test images")
    sentence = change + (f" ({'; '.join(facts)})" if facts else "")
    if kind == "unclear" and interval is not None:
        low, high = (_shift(end, digits) for end in interval)
        sentence += f"; anything from {low} to {high} fits these results"
    if probe is not None and is_probe_ahead:
        sentence += f"; the linear probe, on the same pretrained features left as they are, is {probe.says}"
    kind_said = "unclear" if kind == "split" else kind
    # With one seed another could say otherwise, and the interval doesn't count that.
    here = " in this run" if seeds == 1 else ""
    if is_probe_ahead:
        lead = _PROBE_LEAD
    elif fewer is not None and fewer.helps and kind in _FEW_LEADS:
        lead = _FEW_LEADS[kind].format(here=here)
    else:
        lead = _LEADS[kind] + (here if kind in ("helped", "hurt") else "")
    detail = _detail(kind, seeds, results, comparison, probe)
    return Verdict(kind_said, lead, sentence + ".", detail, "" if fewer is None else fewer.says)


@dataclass(frozen=True)
class _Probe:
    """How the linear probe stands to the baseline: kind as in `_kind`, and its difference in words."""

    kind: str
    says: str


def _probe(results: Mapping[str, Any], seeds: int) -> _Probe | None:
    """What frozen features say of pretraining where fine-tuning says nothing good; None where that wasn't compared."""
    found = dig(results, "comparison", "linear_probe_minus_supervised")
    points, interval = number(dig(found, "points")), pair(dig(found, "ci95"))
    if points is None or interval is None:
        return None
    side = "above" if points > 0 else "below"
    says = f"{abs(points):.1f} points {side} the baseline (95% interval {signed_range(interval)})"
    return _Probe(_kind(points, interval, number(dig(found, "mcnemar_p")), seeds), says)


def _shift(value: float, digits: int) -> str:
    if not value:
        return "none at all"
    return f"{abs(value):.{digits}f} points {'lost' if value < 0 else 'gained'}"


def _tests(comparison: Mapping[str, Any], p: float | None, seeds: int) -> list[str]:
    each = [found for value in items(dig(comparison, "mcnemar_p_per_seed")) if (found := number(value)) is not None]
    if seeds > 1 and len(each) > 1:
        return [f"McNemar p < 0.05 for {sum(value < 0.05 for value in each)} of {len(each)} seeds"]
    return [] if p is None else [f"McNemar {p_value(p)}"]


def _detail(
    kind: str, seeds: int, results: Mapping[str, Any], comparison: Mapping[str, Any], probe: _Probe | None
) -> str:
    parts = []
    if probe is not None and probe.kind == "helped":
        parts.append("The linear probe is a second comparison; neither interval is widened for there being two.")
    if probe is not None and kind == probe.kind == "hurt":
        parts.append(f"The linear probe, on the pretrained features left as they are, is {probe.says}.")
    if kind == "split":
        parts.append("The interval and McNemar's test fall on different sides of the 5% line.")
    if kind == "untested":
        parts.append("No interval and no p-value were recorded, so this may be chance.")
    if seeds == 1 and kind != "untested":
        parts.append(
            "Both models classified the same images, so the comparison is paired. It covers chance in which"
            " images were tested, not in training: another seed gives another pair of models."
        )
    if seeds > 1:
        parts.extend(_seeds_say(kind, seeds, results, comparison))
    parts += [_balanced_says(results), _copies_say(results), detectable_says(comparison, seeds)]
    if kind in ("unclear", "split"):
        parts.append("More test images, or more seeds, would show smaller differences.")
    return " ".join(part for part in parts if part)


def _balanced_says(results: Mapping[str, Any]) -> str:
    """Where accuracy says that one model is ahead and the mean over classes that the other is; else empty."""
    rows = [dig(results, "models", name) for name in COMPARED]
    (plain, even) = (
        [value for row in rows if (value := number(dig(row, key))) is not None]
        for key in ("test_top1", "balanced_accuracy")
    )
    if len(plain) < 2 or len(even) < 2:
        return ""
    points, balanced = 100 * (plain[1] - plain[0]), 100 * (even[1] - even[0])
    if points * balanced > 0 or abs(balanced) < 0.05:
        return ""
    return (
        f"Accuracy counts images, and the classes of the test images are uneven: with each class counting the same"
        f" (balanced accuracy) the fine-tuned model is {abs(balanced):.1f} points"
        f" {'above' if balanced > 0 else 'below'} the baseline, {percent(even[1])} and {percent(even[0])}."
    )


def _copies_say(results: Mapping[str, Any]) -> str:
    """Whether pretraining saw copies of test images; empty where it didn't, or where that isn't known."""
    seen = number(dig(results, "data", "test_copies_pretrained_on"))
    if not seen:
        return ""
    what = "1 image of pretraining is a copy" if seen == 1 else f"{count(seen)} images of pretraining are copies"
    return f"{what} of test images, exact or near, which may favour pretraining."


def _seeds_say(kind: str, seeds: int, results: Mapping[str, Any], comparison: Mapping[str, Any]) -> list[str]:
    """Each seed's difference, and which chance the interval covers."""
    parts = []
    each = [found for value in items(dig(comparison, "per_seed")) if (found := number(value)) is not None]
    if len(each) > 1:
        spread = number(dig(comparison, "std"))
        deviation = f" (standard deviation {spread:.1f})" if spread is not None else ""
        parts.append(f"Seed by seed the difference is {joined([signed(value) for value in each])} points{deviation}.")
    if kind == "untested" or pair(dig(comparison, "ci95")) is None:
        return parts
    text = (
        "The interval covers chance in training (each seed has its own split, start, order and views) and in the test"
    )
    text += " images"
    repeated = len(items(results.get("pretrain_seeds")))
    if repeated == 1:
        text += "; not in pretraining, which was run once"
    elif repeated:
        text += "; pretraining, too, was run anew with each seed"
    return [*parts, text + "."]


def detectable_says(comparison: Any, seeds: int) -> str:
    """How large a difference would have had a good chance to be found; empty where that wasn't computed."""
    found = number(dig(comparison, "detectable"))
    if found is None or found <= 0:
        return ""
    what = "of one pair of models" if seeds == 1 else f"of {seeds} seeds"
    if found >= 100:
        return f"No difference, however large, would have been found in four of five such studies {what}."
    size = f"{found:.{digits_for([found])}f} points"
    return f"A true difference of {size} would have been found in four of five such studies {what}."
