"""Sentences under the pictures that follow from the numbers of ``results.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twoviews.report.source import STAGE_NAMES, Stage
from twoviews.report.words import COMPARED, count, dig, joined, number, percent

_SHOWN_EPOCHS = 5


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


def jumps_says(stages: Iterable[Stage]) -> str:
    """In which epochs of which stages the loss of single steps jumped; empty where it never did."""
    texts = []
    for stage in stages:
        epochs = [row for row in stage.metrics if number(row.get("loss_spikes"))]
        if epochs:
            steps = sum(int(row["loss_spikes"]) for row in epochs)
            numbers = joined([str(row.get("epoch")) for row in epochs[:_SHOWN_EPOCHS]])
            more = " and later" if len(epochs) > _SHOWN_EPOCHS else ""
            times = "1 step" if steps == 1 else f"{count(steps)} steps"
            word = "epoch" if len(epochs) == 1 else "epochs"
            texts.append(f"at {times} of {STAGE_NAMES[stage.name]} ({word} {numbers}{more})")
    return f"The loss jumped far above that of the steps before {joined(texts)}." if texts else ""
