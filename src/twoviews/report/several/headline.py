"""What a comparison of studies says in words, from their numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twoviews.listing import first_few
from twoviews.report.number_words import count, joined, p_value, percent, signed, signed_range
from twoviews.report.several.pairs import Pair, Pairing
from twoviews.report.values import dig, items, number
from twoviews.report.verdict import verdict

_MOST_NAMED = 3


@dataclass(frozen=True)
class Headline:
    """The answer: its kind (ahead, unclear, untested), how it opens, the sentence, and sentences to add."""

    kind: str
    lead: str
    sentence: str
    details: list[str]


def study_names(folders: Sequence[Path]) -> list[str]:
    """What studies are called: the folder's name, with as many folders above it as tell it from the others."""
    parts = [folder.resolve().parts for folder in folders]
    names = []
    for mine in parts:
        length = 1
        while length < len(mine) and sum(other[-length:] == mine[-length:] for other in parts) > 1:
            length += 1
        names.append("/".join(mine[-length:]))
    return names


def headline(names: Sequence[str], results: Sequence[Mapping[str, Any]], pairing: Pairing) -> Headline:
    """Which study's fine-tuned model is ahead, and how sure that is.

    Args:
        names: of the studies.
        results: ``results.json`` of each.
        pairing: the studies compared image by image.
    """
    tops = [number(dig(one, "models", "finetuned", "test_top1")) for one in results]
    if len(pairing.group) < 2:
        return _uncompared(names, tops, pairing)
    leader = max(pairing.group, key=lambda place: sum(pair.points for pair in pairing.of(place)))
    pairs = sorted(pairing.of(leader), key=lambda pair: pair.points)
    several = len(pairing.pairs) > 1
    details = [_chance(pairs, results, pairing), *pairing.left_out]
    if several:
        details.insert(
            1, f"Each interval is widened so that all {len(pairing.pairs)} pairs hold together with 95% confidence."
        )
    if not several:
        return _of_two(names, leader, pairs[0], pairing, details)
    top = tops[leader]
    is_highest = top is not None and all(top >= (tops[place] or 0) for place in pairing.group)
    return _of_many(names, f", {percent(top)}" if is_highest else "", leader, pairs, pairing, details)


def _of_two(names: Sequence[str], leader: int, pair: Pair, pairing: Pairing, details: list[str]) -> Headline:
    mine, theirs = names[leader], names[pair.b]
    mean = "" if pair.seeds == 1 else "mean "
    same = f"on the same {count(pairing.images)} test images ({_evidence(pair)})"
    if pair.sign == 1:
        higher = f"its fine-tuned model’s {mean}accuracy is {_size(pair.points)} percentage points higher"
        return Headline("ahead", f"{mine} is ahead", f"{higher} than that of {theirs}, {same}.", details)
    more = (
        f"the fine-tuned model of {mine} is {_size(pair.points)} percentage points more accurate than that of {theirs}"
    )
    if pair.points == 0:
        more = f"the fine-tuned models of {mine} and {theirs} are equally accurate"
    if pair.sign is None:
        details = ["The interval and McNemar’s test fall on different sides of the 5% line.", *details]
        return Headline("unclear", "Too close to call", f"{more} {same}.", details)
    ends = [f"{_size(end)} points {'less' if end < 0 else 'more'}" for end in (pair.low, pair.high)]
    sentence = f"{more} {same}; anything from {ends[0]} to {ends[1]} for {mine} fits these results."
    return Headline("unclear", "No difference that this test can see", sentence, details)


