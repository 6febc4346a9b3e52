"""The whole comparison: baseline, SimCLR, feature check, fine-tuning, test, report.

Every stage is a run folder of its own and goes on where it was, so a study that was stopped anywhere is finished by
the same command.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twoviews.files import read_json, read_record, write_json
from twoviews.report.page import write_report
from twoviews.report.verdict import verdict
from twoviews.settings import (
    FeaturesCommand,
    FinetuneCommand,
    PretrainCommand,
    StudyCommand,
    SupervisedCommand,
    TestCommand,
    stage_settings,
)
from twoviews.stages.classify import run_finetune, run_supervised
from twoviews.stages.data_files import data_results
from twoviews.stages.features import run_features
from twoviews.stages.pretrain import run_pretrain
from twoviews.stages.setup import (
    Shared,
    in_run_folder,
    new_backbone,
    prepare,
    say_counts,
    settings_for,
)
from twoviews.stages.study_plan import fitted
from twoviews.stages.test import run_test
from twoviews.trainers.progress import duration, say
from twoviews.trainers.run_folder import RunFolder

SCHEMA = 1
STAGES = ("supervised", "pretrain", "features", "finetune", "test")


def run_study(settings: StudyCommand) -> Path:
    """Run what is left of a study and write its results and report; returns the run folder."""
    shared = prepare(settings)
    # What would fail after hours should fail now: a study without a test part, weights that can't be had.
    shared.splits.open_test()
    if settings.with_imagenet:
        new_backbone(settings, shared.image_size, seed=settings.seed, init="timm")
    path = in_run_folder("study", settings, shared, lambda run: _study(settings, shared, run))
    if shared.engine.is_first and not (path / "report.html").exists():
        _report(path)
    return path


def _study(settings: StudyCommand, shared: Shared, run: RunFolder) -> None:
    is_first = shared.engine.is_first
    if is_first:
        say_counts(shared.splits)
    plan = fitted(settings, shared, run)
    for stage, work in _stages(plan, run.path):
        _timed(stage, work, run, shared)
    if is_first:
        run.finish(_results(plan, shared, run))
        _report(run.path)


def _report(path: Path) -> None:
    """Write the page and say its verdict."""
    page = write_report(path)
    found = verdict(read_json(path / "results.json"))
    if found is not None:
        say(f"\n{found.lead}: {found.sentence}")
    say(f"report: {page}")


def _stages(settings: StudyCommand, folder: Path) -> list[tuple[str, Any]]:
    """Each stage's name and what runs it, in order."""
    own = settings_for(settings)

    def command(kind: Any, part: Any, stage: str, **more: Any) -> Any:
        parts = [settings] if part is None else [settings, part]
        return stage_settings(kind, *parts, **{**own, "out": folder / stage, "minutes": None, **more})

    pretrained = folder / "pretrain"
    stages = [
        (
            "supervised",
            lambda s: run_supervised(command(SupervisedCommand, settings.supervised, "supervised"), s),
        ),
        ("pretrain", lambda s: run_pretrain(command(PretrainCommand, settings.pretrain, "pretrain"), s)),
        (
            "features",
            lambda s: run_features(
                command(FeaturesCommand, settings.features, "features", run=pretrained, init=None), s
            ),
        ),
        (
            "finetune",
            lambda s: run_finetune(
                command(FinetuneCommand, settings.finetune, "finetune", run=pretrained, init=None), s
            ),
        ),
    ]
    if settings.with_imagenet:
        stages.append(
            (
                "imagenet",
                lambda s: run_finetune(command(FinetuneCommand, settings.finetune, "imagenet", init="timm"), s),
            )
        )
    stages.append(("test", lambda s: run_test(command(TestCommand, None, "test", run=folder, init=None), s)))
    return stages


def _timed(stage: str, work: Any, run: RunFolder, shared: Shared) -> None:
    """Run a stage and add its wall-clock seconds to seconds.json, over all the times it was started."""
    done = (run.path / stage / "results.json").exists()
    path = run.path / "seconds.json"
    seconds = read_record(path, "delete it, and times are counted from now on") if path.exists() else {}
    started = time.monotonic()
    try:
        work(shared)
    finally:
        if not done and shared.engine.is_first:
            seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - started
            write_json(path, seconds)
            if (run.path / stage / "results.json").exists():
                say(f"{stage}: done in {duration(seconds[stage])}")


def _results(settings: StudyCommand, shared: Shared, run: RunFolder) -> dict[str, Any]:
    """results.json of the study, put together from its stages'."""
    parts = {stage: read_json(run.path / stage / "results.json") for stage in STAGES}
    seconds = read_json(run.path / "seconds.json")
    return {
        "schema": SCHEMA,
        "protocol": _protocol(settings, shared),
        "data": data_results(shared.splits, keep_leaks=settings.keep_leaks, drop_near=settings.drop_near),
        "seeds": [settings.seed],
        "models": parts["test"]["models"],
        "comparison": parts["test"]["comparison"],
        "label_curve": [],
        "folds": [],
        "features": parts["features"],
        "speed": {"pretrain_images_per_second": parts["pretrain"]["images_per_second"]},
        "seconds": {**seconds, "total": sum(seconds.values())},
    }


def _protocol(settings: StudyCommand, shared: Shared) -> str:
    """What was done, in sentences that go with the numbers."""
    counts = shared.splits.counts
    labels = counts["train"] + counts["val"]
    copies = (
        "copies of test and validation images stayed where they were (--keep-leaks)"
        if settings.keep_leaks
        else f"exact{' and near' if settings.drop_near else ''} copies of test and validation images were taken out of "
        "the training side first"
    )
    return (
        f"{labels:,} labelled images, {counts['val']:,} of them held out for validation; pretraining on "
        f"{counts['unlabeled']:,} images without labels; {copies}. Baseline and fine-tuned model: {settings.backbone}, "
        f"trained on the same {counts['train']:,} images for {settings.supervised.epochs} and "
        f"{settings.finetune.epochs} epochs. Test labels were opened once, after every choice was made."
    )
