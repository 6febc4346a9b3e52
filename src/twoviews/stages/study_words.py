"""What a study did, in sentences that go with its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twoviews.files import read_json
from twoviews.report.verdict import verdict
from twoviews.settings import StudyCommand
from twoviews.stages.protocols import epoch_words
from twoviews.stages.study_layout import Layout
from twoviews.trainers.progress import say


def protocol(settings: StudyCommand, plan: Layout, rule: str) -> str:
    """The protocol of every figure in results.json; ``rule``: by which a sweep chose, if there was one."""
    splits = plan.mains[0].shared.splits
    counts = splits.counts
    labels = counts["train"] + counts["val"]
    copies = (
        "copies of test and validation images stayed where they were (--keep-leaks)"
        if settings.keep_leaks
        else f"exact{' and near' if settings.drop_near else ''} copies of test and validation images were taken out of "
        "the training side first"
    )
    sentences = [
        f"{labels:,} labelled images, {counts['val']:,} of them held out for validation; pretraining on "
        f"{counts['unlabeled']:,} images without labels; {copies}.",
        f"Baseline and fine-tuned model: {settings.backbone}, trained on the same {counts['train']:,} images for "
        f"{_epochs(settings)}; {epoch_words(counts['val'])}.",
    ]
    if settings.tune:
        sentences.append(f"Both recipes were tuned with the same budget. {rule}")
        if len(plan.all) > 1:
            sentences.append("They were chosen with all labels of the first seed and serve every comparison.")
    if len(plan.mains) > 1:
        sentences.append(_seeds(settings, plan))
    if plan.budgets:
        whose = "the baseline's epochs" if settings.finetune.probe_start else "epochs"
        sentences.append(
            "With fewer labels: nested, stratified parts of the same labelled images, the same for every model, "
            f"validation counted among them; {whose} grow as one over the square root of the part, and the pretraining "
            "is the same."
        )
    if plan.folds:
        sentences.append(
            f"Folds: each of the {len(plan.folds)} official folds trains whole; validation images outside it choose "
            "nothing."
        )
    return " ".join([*sentences, "Test labels chose nothing: they were opened by the test stages alone."])


def _epochs(settings: StudyCommand) -> str:
    baseline, tuned = settings.supervised.epochs, settings.finetune.epochs
    if baseline != tuned:
        return f"{baseline} and {tuned} epochs"
    return f"{baseline} epoch{'' if baseline == 1 else 's'}"


def say_found(path: Path, page: Path) -> None:
    """Print what a study found, as its results.json has it, and where its report is."""
    found = verdict(read_json(path / "results.json"))
    if found is not None:
        say(f"\n{found.lead}: {found.sentence}")
        if found.fewer:
            say(found.fewer)
    say(f"report: {page}")


def _seeds(settings: StudyCommand, plan: Layout) -> str:
    text = f"{len(plan.mains)} seeds, each with its own validation split, initial weights, order and views"
    if settings.pretrain_seeds:
        return f"{text}, and its own pretraining."
    text += "; all start from one pretraining"
    first = plan.mains[0].shared.splits.unlabeled
    seen = 0
    for one in plan.mains[1:]:
        val = one.shared.splits.val
        if val.pixels is first.pixels:
            seen = max(seen, int(np.isin(val.rows, first.rows).sum()))
    if seen:
        text += (
            f", which has seen up to {seen:,} of a later seed's validation images without their labels; test images "
            "it has not"
        )
    return f"{text}."
