"""What one training step computes: a task's loss and scalars from a batch of uint8 images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twoviews.dataset.augmentations import Augmentation, normalise, views
from twoviews.loss_functions.info_nce import info_nce
from twoviews.settings import TrainingSettings
from twoviews.trainers.engine import Engine

Scalars = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """One process's part of a batch.

    ``images`` n×3×H×W uint8; ``rows`` (n,) identities; ``labels`` (n,) or None; ``epoch`` from 0.
    """

    images: Tensor
    rows: Tensor
    labels: Tensor | None
    epoch: int


Step = Callable[[nn.Module, Batch], tuple[Tensor, Scalars]]


def augmentation_of(settings: TrainingSettings, image_size: int) -> Augmentation:
    """The distribution of views that the settings describe."""
    s = settings.jitter_strength
    return Augmentation(
        view_size=settings.view_size or image_size,
        crop_scale=settings.crop_scale,
        jitter=settings.jitter,
        brightness=0.8 * s,
        contrast=0.8 * s,
        saturation=0.8 * s,
        hue=min(0.5, 0.2 * s),
        grayscale=settings.grayscale,
        blur=settings.blur,
        blur_sigma=settings.blur_sigma,
    )


def simclr_step(
    augmentation: Augmentation,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    temperature: float,
    seed: int,
    engine: Engine,
) -> Step:
    """SimCLR (Chen et al. 2020, algorithm 1): two views of each image in one 2n forward, InfoNCE over all processes."""

    def step(module: nn.Module, batch: Batch) -> tuple[Tensor, Scalars]:
        both = views(batch.images, batch.rows, augmentation, seed=seed, epoch=batch.epoch)
        x = normalise(both, mean, std).contiguous(memory_format=torch.channels_last)
        projections = module(x)
        loss, top1 = info_nce(
            projections,
            temperature,
            candidates=engine.gather(projections) if engine.world_size > 1 else None,
            first_row=engine.rank * len(projections),
        )
        return loss, {"loss": loss.detach(), "contrastive_top1": top1}

    return step


def classifier_step(
    augmentation: Augmentation,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    label_smoothing: float,
    seed: int,
) -> Step:
    """Cross-entropy on one lightly augmented view of each labelled image."""

    def step(module: nn.Module, batch: Batch) -> tuple[Tensor, Scalars]:
        assert batch.labels is not None
        view = views(batch.images, batch.rows, augmentation, seed=seed, epoch=batch.epoch, count=1)
        x = normalise(view, mean, std).contiguous(memory_format=torch.channels_last)
        logits = module(x).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
        top1 = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        return loss, {"train_loss": loss.detach(), "train_top1": top1}

    return step
