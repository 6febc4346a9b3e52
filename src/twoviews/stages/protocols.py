"""By which protocol a classifier was trained, in words: to be known before its accuracy is put beside others'."""

from __future__ import annotations

from twoviews.settings import FinetuneCommand, SupervisedCommand
from twoviews.stages.tasks import SELECT_FROM

_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW", "lars": "LARS"}


def classifier_protocol(settings: SupervisedCommand | FinetuneCommand, val: int) -> str:
    """What was trained, from which weights, how, and which epoch is the model.

    Args:
        settings: as the run has them, epochs included.
        val: number of validation images.
    """
    how = f"{settings.epochs:,} epoch{'' if settings.epochs == 1 else 's'} of {_OPTIMIZERS[settings.optimizer]}"
    decay = f"weight decay {settings.weight_decay:g}" if settings.weight_decay else "no weight decay"
    return f"{_trained(settings)}; {how}, {decay}; {_seen(settings)}; {epoch_words(val)}"


def epoch_words(val: int) -> str:
    """Which epoch is the model, with so many validation images."""
    if val < SELECT_FROM:
        return "the last epoch is the model"
    return "the epoch with the highest validation accuracy is the model, so that its validation accuracy is too high"


def _trained(settings: SupervisedCommand | FinetuneCommand) -> str:
    if settings.init is not None:
        start = "timm's pretrained weights" if settings.init == "timm" else "the weights named by --init"
    else:
        start = "pretrained weights" if isinstance(settings, FinetuneCommand) else "random weights"
    if not isinstance(settings, FinetuneCommand):
        return f"backbone and linear classifier, trained from {start}"
    layers = settings.head_layers
    backbone = f"backbone with {layers} {'layer' if layers == 1 else 'layers'} of the head" if layers else "backbone"
    classifier = "linear classifier that starts as the linear probe" if settings.probe_start else "linear classifier"
    if settings.freeze_backbone:
        return f"{classifier}, trained on the frozen {backbone} of {start}"
    return f"{backbone} and {classifier}, trained from {start}"


def _seen(settings: SupervisedCommand | FinetuneCommand) -> str:
    least, most = settings.crop_scale
    parts = [f"random crops of {least:g} to {most:g} of the area", "mirror images"]
    for name, chance in (("colour jitter", settings.jitter), ("grey", settings.grayscale), ("blur", settings.blur)):
        if chance:
            parts.append(f"{name} with probability {chance:g}")
    return ", ".join(parts)
