"""What one training step computes: a task's loss and scalars from a batch of uint8 images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from twoviews.dataset.augmentations import Augmentation, views
from twoviews.errors import SettingsError
from twoviews.loss_functions.info_nce import info_nce
from twoviews.settings import TrainingSettings
from twoviews.settings.growth import grown_size
from twoviews.trainers.engine import Engine
from twoviews.trainers.validate import Normalisation

Scalars = dict[str, Tensor]
AugmentationAt = Callable[[float], Augmentation]  # by progress


@dataclass(frozen=True)
class Batch:
    """One process's part of a batch.

    ``images`` n×3×H×W uint8; ``rows`` (n,) identities; ``labels`` (n,) or None; ``epoch`` from 0 (in a recorded step,
    0-dimensional int64 on the device); ``progress`` from 0 in the first epoch to 1 in the last.
    """

    images: Tensor
    rows: Tensor
    labels: Tensor | None
    epoch: int | Tensor
    progress: float


Step = Callable[[nn.Module, Batch], tuple[Tensor, Scalars]]


def view_size_at(settings: TrainingSettings, image_size: int, progress: float) -> int:
    """Height and width of views: from ``first_view_size`` to ``view_size`` as ``progress`` goes from 0 to 1.

    Training on small images first and larger ones later is progressive resizing (as in Tan and Le 2021,
    "EfficientNetV2", section 4): a step's cost grows with the square of the size.

    Raises:
        SettingsError: views would shrink.
    """
    last = settings.view_size or image_size
    first = settings.first_view_size or last
    if first > last:
        flag = settings.flag("first_view_size")
        raise SettingsError(f"{flag} {first} is above the {last} pixels that views grow to; lower it.")
    return grown_size(first, last, progress)


def augmentation_of(settings: TrainingSettings, image_size: int, progress: float = 1.0) -> Augmentation:
    """The distribution of views that the settings describe, at this point of the training (1: its end)."""
    s = settings.jitter_strength
    return Augmentation(
        view_size=view_size_at(settings, image_size, progress),
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


def _views(
    batch: Batch, augmentation_at: AugmentationAt, normalisation: Normalisation, seed: int, count: int = 2
) -> Tensor:
    """What the network sees of a batch."""
    return views(
        batch.images,
        batch.rows,
        augmentation_at(batch.progress),
        seed=seed,
        epoch=batch.epoch,
        count=count,
        mean=normalisation.mean,
        std=normalisation.std,
    )


@dataclass(frozen=True)
class SimCLRStep:
    """SimCLR (Chen et al. 2020, algorithm 1): two views of each image in one 2n forward, InfoNCE over all processes.

    Attributes:
        augmentation_at: the distribution of views by progress.
        normalisation: of the data set.
        temperature: of the loss.
        seed: the views follow from it.
        engine: gathers the other processes' projections.
        decoupled: DCL in place of InfoNCE.
    """

    augmentation_at: AugmentationAt
    normalisation: Normalisation
    temperature: float
    seed: int
    engine: Engine
    decoupled: bool = False

    def __call__(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Scalars]:
        return self.contrast(self.project(module, batch))

    def project(self, module: nn.Module, batch: Batch) -> Tensor:
        """Projections z of both views of each image: 2n×D, first views then second views."""
        projections: Tensor = module(_views(batch, self.augmentation_at, self.normalisation, self.seed))
        return projections

    def contrast(self, projections: Tensor) -> tuple[Tensor, Scalars]:
        """The loss of this process's projections (2n×D) among those of all."""
        loss, top1 = info_nce(
            projections,
            self.temperature,
            candidates=self.engine.gather(projections) if self.engine.world_size > 1 else None,
            first_row=self.engine.rank * len(projections),
            decoupled=self.decoupled,
        )
        return loss, {"loss": loss.detach(), "contrastive_top1": top1}


@dataclass(frozen=True)
class ClassifierStep:
    """Cross-entropy on one lightly augmented view of each labelled image.

    Attributes:
        augmentation_at: the distribution of views by progress.
        normalisation: of the data set.
        label_smoothing: share of the target spread over all classes.
        seed: the views follow from it.
    """

    augmentation_at: AugmentationAt
    normalisation: Normalisation
    label_smoothing: float
    seed: int

    def __call__(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Scalars]:
        assert batch.labels is not None
        logits = module(_views(batch, self.augmentation_at, self.normalisation, self.seed, count=1)).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        top1 = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        return loss, {"train_loss": loss.detach(), "train_top1": top1}
