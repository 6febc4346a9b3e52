"""What the maps of the features show, in sentences that follow from the numbers in ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twoviews.report.model_names import COMPARED
from twoviews.report.number_words import count, joined, percent
from twoviews.report.values import dig, number

NEARLY_ALL, MOST = 0.95, 0.85
ALIKE = 0.01

BACKBONES = {
    "supervised": "baseline",
    "finetuned": "fine-tuned model",
    "imagenet_finetuned": "fine-tuned ImageNet weights",
    "pretrained": "SimCLR before fine-tuning",
    "random_init": "untrained backbone",
}


def map_sentences(features: Mapping[str, Any]) -> list[str]:
    """Do the maps keep neighbourhoods, and do neighbours share a class more often than without training?

    Trustworthiness and continuity from 0.95 keep nearly all neighbours, from 0.85 most; below it single points can't be
    read. Two maps whose trustworthiness is within 0.01 are drawn alike. For shares of neighbours see `_side`.
    """
    return [*_map_sentence(features, "tsne", "t-SNE"), *_map_sentence(features, "pca", "PCA"), *_purity(features)]


def map_sentences_on_test(features: Mapping[str, Any]) -> list[str]:
    """The classes among test images' neighbours under every backbone, from ``features["test"]["map_quality"]``."""
    found = dig(features, "test", "map_quality") or {}
    shown = {model: record for model in BACKBONES if (record := _features_side(dig(found, model))) is not None}
    if not shown:
        return []
    each = [f"{BACKBONES[model]} {percent(r['purity_features'])}" for model, r in shown.items()]
    first = next(iter(shown.values()))
    text = (
        f"Of a test image's {count(first.get('k'))} nearest images in the features, so many have its class: "
        f"{joined(each)} ({percent(first.get('purity_chance'))} by chance)."
    )
    if "supervised" in shown and "finetuned" in shown:
        side = _side(shown["finetuned"], shown["supervised"])
        text += {
            1: " Fine-tuning from SimCLR gathers the classes more than the baseline does.",
            -1: " Fine-tuning from SimCLR gathers the classes less than the baseline does.",
            0: " Between the fine-tuned model and the baseline that is no clear difference.",
        }[side]
    return [text]


def variance(results: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Share of the variance along the first two principal components."""
    ratio = dig(results, "features", "pca", "explained_variance_ratio")
    ratio = ratio.get("pretrained") if isinstance(ratio, Mapping) else ratio
    found = [number(value) for value in ratio] if isinstance(ratio, list) else []
    first, second = [*found, None, None][:2]
    return first, second


def pca_says(results: Mapping[str, Any]) -> str:
    """How much of the features the PCA map can show, and what a probe reads from all of them."""
    first, second = variance(results)
    if first is None or second is None:
        return ""
    text = f"These two directions carry {percent(first + second)} of the variance of the SimCLR features"
    probe = dig(results, "features", "linear_probe", "val_top1")
    if number(probe) is None:
        return text + "."
    return text + f"; a linear probe, which reads all of them, gets {percent(probe)} of the validation images right."


def tested_says(results: Mapping[str, Any]) -> str:
    """The accuracies that the two maps of test images belong to."""
    before, after = (dig(results, "models", name, "test_top1") for name in COMPARED)
    if number(before) is None or number(after) is None:
        return ""
    return f"Test accuracy is {percent(before)} for the baseline and {percent(after)} for the fine-tuned model."


def _map_sentence(features: Mapping[str, Any], key: str, name: str) -> list[str]:
    record = dig(features, "map_quality", "pretrained", key) or {}
    trust, torn = number(dig(record, "trustworthiness")), number(dig(record, "continuity"))
    if trust is None:  # a run from before continuity was measured
        trust = number(dig(features, key, "trustworthiness"))
    if trust is None:
        return []
    text = f"{name} map: trustworthiness is {trust:.3f} of 1, so {_amount(trust)} on the map are neighbours in the "
    text += "features"
    if torn is not None:
        text += f"; continuity is {torn:.3f}, so {_amount(torn)} in the features stay neighbours on the map"
    overlap, chance = dig(record, "overlap"), dig(record, "overlap_chance")
    if number(overlap) is not None:
        text += f"; {percent(overlap)} of the {count(dig(record, 'k'))} nearest are the very same"
        text += f" ({percent(chance)} by chance)" if number(chance) is not None else ""
    text += "." if min(trust, trust if torn is None else torn) >= MOST else ". Read groups, not single points."
    untrained = number(dig(features, "map_quality", "random_init", key, "trustworthiness"))
    if untrained is not None:
        difference = trust - untrained
        how = "equally well" if abs(difference) <= ALIKE else "less faithfully" if difference > 0 else "more faithfully"
        text += f" Features of an untrained backbone are drawn {how} ({untrained:.3f})"
        text += "." if difference > ALIKE else ": that says how a map is drawn, not what the features are worth."
    return [text]


def _amount(share: float) -> str:
    return f"{'nearly all' if share >= NEARLY_ALL else 'most' if share >= MOST else 'by far not all'} neighbours"


def _purity(features: Mapping[str, Any]) -> list[str]:
    """What neighbours say of classes: in the features, against no training and chance, and on the t-SNE map."""
    trained = _features_side(dig(features, "map_quality", "pretrained"))
    if trained is None:
        return []
    share, chance = number(trained["purity_features"]), number(trained.get("purity_chance"))
    text = f"{percent(share)} of an image's {count(trained.get('k'))} nearest images in the SimCLR features have its "
    text += f"class ({percent(chance)} would by chance)" if chance is not None else "class"
    untrained = _features_side(dig(features, "map_quality", "random_init"))
    if untrained is not None:
        how = {1: "more than", -1: "fewer than", 0: "not clearly different from"}[_side(trained, untrained)]
        text += f", {how} the {percent(untrained['purity_features'])} of an untrained backbone"
    drawn = {**trained, "purity_features": dig(features, "map_quality", "pretrained", "tsne", "purity_map")}
    if number(drawn["purity_features"]) is not None:
        how = {
            1: "the map parts the classes more than the features do",
            -1: "the map mixes classes that the features keep apart",
            0: "the map shows the classes as the features hold them",
        }[_side(drawn, trained)]
        text += f"; on the t-SNE map it is {percent(drawn['purity_features'])}: {how}"
    return [text + "."]


def _features_side(maps: Any) -> Mapping[str, Any] | None:
    """A record with the purity in the features, the same whichever map it stands beside."""
    for key in ("tsne", "pca"):
        record = dig(maps, key)
        if isinstance(record, Mapping) and number(record.get("purity_features")) is not None:
            return record
    return None


def _side(first: Mapping[str, Any], second: Mapping[str, Any]) -> int:
    """1 or −1 if two shares of neighbours are more than two standard errors apart, else 0.

    The share of one image's neighbours varies by at most p(1 − p): so much is taken for each of the images judged,
    which errs towards "no difference".
    """
    p, q = float(first["purity_features"]), float(second["purity_features"])
    error = sum(
        share * (1 - share) / (number(record.get("judged")) or 1.0) for share, record in ((p, first), (q, second))
    )
    return 0 if abs(p - q) <= 2 * error**0.5 else 1 if p > q else -1
