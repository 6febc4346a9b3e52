"""What weighted kNN gets right with settings that papers fix beforehand, in a sentence beside the chosen ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twoviews.report.number_words import count, joined, percent
from twoviews.report.tables import plain
from twoviews.report.values import dig, items, number


def knn_sentences(features: Mapping[str, Any]) -> list[str]:
    """kNN as papers fix it beforehand, beside the k chosen here; on validation, and on test where it was scored."""
    sentences = []
    for rows, key, where in (
        (dig(features, "knn_protocols"), "val_top1", "validation"),
        (dig(features, "test", "knn_protocols"), "test_top1", "test"),
    ):
        known = [row for row in items(rows) if number(dig(row, key)) is not None]
        if not known:
            continue
        temperature = plain(number(known[0].get("temperature")))
        each = [f"{percent(row[key])} with k = {count(row.get('k_asked'))}" for row in known]
        text = f"Weighted kNN as in Wu et al. (2018), T = {temperature}, gets {joined(each)} "
        text += f"of the {where} images right"
        chosen = number(dig(features, "knn", "val_top1"))
        if where == "validation" and chosen is not None:
            k, t = dig(features, "knn", "k"), dig(features, "knn", "temperature")
            text += f"; k = {count(k)} and T = {plain(number(t))}, chosen on the training images, {percent(chosen)}"
        lowered = [row for row in known if number(row.get("k")) not in (None, number(row.get("k_asked")))]
        if lowered:
            asked = joined([count(row.get("k_asked")) for row in lowered])
            text += f". There are only {count(lowered[0]['k'])} training images: for k = {asked} all of them vote"
        sentences.append(text + ".")
    return sentences
