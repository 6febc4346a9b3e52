"""Classifiers and backbones from the weights files that runs leave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from twoviews.errors import CheckpointError
from twoviews.evaluation.probes import LinearProbe
from twoviews.model.projection_head import first_layers, layout, projection_head, stacked_layers
from twoviews.model.resnet50 import Classifier, feature_width
from twoviews.stages.backbones import backbone_from
from twoviews.stages.folders import backbone_file, checked_backbone
from twoviews.stages.probe_files import as_linear_layer, load_probe, probe_class_names
from twoviews.trainers.weights import load_backbone_weights, read_weights

if TYPE_CHECKING:

    class Backbone(nn.Module):
        """A timm model, as ``load_backbone`` gives it: what a type checker can't see of it."""

        about: dict[str, Any]
        num_features: int
        pretrained_cfg: dict[str, Any]


def load_classifier(file: Path, class_names: tuple[str, ...] | None = None) -> tuple[Classifier, dict[str, Any]]:
    """A classifier in eval mode and what its file says about it.

    Args:
        class_names: the classes it must have, where the caller knows them.

    Raises:
        CheckpointError: damaged, not a classifier of ours, or one of other classes.
    """
    tensors, about = read_weights(file)
    head = {name.removeprefix("fc."): tensor for name, tensor in tensors.items() if name.startswith("fc.")}
    if not head or "class_names" not in about:
        raise CheckpointError(f"{file} is not a classifier of twoviews; name a finetune or supervised run.")
    names = tuple(about["class_names"])
    if class_names is not None and names != class_names:
        raise CheckpointError(
            f"{file} knows the classes {', '.join(names[:10])}, the data has {', '.join(class_names[:10])}."
        )
    backbone = backbone_from(about)
    kept = stacked_layers(feature_width(backbone), **about["head_layers"]) if "head_layers" in about else None
    classifier = Classifier(backbone, len(names), kept)
    load_backbone_weights(backbone, tensors, str(file))
    try:
        classifier.head.load_state_dict(head)
    except RuntimeError as error:  # torch's says it in many lines
        raise CheckpointError(
            f"{file}: its head does not fit {len(names)} classes; name a run that twoviews finished."
        ) from error
    return classifier.eval(), about


def put_probe(probe: LinearProbe, classifier: Classifier) -> None:
    """Make a linear probe the head's linear layer, its standardisation within: both give the same logits."""
    weight, bias = as_linear_layer(probe)
    with torch.no_grad():
        classifier.linear.weight.copy_(torch.from_numpy(weight))
        classifier.linear.bias.copy_(torch.from_numpy(bias))


def load_probe_classifier(file: Path) -> tuple[Classifier, dict[str, Any]]:
    """A feature check's linear probe on its frozen backbone, as ``load_classifier`` gives a trained one.

    Args:
        file: ``linear_probe.safetensors`` in the folder of the check.

    Raises:
        CheckpointError: the backbone is not there or not ours, or the probe does not say its classes.
    """
    names, weights = probe_class_names(file), checked_backbone(file.parent)
    if not names:
        raise CheckpointError(f"{file} is of an older version, without its classes: run `twoviews features --new`.")
    backbone, about = _described_backbone(weights, "fine-tune from it, and name that run")
    classifier = Classifier(backbone, len(names))
    put_probe(load_probe(file), classifier)
    return classifier.eval(), {**about, "class_names": names}


def classifier_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A classifier's weights under timm's names: the backbone's, and the head as ``fc``.

    A head that keeps layers of the projection head is ``fc.projection`` and ``fc.linear``; what these layers are says
    ``about_head``.
    """
    return {
        name.removeprefix("backbone.") if name.startswith("backbone.") else name.replace("head.", "fc.", 1): tensor
        for name, tensor in module.state_dict().items()
    }


def about_head(classifier: Classifier) -> dict[str, Any]:
    """What a weights file says of a classifier's kept projection layers; {} where it has none."""
    kept = classifier.projection
    return {} if kept is None else {"head_layers": layout(kept)}


def load_head_layers(init: str, backbone: nn.Module, layers: int, flag: str = "--head-layers") -> nn.Sequential:
    """The first layers of the projection head that was trained with a backbone (SimCLR v2: Chen et al. 2020b).

    Args:
        init: the backbone's weights file, with the projection head's beside it; or ``timm``.
        layers: how many to keep; the head's last one has no ReLU.
        flag: how to type the setting.

    Raises:
        CheckpointError: there is no projection head, or none with so many layers that fits the backbone.
    """
    flag = f"{flag} {layers}"
    file = Path(init).with_name("projection_head.safetensors")
    if init == "timm":
        raise CheckpointError(f"{flag}: timm's weights have no projection head; leave it out.")
    if not file.is_file():
        raise CheckpointError(
            f"{flag}: there is no {file.name} beside {init}; name a finished pretraining run of twoviews, "
            "or leave it out."
        )
    tensors, about = read_weights(file)
    try:
        head = projection_head(feature_width(backbone), about["hidden"], about["width"], about["layers"])
        head.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{flag}: {file} is not the projection head of this backbone ({feature_width(backbone)} features); "
            "name a pretraining run that twoviews finished."
        ) from error
    try:
        return first_layers(head, layers)
    except ValueError as error:
        raise CheckpointError(f"{flag}: {error} ({file}).") from error


def load_backbone(run: str | Path) -> Backbone:
    """The pretrained backbone of a run, ready to give features: N×3×H×W normalised RGB images → N×D.

    Images are in [0, 1] before each channel's mean is taken off and its std divided by. timm's own way makes them of
    a PIL image in RGB: ``timm.data.create_transform(**timm.data.resolve_model_data_config(backbone))``.

    Args:
        run: a pretraining run, a study, or a weights file of twoviews (``models/classifier.safetensors`` too, whose
            backbone is the fine-tuned or supervised one).

    Returns:
        A timm model in eval mode, in float32 on the CPU, with gradients on. ``about`` on it is a dict with model,
        stem, image_size (pixels), mean, std (three each, in units of [0, 1]) and data; ``pretrained_cfg`` says the
        same to timm.

    Raises:
        CheckpointError: no weights there, or damaged ones.
        SettingsError: weights of an architecture of yours that is not registered with timm in this process.
    """
    backbone, about = _described_backbone(backbone_file(Path(run)), "create the model and load it yourself")
    backbone.about = about  # type: ignore[assignment]
    # timm's would be those of ImageNet, whatever the weights were trained on.
    backbone.pretrained_cfg = {  # type: ignore[assignment]
        "architecture": about["model"],
        "input_size": (3, about["image_size"], about["image_size"]),
        "mean": tuple(about["mean"]),
        "std": tuple(about["std"]),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    return cast("Backbone", backbone.eval())


def _described_backbone(file: Path, otherwise: str) -> tuple[nn.Module, dict[str, Any]]:
    """A backbone with its weights, and what the file says of it; ``otherwise``: what to do with one that says nothing.

    Raises:
        CheckpointError: damaged, or not written by twoviews, so that model and normalisation are not known.
    """
    tensors, about = read_weights(file)
    if "model" not in about:
        raise CheckpointError(f"{file} was not written by twoviews: {otherwise}.")
    backbone = backbone_from(about)
    load_backbone_weights(backbone, tensors, str(file))
    return backbone, about
