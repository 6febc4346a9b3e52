"""What models and backbones are called on the page, and which stage trains each."""

from __future__ import annotations

MODEL_NAMES = {
    "supervised": "Supervised baseline",
    "finetuned": "SimCLR, fine-tuned",
    "linear_probe": "SimCLR, linear probe",
    "sgd_probe": "SimCLR, SGD probe",
    "knn": "SimCLR, kNN",
    "random_init_linear_probe": "Untrained, linear probe",
    "imagenet_finetuned": "ImageNet weights, fine-tuned",
}

COMPARED = ("supervised", "finetuned")
"""The two models that a study is about, the baseline first."""

MODEL_FOLDERS = {
    "supervised": "supervised",
    "finetuned": "finetune",
    "imagenet_finetuned": "imagenet",
    "sgd_probe": "sgd_probe",
}
"""The stage that trains each classifier."""

# Where a column's head has to be short.
_SHORT_NAMES = {
    "supervised": "Baseline",
    "finetuned": "Fine-tuned",
    "linear_probe": "Linear probe",
    "sgd_probe": "SGD probe",
}

_BACKBONE_NAMES = {
    "pretrained": "SimCLR",
    "random_init": "Untrained",
    "supervised": "Baseline",
    "finetuned": "Fine-tuned",
    "imagenet_finetuned": "ImageNet weights, fine-tuned",
}


def backbone_name(name: str) -> str:
    """Whose features they are, as people call them."""
    return _BACKBONE_NAMES.get(name, name.replace("_", " "))


def short_name(name: str) -> str:
    """A model's name as the head of a narrow column."""
    return _SHORT_NAMES.get(name, model_name(name))


def model_name(name: str) -> str:
    """A model of ``results.json`` as people call it."""
    return MODEL_NAMES.get(name, name.replace("_", " "))
