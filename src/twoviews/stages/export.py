"""Weights for others: the plain state dict with timm's key names, and beside it what is needed to use them."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from twoviews.errors import CheckpointError
from twoviews.files import write_bytes, write_json
from twoviews.settings import ExportCommand
from twoviews.stages.folders import newest_pretraining, stage_places
from twoviews.trainers.progress import say
from twoviews.trainers.weights import read_weights


def run_export(settings: ExportCommand) -> list[Path]:
    """Write backbone.pth and classifier.pth from what RUN holds, each with a .json; returns the .pth files.

    The .json is what the weights were trained with: model, stem, image_size, mean, std, ..., the classes in order.

    Raises:
        CheckpointError: RUN holds no weights.
    """
    run = settings.run or newest_pretraining()
    sources = {
        name: place / f"models/{name}.safetensors"
        for name, stage in (("backbone", "pretrain"), ("classifier", "finetune"))
        for place in reversed(stage_places(run, stage))
        if (place / f"models/{name}.safetensors").exists()
    }
    if not sources:
        raise CheckpointError(f"{run} holds no weights in models/; name a finished run or study.")
    written = []
    for name, source in sources.items():
        tensors, about = read_weights(source)
        stream = io.BytesIO()
        torch.save(tensors, stream)
        target = (settings.out or source.parent) / f"{name}.pth"
        write_bytes(target, stream.getvalue())
        write_json(target.with_suffix(".json"), about)
        classes = f", num_classes={len(about['class_names'])}" if "class_names" in about else ", num_classes=0"
        kept = "; its head keeps projection layers, which timm has not" if "head_layers" in about else ""
        say(f"export: {target} ({about.get('model')}, {about.get('stem')} stem{classes}{kept})")
        written.append(target)
    return written
