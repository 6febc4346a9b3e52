"""How many epochs a study can afford: ``--minutes`` for all its stages together."""

from __future__ import annotations

from twoviews.files import read_record, write_json
from twoviews.model.resnet50 import Classifier
from twoviews.settings import StudyCommand
from twoviews.stages.backbones import new_backbone
from twoviews.stages.comparison import finetuning, sgd_probe, with_share
from twoviews.stages.plan import PLAN_ADVICE, with_epochs
from twoviews.stages.setup import Shared
from twoviews.stages.study_layout import Layout
from twoviews.stages.tasks import classifier_task, simclr_model, simclr_task
from twoviews.stages.tune import trial_epochs
from twoviews.trainers.estimate import seconds_per_epoch
from twoviews.trainers.progress import duration, say
from twoviews.trainers.run_folder import RunFolder

RESERVE = 0.1  # of the time, for feature check, test and report
LABELLED_SHARE = 0.5  # of the time, at most, for baseline and fine-tuning together


def fitted(settings: StudyCommand, plan: Layout, run: RunFolder) -> StudyCommand:
    """The study's settings with epochs that fit ``--minutes``, as planned at its first start; prints the estimate.

    Baseline and fine-tuning keep their epochs if they fit in ``LABELLED_SHARE`` of the time, and always shrink
    alike; pretraining takes the rest, but no more than its recipe asks for.
    """
    path = run.path / "plan.json"
    if path.exists():
        return _apply(settings, read_record(path, PLAN_ADVICE)["epochs"])
    shared = plan.mains[0].shared
    labelled, unlabeled = _measure(settings, shared)
    unlabeled *= sum(one.pretrains for one in plan.all)
    epochs = {
        "supervised": settings.supervised.epochs,
        "finetune": settings.finetune.epochs,
        "pretrain": settings.pretrain.epochs,
    }
    if settings.minutes is not None:
        seconds = settings.minutes * 60 * (1 - RESERVE)
        wanted = labelled * _labelled_epochs(settings, plan, epochs)
        scale = min(1.0, LABELLED_SHARE * seconds / wanted)
        for stage in ("supervised", "finetune"):
            epochs[stage] = max(1, int(epochs[stage] * scale))
        rest = seconds - labelled * _labelled_epochs(settings, plan, epochs)
        epochs["pretrain"] = max(1, min(epochs["pretrain"], int(rest / unlabeled)))
    total = labelled * _labelled_epochs(settings, plan, epochs) + unlabeled * epochs["pretrain"]
    if shared.engine.is_first:
        limit = "" if settings.minutes is None else f", fitted to {settings.minutes:g} minutes"
        times = f"{len(plan.all)} times: " if len(plan.all) > 1 else ""
        say(
            f"study: about {duration(total)} for the training alone{limit}: {times}{epochs['supervised']} epochs of "
            f"the baseline, {epochs['pretrain']} of SimCLR, {epochs['finetune']} of fine-tuning"
        )
        if settings.minutes is not None:
            write_json(path, {"epochs": epochs, "estimated_seconds": total / (1 - RESERVE)})
    return _apply(settings, epochs)


def _labelled_epochs(settings: StudyCommand, plan: Layout, epochs: dict[str, int]) -> float:
    """Passes over all labelled training images: of every comparison, and of the trials of tuning."""
    now = _apply(settings, epochs)
    scratch = [now.supervised, *([sgd_probe(now)] if settings.sgd_probe else [])]
    passes = 0.0
    for one in plan.all:
        parts = [*(with_share(part, one.share) for part in scratch), finetuning(now, one.share)]
        passes += one.share * sum(part.epochs for part in parts)
    return passes + trial_epochs(now, plan.mains[0].shared)


def _apply(settings: StudyCommand, epochs: dict[str, int]) -> StudyCommand:
    return settings.model_copy(
        update={stage: with_epochs(getattr(settings, stage), count) for stage, count in epochs.items()}
    )


def _measure(settings: StudyCommand, shared: Shared) -> tuple[float, float]:
    """Seconds an epoch of labelled training and of pretraining takes here, measured on a few steps."""
    seed = settings.seed
    backbone = new_backbone(settings, shared.image_size, seed=seed)
    classifier = Classifier(backbone, len(shared.splits.class_names))
    labelled = classifier_task("supervised", settings.supervised, shared, classifier, seed=seed)
    model = simclr_model(settings.pretrain, new_backbone(settings, shared.image_size, seed=seed))
    unlabeled = simclr_task(settings.pretrain, shared, model, seed=seed)
    return (
        seconds_per_epoch(labelled, settings.supervised, shared.engine),
        seconds_per_epoch(unlabeled, settings.pretrain, shared.engine),
    )
