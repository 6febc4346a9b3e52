"""Training classifiers: the supervised baseline and fine-tuning, which differ in where the backbone comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twoviews.evaluation.classification import confusion_counts
from twoviews.files import read_json_lines
from twoviews.model.resnet50 import Classifier, freeze
from twoviews.report.confusion.figure import confusion_matrix
from twoviews.report.figure_data import CLASSIFIER_KEYS, curve_data, matrix_data
from twoviews.report.figure_files import write_figure
from twoviews.report.figures import classifier_curves
from twoviews.settings import FinetuneCommand, SupervisedCommand
from twoviews.stages.backbones import about_model, new_backbone, say_model
from twoviews.stages.folders import backbone_file
from twoviews.stages.in_run_folder import in_run_folder
from twoviews.stages.models import about_head, classifier_tensors, load_head_layers
from twoviews.stages.plan import begin_from_fork, plan
from twoviews.stages.probe_start import start_from_probe
from twoviews.stages.protocols import classifier_protocol
from twoviews.stages.setup import Shared, prepare_alone
from twoviews.stages.tasks import SELECT_FROM, classifier_task
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.task import Task, images_seen
from twoviews.trainers.train import train
from twoviews.trainers.validate import forward_all, validation_scores
from twoviews.trainers.weights import save_weights


def run_supervised(settings: SupervisedCommand, shared: Shared | None = None) -> Path:
    """Train the baseline from random weights on the labelled images; returns its run folder."""
    return _run("supervised", supervised_task, settings, shared)


def supervised_task(settings: SupervisedCommand, shared: Shared) -> Task:
    """The baseline with the weights that a run of these settings begins with."""
    backbone = new_backbone(settings, shared.image_size, seed=settings.seed, init=settings.init)
    classifier = Classifier(backbone, _classes(shared))
    return classifier_task("supervised", settings, shared, classifier, seed=settings.seed)


def run_finetune(settings: FinetuneCommand, shared: Shared | None = None) -> Path:
    """Fine-tune pretrained weights on the labelled images; returns the run folder."""
    return _run("finetune", finetune_task, settings, shared)


def finetune_task(settings: FinetuneCommand, shared: Shared) -> Task:
    """Fine-tuning with the weights that a run of these settings begins with."""
    init = settings.init or str(backbone_file(settings.run))
    backbone = new_backbone(settings, shared.image_size, seed=settings.seed, init=init)
    layers, flag = settings.head_layers, settings.flag("head_layers")
    kept = load_head_layers(init, backbone, layers, flag) if layers else None
    classifier = Classifier(backbone, _classes(shared), kept)
    if settings.probe_start:
        start_from_probe(classifier, shared, seed=settings.seed)
    if settings.freeze_backbone:
        freeze(backbone)
        if kept is not None:  # they come pretrained, as the backbone does: what is trained is a linear layer
            freeze(kept)
    return classifier_task(
        "finetune", settings, shared, classifier, seed=settings.seed, backbone_lr_scale=settings.backbone_lr_scale
    )


def _run(name: str, task: Callable[[Any, Shared], Task], settings: Any, shared: Shared | None) -> Path:
    within = shared or prepare_alone(settings)
    return in_run_folder(
        name, settings, within, lambda run: _train_classifier(task(settings, within), settings, within, run)
    )


def _classes(shared: Shared) -> int:
    shared.require_labels()
    return len(shared.splits.class_names)


def _train_classifier(task: Task, settings: Any, shared: Shared, run: RunFolder) -> None:
    engine = shared.engine
    say_model(task.name, settings, task.module, shared)
    begin_from_fork(task, run)
    settings = plan(task, settings, shared, run)
    train(task, settings, engine, run, seed=settings.seed)
    if engine.is_first:
        _finish(settings, shared, run, task)


def _finish(settings: Any, shared: Shared, run: RunFolder, task: Task) -> None:
    """Weights, pictures and results of a trained classifier."""
    splits, module = shared.splits, task.module
    assert isinstance(module, Classifier)
    names = list(splits.class_names)
    about = about_model(settings, shared, class_names=names, **about_head(module))
    save_weights(run.models / "classifier.safetensors", classifier_tensors(module), about)
    rows = read_json_lines(run.metrics)
    write_figure(classifier_curves(rows), curve_data(rows, CLASSIFIER_KEYS), run.logs / "curves")
    logits = forward_all(module, splits.val, shared.normalisation, shared.engine)
    assert splits.val.labels is not None
    counts = confusion_counts(splits.val.labels, logits.argmax(axis=1), len(names))
    matrix = confusion_matrix(counts, names, "Validation")
    write_figure(matrix, matrix_data(counts, names), run.logs / "confusion_matrix_validation")
    val = validation_scores(logits, splits.val.labels)
    seconds = run.seconds()
    run.finish(
        {
            "protocol": classifier_protocol(settings, len(splits.val)),
            **val,
            "epochs": settings.epochs,
            "model_of_epoch": next(
                (r["epoch"] for r in rows if len(splits.val) >= SELECT_FROM and r["val_top1"] == val["val_top1"]),
                settings.epochs,
            ),
            "seconds": seconds,
            "images_per_second": images_seen(task, settings, shared.engine) / max(seconds, 1e-9),
        }
    )
