"""How many epochs a study can afford: ``--minutes`` for all its stages together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twoviews.files import read_record, write_json
from twoviews.model.resnet50 import Classifier, freeze
from twoviews.settings import ClassifierSettings, FinetuneSettings, StudyCommand
from twoviews.stages.backbones import new_backbone
from twoviews.stages.comparison import sgd_probe
from twoviews.stages.job_shares import at_full_speed, threads_of_part, two_at_once_pay
from twoviews.stages.plan import PLAN_ADVICE, with_epochs
from twoviews.stages.setup import Shared
from twoviews.stages.study_layout import Layout
from twoviews.stages.study_parts import parts_of
from twoviews.stages.tasks import classifier_task, simclr_model, simclr_task
from twoviews.stages.tune import trial_epochs
from twoviews.trainers.device import cpu_threads
from twoviews.trainers.estimate import seconds_per_epoch
from twoviews.trainers.progress import duration, say
from twoviews.trainers.run_folder import RunFolder

RESERVE = 0.1  # of the time, for feature check, test and report
LABELLED_SHARE = 0.5  # of the time, at most, for baseline and fine-tuning together


@dataclass(frozen=True)
class EpochSeconds:
    """How long an epoch takes here.

    Attributes:
        pretrain: over the unlabeled images.
        labelled: stage → over all labelled training images.
    """

    pretrain: float
    labelled: dict[str, float]


def fitted(settings: StudyCommand, plan: Layout, run: RunFolder) -> StudyCommand:
    """The study's settings with epochs that fit ``--minutes``, as planned at its first start; prints the estimate.

    Baseline and fine-tuning keep their epochs if they fit in ``LABELLED_SHARE`` of the time, and always shrink
    alike; pretraining takes the rest, but no more than its recipe asks for.
    """
    path = run.path / "plan.json"
    if path.exists():
        return _apply(settings, read_record(path, PLAN_ADVICE)["epochs"])
    shared = plan.mains[0].shared
    measured = _measure(settings, shared)
    unlabeled = measured.pretrain * sum(one.pretrains for one in plan.all)
    epochs = {
        "supervised": settings.supervised.epochs,
        "finetune": settings.finetune.epochs,
        "pretrain": settings.pretrain.epochs,
    }
    if settings.minutes is not None:
        seconds = settings.minutes * 60 * (1 - RESERVE)
        wanted = _labelled_seconds(settings, plan, epochs, measured)
        scale = min(1.0, LABELLED_SHARE * seconds / wanted)
        for stage in ("supervised", "finetune"):
            epochs[stage] = max(1, int(epochs[stage] * scale))
        rest = seconds - _labelled_seconds(settings, plan, epochs, measured)
        epochs["pretrain"] = max(1, min(epochs["pretrain"], int(rest / unlabeled)))
    total = _labelled_seconds(settings, plan, epochs, measured) + unlabeled * epochs["pretrain"]
    limit = "" if settings.minutes is None else f", fitted to {settings.minutes:g} minutes"
    at_once = f", up to {settings.jobs} at once" if settings.jobs > 1 else ""
    times = f"{len(plan.all)} times{at_once}: " if len(plan.all) > 1 else ""
    say(
        f"study: about {duration(total)} for the training alone{limit}: {times}{epochs['supervised']} epochs of "
        f"the baseline, {epochs['pretrain']} of SimCLR, {epochs['finetune']} of fine-tuning"
    )
    if len(plan.all) > 1 and two_at_once_pay(settings, shared.engine):
        say("study: with --jobs 2 two of these trainings run at once, in less time (docs/runs.md)")
    if settings.minutes is not None and shared.engine.is_first:
        write_json(path, {"epochs": epochs, "estimated_seconds": total / (1 - RESERVE)})
    return _apply(settings, epochs)


def _labelled_seconds(settings: StudyCommand, plan: Layout, epochs: dict[str, int], measured: EpochSeconds) -> float:
    """Of every comparison's training on labelled images, and of the trials of tuning."""
    now = _apply(settings, epochs)
    shared = plan.mains[0].shared
    each = measured.labelled
    parts = [sum(passes * each[stage] for stage, passes in part.passes.items()) for part in parts_of(now, plan)]
    # Where parts are trained at once, the longest takes its time all the same.
    at_once = at_full_speed(settings, shared.engine)
    seconds = max(sum(parts) / at_once, *parts)
    trials = sum(count * each[kind] for kind, count in trial_epochs(now, shared).items())
    rounds = math.ceil(settings.tune / at_once)
    return seconds + trials * rounds / max(settings.tune, 1)


def _apply(settings: StudyCommand, epochs: dict[str, int]) -> StudyCommand:
    return settings.model_copy(
        update={stage: with_epochs(getattr(settings, stage), count) for stage, count in epochs.items()}
    )


def _measure(settings: StudyCommand, shared: Shared) -> EpochSeconds:
    """Measured on a few steps of each kind of training."""
    seed, engine = settings.seed, shared.engine

    def labelled(part: ClassifierSettings) -> float:
        backbone = new_backbone(settings, shared.image_size, seed=seed)
        if isinstance(part, FinetuneSettings) and part.freeze_backbone:
            freeze(backbone)
        classifier = Classifier(backbone, len(shared.splits.class_names))
        return seconds_per_epoch(classifier_task("a try", part, shared, classifier, seed=seed), part, engine)

    model = simclr_model(settings.pretrain, new_backbone(settings, shared.image_size, seed=seed))
    pretrain = seconds_per_epoch(simclr_task(settings.pretrain, shared, model, seed=seed), settings.pretrain, engine)
    with cpu_threads(threads_of_part(settings, engine)):
        times = {"supervised": labelled(settings.supervised), "finetune": labelled(settings.finetune)}
        if settings.sgd_probe:
            times["sgd_probe"] = labelled(sgd_probe(settings))
    return EpochSeconds(pretrain, {**times, "imagenet": times["finetune"]})
