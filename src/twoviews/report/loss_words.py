"""What the loss did in training, in words: whether the contrastive one fell, and where one jumped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twoviews.report.number_words import count, joined
from twoviews.report.stage_files import STAGE_NAMES, Stage
from twoviews.report.values import dig, number
from twoviews.settings.growth import grown_size, progress_at

_LEAST = 0.01  # less isn't seen in the two digits that are written
_SHOWN_EPOCHS = 5


def loss_sentences(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[str]:
    """A sentence where the contrastive loss ended higher than it began; [] otherwise, or where that can't be told.

    Larger views give a higher loss. Where views grew, the epochs with views of the last epoch's size are compared.

    Args:
        rows: of the pretraining's ``metrics.jsonl``.
        settings: those of pretraining, with ``image_size``.
    """
    known = [
        (int(epoch), loss)
        for row in rows
        if (epoch := number(row.get("epoch"))) is not None and (loss := number(row.get("loss"))) is not None
    ]
    if len(known) < 2:
        return []
    epochs = int(number(dig(settings, "epochs")) or 0)
    sizes = [view_size_in(settings, epoch, epochs) for epoch, _ in known]
    same = [one for one, size in zip(known, sizes, strict=True) if size == sizes[-1]]
    if sizes[-1] is None or len(same) < 2:
        return []
    (first, before), (last, after) = same[0], same[-1]
    if after - before < _LEAST:
        return []
    began = "than it began" if len(same) == len(known) else "than when its views had reached their last size"
    return [
        f"The contrastive loss ended higher {began}: {before:.2f} in epoch {count(first)}, {after:.2f} in epoch"
        f" {count(last)}. It should fall: there may be too few epochs, or the learning rate may be too high."
    ]


def view_size_in(settings: Mapping[str, Any], epoch: int, epochs: int) -> int | None:
    """Height and width of an epoch's views (epochs count from 1), 0 where all have one size; None where unknown."""
    first = number(dig(settings, "first_view_size"))
    if first is None:
        return 0
    last = number(dig(settings, "view_size")) or number(dig(settings, "image_size"))
    if last is None or epochs < 1:
        return None
    return grown_size(int(first), int(last), progress_at(epoch - 1, epochs))


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
