"""Classifiers and backbones from the weights files that runs leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from twoviews.errors import CheckpointError
from twoviews.model.resnet50 import Classifier
from twoviews.stages.folders import backbone_file
from twoviews.stages.setup import backbone_from
from twoviews.trainers.weights import load_backbone_weights, read_weights


def load_classifier(file: Path, class_names: tuple[str, ...] | None = None) -> tuple[Classifier, dict[str, Any]]:
    """A classifier in eval mode and what its file says about it.

    Args:
        class_names: the classes it must have, where the caller knows them.

    Raises:
        CheckpointError: damaged, not a classifier of ours, or one of other classes.
    """
    tensors, about = read_weights(file)
    if "fc.weight" not in tensors or "class_names" not in about:
        raise CheckpointError(f"{file} is not a classifier of twoviews; name a finetune or supervised run.")
    names = tuple(about["class_names"])
    if class_names is not None and names != class_names:
        raise CheckpointError(
            f"{file} knows the classes {', '.join(names[:10])}, the data has {', '.join(class_names[:10])}."
        )
    classifier = Classifier(backbone_from(about), len(names))
    load_backbone_weights(classifier.backbone, tensors, str(file))
    head = {"weight": tensors["fc.weight"], "bias": tensors.get("fc.bias")}
    if any(t is None or t.shape != getattr(classifier.head, name).shape for name, t in head.items()):
        raise CheckpointError(f"{file}: its head does not fit {len(names)} classes; name a run that twoviews finished.")
    classifier.head.load_state_dict(head)
    return classifier.eval(), about


def load_backbone(run: str | Path) -> nn.Module:
    """The pretrained backbone of a run, ready to give features: N×3×H×W normalised images → N×D.

    Args:
        run: a pretraining run, a study, or a weights file of twoviews.

    Returns:
        A timm model in eval mode; ``about`` on it is a dict with model, stem, image_size, mean and std.

    Raises:
        CheckpointError: no weights there, or damaged ones.
    """
    file = backbone_file(Path(run))
    tensors, about = read_weights(file)
    if "model" not in about:
        raise CheckpointError(f"{file} was not written by twoviews: create the model and load it yourself.")
    backbone = backbone_from(about)
    load_backbone_weights(backbone, tensors, str(file))
    backbone.about = about  # type: ignore[assignment]
    return backbone.eval()