def _of_many(
    names: Sequence[str], top: str, leader: int, pairs: Sequence[Pair], pairing: Pairing, details: list[str]
) -> Headline:
    """``top`` is the leader's accuracy, empty where another's is higher over seeds that not all studies have."""
    images = f"on the same {count(pairing.images)} test images"
    does = f"has the highest accuracy after fine-tuning{top}" if top else "does best over the seeds that studies share"
    found = {1: "above", 0: "not told apart from", -1: "below"}
    parts = []
    for sign, said in found.items():
        at = [pair for pair in pairs if (pair.sign or 0) == sign]
        parts += [f"{said} {_listed(at, names)}"] if at else []
    sentence = f"{names[leader]} {does}; {images} it is {', and '.join(parts)}."
    signs = {pair.sign or 0 for pair in pairs}
    if signs == {1}:
        return Headline("ahead", f"{names[leader]} is ahead of the others", sentence, details)
    lead = "No difference that this test can see" if signs == {0} else "No study is ahead of all others"
    return Headline("unclear", lead, sentence, details)


def _uncompared(names: Sequence[str], tops: Sequence[float | None], pairing: Pairing) -> Headline:
    known = [(top, name) for top, name in zip(tops, names, strict=True) if top is not None]
    said = joined([f"{percent(top)} in {name}" for top, name in sorted(known, reverse=True)])
    if len(known) < 2:
        there = f"only one has a fine-tuned model that was tested, {said}" if known else "none has been tested yet"
        return Headline("untested", "Nothing to compare yet", f"of {len(names)} studies {there}.", pairing.left_out)
    sentence = f"fine-tuned test accuracy is {said}, but no difference between them can be tested."
    return Headline("untested", "Not comparable image by image", sentence, pairing.left_out)


def _listed(pairs: Sequence[Pair], names: Sequence[str]) -> str:
    parts = [f"{names[pair.b]} ({signed(pair.points)}, {signed_range((pair.low, pair.high))})" for pair in pairs]
    few, more = first_few(parts, _MOST_NAMED)
    return joined([*few, f"{more} more"] if more else few)


def _evidence(pair: Pair) -> str:
    facts = [f"95% interval {signed_range((pair.low, pair.high))}"]
    if pair.p is not None:
        facts.append(f"McNemar {p_value(pair.p)}")
    if pair.seeds > 1:
        facts.append(f"over {pair.seeds} seeds")
    return "; ".join(facts)


def _size(value: float) -> str:
    return f"{abs(value):.{2 if value and abs(value) < 0.05 else 1}f}"


def _chance(pairs: Sequence[Pair], results: Sequence[Mapping[str, Any]], pairing: Pairing) -> str:
    """Which chance the intervals cover."""
    if all(pair.seeds == 1 for pair in pairs):
        text = "Each comparison is of one pair of models, image by image. It covers chance in which images were tested,"
        text += " not in training: with another seed each study gives another model."
    else:
        text = "Models are paired by seed and image; the intervals cover chance in training and in the test images"
        once = any(len(items(results[place].get("pretrain_seeds"))) == 1 for place in pairing.group)
        text += "; not in pretraining, which a study ran once." if once else "."
    most = max(len(items(results[place].get("seeds"))) for place in pairing.group)
    fewer = any(pair.seeds < most for pair in pairs)
    return text + (" Of several seeds those count here that both studies have." if fewer else "")


def helped_says(names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> str:
    """In which studies pretraining helped, fine-tuned against each one's own baseline; empty where none says."""
    said: dict[str, list[str]] = {"helped": [], "hurt": [], "unclear": [], "untested": []}
    for name, one in zip(names, results, strict=True):
        answer = verdict(one)
        if answer is not None:
            points = dig(one, "comparison", "finetuned_minus_supervised", "points")
            said[answer.kind].append(f"{name} ({signed(points)})" if number(points) is not None else name)
    parts = []
    if said["helped"]:
        parts.append(f"pretraining helped in {joined(said['helped'])}")
    if said["hurt"]:
        parts.append(f"{'it' if parts else 'pretraining'} hurt in {joined(said['hurt'])}")
    if said["unclear"]:
        parts.append(f"the test can’t tell in {joined(said['unclear'])}")
    if said["untested"]:
        parts.append(f"without a test stands {joined(said['untested'])}")
    return f"Fine-tuned, each study against its own baseline, in points: {'; '.join(parts)}." if parts else ""
