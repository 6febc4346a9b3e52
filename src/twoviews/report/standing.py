"""Which of all tested models is ahead, and whether that is more than guessing: the line under the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twoviews.report.model_names import COMPARED, MODEL_FOLDERS, model_name
from twoviews.report.number_words import joined, percent
from twoviews.report.run import Run
from twoviews.report.values import dig, items, number, pair
from twoviews.report.verdict import verdict

_NAMES = {
    "supervised": "the supervised baseline",
    "finetuned": "the fine-tuned model",
    "linear_probe": "the linear probe on SimCLR’s features",
    "sgd_probe": "the SGD probe on SimCLR’s features",
    "knn": "kNN on SimCLR’s features",
    "random_init_linear_probe": "the linear probe on an untrained backbone",
    "imagenet_finetuned": "the fine-tuned ImageNet model",
}

# Where a study leaves them; kNN has no weights of its own.
_PLACES = {
    **{model: f"{stage}/models/" for model, stage in MODEL_FOLDERS.items()},
    "linear_probe": "features/linear_probe.safetensors",
    "random_init_linear_probe": "features/random_init_linear_probe.safetensors",
}

_SAME = 1e-9


@dataclass(frozen=True)
class Standing:
    """What the page says of all models together.

    Attributes:
        says: who is ahead with which accuracy, a sentence without its full stop.
        guessing: what guessing would reach, and whether the compared models do better than that; may be empty.
        model: the one that is ahead; empty where several share the place, or only one was tested.
    """

    says: str
    guessing: str
    model: str


@dataclass(frozen=True)
class _Guess:
    share: float
    words: str


def standing(results: Mapping[str, Any]) -> Standing | None:
    """What a study's numbers say of all its models, those with all labels; None while none was tested.

    A model is called the best only where the numbers show it: its interval lies above all others', or the verdict says
    that it beats the runner-up. Otherwise it is the highest, which may be chance.
    """
    models = dig(results, "models")
    if not isinstance(models, Mapping):
        return None
    top1 = {name: value for name, row in models.items() if (value := number(dig(row, "test_top1"))) is not None}
    if not top1:
        return None
    highest = max(top1.values())
    ahead = [name for name, value in top1.items() if highest - value < _SAME]
    guess = _guess(results, list(top1))
    guessing = f"{guess.words} {_no_better(models, list(top1), guess)}".strip() if guess else ""
    return Standing(_ahead(results, top1, ahead), guessing, ahead[0] if len(ahead) == 1 < len(top1) else "")


def place_of(run: Run, model: str) -> str:
    """Where in a study's folder a model is, of several seeds the first's; empty where it isn't there."""
    if run.kind != "study" or model not in _PLACES:
        return ""
    place = f"{run.seeds[0]}/{_PLACES[model]}" if run.seeds else _PLACES[model]
    return place if (run.folder / place).exists() else ""


def _ahead(results: Mapping[str, Any], top1: dict[str, float], ahead: list[str]) -> str:
    seeds = len(items(results.get("seeds")))
    value = percent(top1[ahead[0]]) + (f", the mean of {seeds} seeds" if seeds > 1 else "")
    names = [_NAMES.get(name, model_name(name)) for name in ahead]
    if len(top1) == 1:
        return f"Only {names[0]} was tested: {value} right"
    labels = " with all labels" if len(items(results.get("label_curve"))) > 1 else ""
    which = f"Of {'both' if len(top1) == 2 else f'the {len(top1)}'} models tested{labels}, "
    if len(ahead) > 1:
        return f"{which}{joined(names)} are equally high: {value} right"
    state = "is the best" if _is_best(results, list(top1), ahead[0]) else "has the highest accuracy"
    return f"{which}{names[0]} {state}: {value}"


def _is_best(results: Mapping[str, Any], names: list[str], best: str) -> bool:
    ends = {name: pair(dig(results, "models", name, "ci95")) for name in names}
    own, rivals = ends[best], [name for name in names if name != best]
    answer = verdict(results)
    if best in COMPARED and answer is not None and answer.kind == ("hurt" if best == COMPARED[0] else "helped"):
        rivals = [name for name in rivals if name not in COMPARED]
        if not rivals:
            return True
    return own is not None and all((other := ends[name]) is not None and own[0] > other[1] for name in rivals)


def _guess(results: Mapping[str, Any], names: list[str]) -> _Guess | None:
    """The share of test images that is right without looking at them: the most frequent class's, if it is known."""
    images = _images_by_class(results, names)
    classes = [str(name) for name in items(dig(results, "data", "classes"))]
    size = len(images) or len(classes)
    if size < 2:
        return None
    if not images:
        return _Guess(1 / size, f"Guessing one of {size} classes would be right in {percent(1 / size)}.")
    share = max(images) / sum(images)
    if min(images) == max(images):
        return _Guess(share, f"Guessing would be right in {percent(share)}: {size} classes, equally frequent.")
    named = f", “{classes[images.index(max(images))]}”," if len(classes) == size else ""
    return _Guess(share, f"Always naming the most frequent class{named} would be right in {percent(share)}.")


def _images_by_class(results: Mapping[str, Any], names: list[str]) -> list[float]:
    """Test images of each class, from the rows of a confusion matrix; over several seeds added up."""
    for name in names:
        rows = [items(row) for row in items(dig(results, "models", name, "confusion"))]
        sums = [sum(value for cell in row if (value := number(cell)) is not None) for row in rows]
        if rows and all(len(row) == len(rows) for row in rows) and sum(sums) > 0:
            return sums
    return []


def _no_better(models: Mapping[str, Any], names: list[str], guess: _Guess) -> str:
    """Whether the baseline, both compared, or all could as well be guessing: intervals hold its share, or lie below."""
    ends = {name: pair(dig(models, name, "ci95")) for name in names}
    lost = [name for name, own in ends.items() if own is not None and own[0] <= guess.share]
    if len(lost) == len(names):
        who = "The model is not" if len(names) == 1 else "No model is"
    elif all(name in lost for name in COMPARED):
        who = "Neither the baseline nor the fine-tuned model is"
    elif COMPARED[0] in lost and COMPARED[1] in names:
        # Any pretraining looks good beside it.
        return "The baseline is not clearly better than that: the comparison is with a model that has hardly learned."
    else:
        return ""
    return f"{who} clearly better than that: there may be too few epochs, labels or test images."
