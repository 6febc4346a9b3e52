"""Try settings of the sample's recipe on images that are not the sample's test set.

    python tools/make_sample.py FOLDER --development dev.npz
    python benchmarks/sample_recipe.py dev.npz OUT STAGE [key=value ...]

STAGE is supervised, pretrain, or what takes ``run=OUT/pretrain-...``: finetune, and features, whose linear probe is
scored. The recipe's settings hold but for the keys given; with fewer labels (``labels_per_class=10``) name the epochs
too, which a study would make more. Prints one JSON line: settings, accuracy on the 5,000 development images, seconds,
machine. The development draw has the sample's own unlabeled and train images; its test images are from the rest of
CIFAR-10's training set.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from machine import machine

from twoviews.dataset import sources
from twoviews.dataset.sample import load_sample
from twoviews.evaluation.knn import choose_knn
from twoviews.evaluation.probes import choose_linear_probe
from twoviews.recipes import recipe_settings
from twoviews.settings import FeaturesCommand, FinetuneCommand, PretrainCommand, SupervisedCommand
from twoviews.stages.classify import run_finetune, run_supervised
from twoviews.stages.features import extract, run_features
from twoviews.stages.folders import PROBE
from twoviews.stages.models import load_backbone, load_classifier, load_probe_classifier
from twoviews.stages.pretrain import run_pretrain
from twoviews.stages.setup import Shared, load_splits
from twoviews.trainers.engine import Engine
from twoviews.trainers.test import head_probabilities

KINDS: dict[str, Any] = {
    "supervised": (SupervisedCommand, run_supervised),
    "pretrain": (PretrainCommand, run_pretrain),
    "finetune": (FinetuneCommand, run_finetune),
    "features": (FeaturesCommand, run_features),
}


def main() -> None:
    dev, out, stage = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in sys.argv[4:])}
    kind, work = KINDS[stage]
    values = {k: v for k, v in recipe_settings("sample", stage).items() if k in kind.model_fields}
    name = "-".join([stage, *(f"{k}{Path(str(v)).name}" for k, v in changes.items())]).replace(" ", "")
    settings = kind.model_validate({**values, "data": "sample", "out": out / name, **changes})
    sources.load_sample = partial(load_sample, dev)  # type: ignore[attr-defined]
    started = time.monotonic()
    shared = Shared(Engine(settings), load_splits(settings, seed=settings.seed))
    run = work(settings, shared)
    seconds = time.monotonic() - started
    line = {"stage": stage, **changes, **score(stage, run, shared), "seconds": round(seconds)}
    print(json.dumps({**line, **machine("timm")}), flush=True)


def score(stage: str, run: Path, shared: Shared) -> dict[str, float]:
    """Accuracy on the development images."""
    test = shared.splits.open_test()
    images, labels = test.without_labels(), test.labels
    assert labels is not None
    if stage != "pretrain":
        if stage == "features":
            classifier, _ = load_probe_classifier(run / PROBE)
        else:
            classifier, _ = load_classifier(run / "models/classifier.safetensors")
        shared.engine.to_device(classifier)
        predicted = head_probabilities(classifier, extract(classifier.backbone, images, shared)).argmax(axis=1)
        return {"top1": float(np.mean(predicted == labels))}
    backbone = shared.engine.to_device(load_backbone(run))
    train, classes = shared.splits.train, len(shared.splits.class_names)
    assert train.labels is not None
    known, asked = extract(backbone, train, shared), extract(backbone, images, shared)
    probe, _ = choose_linear_probe(known, train.labels, classes)
    knn, _ = choose_knn(known, train.labels, classes)
    return {
        "linear_probe": float(np.mean(probe.predict(asked) == labels)),
        "knn": float(np.mean(knn.predict(asked) == labels)),
    }


if __name__ == "__main__":
    main()
