"""How many epochs a study can afford: ``--minutes`` for all its stages together."""

from __future__ import annotations

from dataclasses import dataclass

from twoviews.files import read_record, write_json
from twoviews.model.resnet50 import Classifier, freeze
from twoviews.settings import ClassifierSettings, FinetuneSettings, StudyCommand
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


@dataclass(frozen=True)
class EpochSeconds:
    """How long an epoch takes here: of all labelled training images, and of the unlabeled ones."""

    supervised: float
    finetune: float
    sgd_probe: float
    pretrain: float


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
    times = f"{len(plan.all)} times: " if len(plan.all) > 1 else ""
    say(
        f"study: about {duration(total)} for the training alone{limit}: {times}{epochs['supervised']} epochs of "
        f"the baseline, {epochs['pretrain']} of SimCLR, {epochs['finetune']} of fine-tuning"
    )
    if settings.minutes is not None and shared.engine.is_first:
        write_json(path, {"epochs": epochs, "estimated_seconds": total / (1 - RESERVE)})
    return _apply(settings, epochs)


def _labelled_seconds(settings: StudyCommand, plan: Layout, epochs: dict[str, int], measured: EpochSeconds) -> float:
    """Of every comparison's training on labelled images, and of the trials of tuning."""
    now = _apply(settings, epochs)
    seconds = 0.0
    for one in plan.all:
        times_tuned = 2 if settings.with_imagenet and one.whole else 1
        seconds += one.share * measured.supervised * with_share(now.supervised, one.share).epochs
        seconds += one.share * measured.finetune * finetuning(now, one.share).epochs * times_tuned
        if settings.sgd_probe:
            seconds += one.share * measured.sgd_probe * with_share(sgd_probe(now), one.share).epochs
    trials = trial_epochs(now, plan.mains[0].shared)
    return seconds + trials["supervised"] * measured.supervised + trials["finetune"] * measured.finetune


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
    return EpochSeconds(
        supervised=labelled(settings.supervised),
        finetune=labelled(settings.finetune),
        sgd_probe=labelled(sgd_probe(settings)) if settings.sgd_probe else 0.0,
        pretrain=seconds_per_epoch(simclr_task(settings.pretrain, shared, model, seed=seed), settings.pretrain, engine),
    )
