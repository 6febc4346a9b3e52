"""One comparison of a study: baseline, probes and fine-tuning on the same labels, from one pretraining, then the test.

A study makes it once; with more seeds, fewer labels or folds it makes it again in folders of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twoviews.settings import (
    FeaturesCommand,
    FinetuneCommand,
    FinetuneSettings,
    LabelSettings,
    MapSettings,
    PretrainCommand,
    RunSettings,
    Settings,
    StudyCommand,
    SupervisedCommand,
    TestCommand,
    TrainingSettings,
    stage_settings,
)
from twoviews.stages.classify import run_finetune, run_supervised
from twoviews.stages.features import run_features
from twoviews.stages.plan import with_epochs
from twoviews.stages.pretrain import run_pretrain
from twoviews.stages.setup import Shared
from twoviews.stages.test import run_test

Work = Callable[[], Path]
Spent = Callable[[str, float, bool], None]
"""Told of a stage: its name, its wall-clock seconds, and whether it is done."""

MOST_EPOCHS = 10  # times as many as with all labels, however few there are

# The probe of papers that train one by SGD: crops and flips, no other augmentation, no weight decay.
SGD_PROBE: dict[str, Any] = {
    "freeze_backbone": True,
    "probe_start": False,
    "head_layers": 0,
    "base_lr": 1.0,
    "weight_decay": 0.0,
    "jitter": 0.0,
    "grayscale": 0.0,
    "blur": 0.0,
}


@dataclass(frozen=True)
class Comparison:
    """Where a comparison lies, whose seed it has, and on which images and labels it is made.

    Attributes:
        folder: its run folders are in it.
        seed: of splits, initial weights, order and views.
        shared: engine, and the splits with the labels that it may use.
        pretrained: run folder of the pretraining that fine-tuning and probes start from.
        labels: what ``LabelSettings`` say; empty for all labels.
        share: of the labels that there are, in (0, 1].
        shown: whether the report shows its maps and pictures, as those of the first seed with all labels; others
            make none: they would take most of a feature check and a test.
    """

    folder: Path
    seed: int
    shared: Shared
    pretrained: Path
    labels: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    shown: bool = False

    @property
    def whole(self) -> bool:
        """Whether it has all labels."""
        return not self.labels

    @property
    def pretrains(self) -> bool:
        """Whether the pretraining is its own, and not another's."""
        return self.pretrained.parent == self.folder


def first_stages(settings: StudyCommand, one: Comparison) -> list[tuple[str, Work]]:
    """The baseline, which needs no pretraining, and the pretraining, unless it starts from another's."""
    part = with_share(settings.supervised, one.share)
    baseline = stage_command(settings, one, SupervisedCommand, part, "supervised")
    stages: list[tuple[str, Work]] = [("supervised", lambda: run_supervised(baseline, one.shared))]
    if one.pretrains:
        pretraining = stage_command(settings, one, PretrainCommand, settings.pretrain, "pretrain")
        stages.append(("pretrain", lambda: run_pretrain(pretraining, one.shared)))
    return stages


def pretrained_stages(settings: StudyCommand, one: Comparison) -> list[tuple[str, Work]]:
    """Name of each stage after pretraining, and what runs it, in order."""
    finetune = finetuning(settings, one.share)
    features = settings.features.model_copy(update={"maps": settings.features.maps and one.shown})

    def tuned_from(part: FinetuneSettings, stage: str, **origin: Any) -> tuple[str, Work]:
        command = stage_command(settings, one, FinetuneCommand, part, stage, **origin)
        return stage, lambda: run_finetune(command, one.shared)

    origin = {"run": one.pretrained, "init": None}
    checked = stage_command(settings, one, FeaturesCommand, features, "features", **origin)
    drawn = {} if features.maps else {name: field.default for name, field in MapSettings.model_fields.items()}
    drawn |= {"maps": features.maps, "run": one.folder, "init": None}
    tested = stage_command(settings, one, TestCommand, None, "test", **drawn)
    stages: list[tuple[str, Work]] = [
        ("features", lambda: run_features(checked, one.shared)),
        tuned_from(finetune, "finetune", **origin),
    ]
    if settings.with_imagenet and one.whole:
        stages.append(tuned_from(finetune, "imagenet", init="timm"))
    if settings.sgd_probe:
        stages.append(tuned_from(with_share(sgd_probe(settings), one.share), "sgd_probe", **origin))
    return [*stages, ("test", lambda: run_test(tested, one.shared))]


def run_stages(stages: Sequence[tuple[str, Work]], one: Comparison, spent: Spent) -> None:
    """Run a comparison's stages; one that was done already is only looked at, which takes no time."""
    for name, work in stages:
        if (one.folder / name / "results.json").exists():
            work()
        else:
            with clocked(name, spent):
                work()


@contextmanager
def clocked(name: str, spent: Spent) -> Iterator[None]:
    """Tell how long this block took, however it ends."""
    started = time.monotonic()
    done = False
    try:
        yield
        done = True
    finally:
        spent(name, time.monotonic() - started, done)


def finetuning(settings: StudyCommand, share: float) -> FinetuneSettings:
    """Fine-tuning's settings for a share of the labels: its epochs grow as all do, unless it starts from a probe.

    That is good at the first step, and more of them bend it to few images.
    """
    own = settings.finetune
    tuned: FinetuneSettings = own if own.probe_start else with_share(own, share)
    return tuned


def sgd_probe(settings: StudyCommand) -> FinetuneSettings:
    """Fine-tuning's settings, made those of the SGD probe."""
    return settings.finetune.model_copy(update=SGD_PROBE)


def stage_command(
    settings: StudyCommand, one: Comparison, kind: type[Settings], part: Settings | None, stage: str, **more: Any
) -> Any:
    """A stage's own settings, which start it again by themselves."""
    parts = [settings] if part is None else [settings, part]
    labels = {**dict.fromkeys(LabelSettings.model_fields), **one.labels}
    fixed = {**_how_it_runs(settings), "seed": one.seed, **{k: v for k, v in labels.items() if k in kind.model_fields}}
    return stage_settings(kind, *parts, **{**fixed, "out": one.folder / stage, "minutes": None, **more})


def _how_it_runs(run: RunSettings) -> dict[str, Any]:
    """How a stage of a study runs: as the study, in a folder of its own."""
    keys = RunSettings.model_fields.keys() - {"out", "new", "fork", "config", "recipe", "minutes"}
    return {key: getattr(run, key) for key in keys}


def labelled_passes(settings: StudyCommand, one: Comparison) -> dict[str, float]:
    """How much each training on labels comes to: stage → passes over as many images as all labels have."""
    epochs = {
        "supervised": with_share(settings.supervised, one.share).epochs,
        "finetune": finetuning(settings, one.share).epochs,
    }
    if settings.with_imagenet and one.whole:
        epochs["imagenet"] = epochs["finetune"]
    if settings.sgd_probe:
        epochs["sgd_probe"] = with_share(sgd_probe(settings), one.share).epochs
    return {stage: one.share * count for stage, count in epochs.items()}


def with_share(part: TrainingSettings, share: float) -> Any:
    """The settings for a share of the labels: so many more epochs that training still gets somewhere.

    Epochs grow as one over the square root of the share, and at most ``MOST_EPOCHS`` times: with the epochs of all
    labels a tenth of them would be trained for a tenth of the steps, and the baseline would lose for that alone.
    """
    factor = min(MOST_EPOCHS, share**-0.5)
    return with_epochs(part, max(1, round(part.epochs * factor)))
