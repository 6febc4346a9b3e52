"""SimCLR pretraining on the unlabeled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from twoviews.dataset.augmentations import Augmentation, one_view
from twoviews.dataset.images import ImageSet, Indices
from twoviews.evaluation.contrastive_quality import (
    alignment,
    collapse_warning,
    effective_rank,
    feature_std,
    uniformity,
)
from twoviews.evaluation.knn import choose_knn
from twoviews.evaluation.learning_curve import learning_curve
from twoviews.files import read_json_lines
from twoviews.model.projection_head import SimCLR
from twoviews.model.resnet50 import feature_width
from twoviews.report.figure_data import PRETRAINING_KEYS, curve_data
from twoviews.report.figure_files import write_figure
from twoviews.report.figures import pretraining_curves
from twoviews.settings import PretrainCommand
from twoviews.spacing import evenly_spaced, evenly_spaced_parts
from twoviews.stages.backbones import about_model, new_backbone, say_model
from twoviews.stages.in_run_folder import in_run_folder
from twoviews.stages.plan import begin_from_fork, plan
from twoviews.stages.setup import Shared, prepare_alone
from twoviews.stages.tasks import simclr_model, simclr_task
from twoviews.stages.view_files import write_views
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.steps import augmentation_of
from twoviews.trainers.task import Task, images_seen
from twoviews.trainers.train import train
from twoviews.trainers.validate import forward_all
from twoviews.trainers.weights import save_weights

MONITOR_K, MONITOR_TEMPERATURE = 20, 0.1  # fixed: a monitor compares epochs, it tunes nothing
MONITOR_IMAGES = 5_000  # labelled images that the monitor classifies, each by the others
MONITOR_PAIRS = 512  # unlabeled images whose two views are compared
MONITOR_EPOCH = 2**31  # the epoch number that the monitor's views are drawn with: none that trains


def run_pretrain(settings: PretrainCommand, shared: Shared | None = None) -> Path:
    """Train backbone and projection head with InfoNCE; returns the run folder."""
    shared = shared or prepare_alone(settings, require_labels=False)
    return in_run_folder("pretrain", settings, shared, lambda run: _pretrain(settings, shared, run))


def pretrain_task(settings: PretrainCommand, shared: Shared) -> Task:
    """SimCLR with the weights that a run of these settings begins with; ``evaluate`` is for the caller to set."""
    backbone = new_backbone(settings, shared.image_size, seed=settings.seed, init=settings.init)
    return simclr_task(settings, shared, simclr_model(settings, backbone), seed=settings.seed)


def _pretrain(settings: PretrainCommand, shared: Shared, run: RunFolder) -> None:
    engine, splits = shared.engine, shared.splits
    task = pretrain_task(settings, shared)
    model = task.module
    assert isinstance(model, SimCLR)
    say_model("pretrain", settings, model, shared)
    begin_from_fork(task, run)
    augmentation = augmentation_of(settings, shared.image_size)
    fitted: PretrainCommand = plan(task, settings, shared, run)
    labelled = _labelled(shared)
    task.evaluate = _monitor(fitted, shared, model.backbone, augmentation, labelled)
    if engine.is_first:
        write_views(run, splits.unlabeled, fitted)
    train(task, fitted, engine, run, seed=settings.seed)
    if engine.is_first:
        _finish(fitted, shared, run, model, task, images=sum(map(len, labelled)))


def _labelled(shared: Shared) -> list[ImageSet]:
    """What the monitor classifies, each image by all the others: training and validation images, evenly spaced.

    Pretraining reads no label, so that none of them has to be kept back; and in accuracy on validation images alone,
    often a hundred, a curve is lost in its scatter.
    """
    if not shared.can_train:
        return []
    parts = shared.splits.train, shared.splits.val
    taken = evenly_spaced_parts([len(part) for part in parts], MONITOR_IMAGES)
    return [part.take(positions) for part, positions in zip(parts, taken, strict=True) if len(positions)]


def _labels_of(images: ImageSet) -> Indices:
    assert images.labels is not None
    return images.labels


def _monitor(
    settings: PretrainCommand,
    shared: Shared,
    backbone: nn.Module,
    augmentation: Augmentation,
    labelled: Sequence[ImageSet],
) -> Callable[[int], dict[str, float]]:
    """Every few epochs: leave-one-out kNN, alignment and uniformity, effective rank; a warning on collapse."""
    splits, engine, norm = shared.splits, shared.engine, shared.normalisation
    labels = np.concatenate([_labels_of(images) for images in labelled]) if labelled else np.empty(0, np.int64)
    pairs = splits.unlabeled.take(evenly_spaced(len(splits.unlabeled), MONITOR_PAIRS))
    warned = False

    def look(epoch: int) -> dict[str, float]:
        nonlocal warned
        if epoch % settings.monitor_epochs and epoch != settings.epochs:
            return {}
        figures: dict[str, float] = {}
        if labelled:
            features = np.concatenate([forward_all(backbone, images, norm, engine) for images in labelled])
            _, tried = choose_knn(features, labels, len(splits.class_names), [MONITOR_K], [MONITOR_TEMPERATURE])
            figures["knn_top1"] = tried[0]["cv_top1"]
        first, second = (
            _features_of_view(view, backbone, pairs, augmentation, settings.seed, shared) for view in (0, 1)
        )
        rank = effective_rank(first)
        figures |= {
            "alignment": alignment(first, second),
            "uniformity": uniformity(first),
            "effective_rank": rank,
        }
        warning = collapse_warning(rank, feature_std(first), first.shape[1], images=len(first))
        if warning is not None and not warned:
            say(f"warning: {warning}")
        warned = warned or warning is not None
        return figures

    return look


def _features_of_view(
    view: int, backbone: nn.Module, images: ImageSet, augmentation: Augmentation, seed: int, shared: Shared
) -> np.ndarray:
    """Features of one view of each image, the same view at every look."""

    def made(pixels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return one_view(pixels, rows, augmentation, seed=seed, epoch=MONITOR_EPOCH, view=view)

    return forward_all(backbone, images, shared.normalisation, shared.engine, made)


def _finish(
    settings: PretrainCommand, shared: Shared, run: RunFolder, model: SimCLR, task: Task, *, images: int
) -> None:
    """Weights, curves and results; ``images``: how many the monitor classified."""
    about = about_model(settings, shared)
    save_weights(run.models / "backbone.safetensors", model.backbone.state_dict(), about)
    head = {
        "layers": settings.projection_layers,
        "hidden": settings.projection_hidden or feature_width(model.backbone),
        "width": settings.projection_width,
        "temperature": settings.temperature,
    }
    save_weights(run.models / "projection_head.safetensors", model.projection_head.state_dict(), {**about, **head})
    rows = read_json_lines(run.metrics)
    write_figure(pretraining_curves(rows), curve_data(rows, PRETRAINING_KEYS), run.logs / "curves")
    seconds = run.seconds()
    run.finish(
        {
            **{k: v for k, v in rows[-1].items() if k not in ("epoch", "step", "lr")},
            "epochs": settings.epochs,
            "seconds": seconds,
            "images_per_second": images_seen(task, settings, shared.engine) / max(seconds, 1e-9),
            "learning_curve": learning_curve(rows, images, settings.seed),
        }
    )
