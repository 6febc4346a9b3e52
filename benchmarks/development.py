"""Trials of the sample's recipe on images that are not the sample's test set, for the scripts that choose settings.

The development draw (``tools/make_sample.py FOLDER --development dev.npz``) has the sample's own unlabeled and train
images; its 5,000 test images are from the rest of CIFAR-10's training set.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from twoviews.dataset import sources
from twoviews.dataset.sample import load_sample
from twoviews.evaluation.knn import choose_knn
from twoviews.evaluation.probes import choose_linear_probe
from twoviews.files import write_bytes
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

STAGES: dict[str, Any] = {
    "supervised": (SupervisedCommand, run_supervised),
    "pretrain": (PretrainCommand, run_pretrain),
    "finetune": (FinetuneCommand, run_finetune),
    "features": (FeaturesCommand, run_features),
}
SCORE = "score.json"


def take_images(file: Path) -> None:
    """From here on the data set ``sample`` is this draw."""
    sources.load_sample = partial(load_sample, file)  # type: ignore[attr-defined]


def recipe(stage: str) -> dict[str, Any]:
    """The sample's settings for a stage."""
    return {k: v for k, v in recipe_settings("sample", stage).items() if k in STAGES[stage][0].model_fields}


def trial(stage: str, folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Run a stage in ``folder`` with the recipe but for ``changes``, and score it; a finished one is only read.

    One that was stopped goes on. The score is ``top1``, or of a pretraining ``linear_probe`` and ``knn``, as shares.

    Raises:
        SystemExit: the folder's run had other settings.
    """
    file = folder / SCORE
    kind, work = STAGES[stage]
    settings = kind.model_validate({**recipe(stage), "data": "sample", "out": folder, **changes})
    asked = settings.model_dump(mode="json", exclude={"out", "run", "init", "threads", "new"})
    if not file.exists():
        started = time.monotonic()
        shared = Shared(Engine(settings), load_splits(settings, seed=settings.seed))
        found = score(stage, work(settings, shared), shared)
        found |= {"seconds": round(time.monotonic() - started), **machine("timm"), "settings": asked}
        write_bytes(file, json.dumps(found).encode())
    read: dict[str, Any] = json.loads(file.read_text())
    if read.pop("settings") != asked:
        raise SystemExit(f"{folder}: scored with other settings; name another folder, or delete it.")
    return read


def score(stage: str, run: Path, shared: Shared) -> dict[str, Any]:
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


def scores(folder: Path, seeds: list[int], run: str, figure: str) -> dict[int, float]:
    """A figure in percent by seed, of ``folder/seedN/run``; seeds without a score are left out."""
    files = {seed: folder / f"seed{seed}" / run / SCORE for seed in seeds}
    return {seed: 100 * float(json.loads(file.read_text())[figure]) for seed, file in files.items() if file.exists()}


def cells(folder: Path, seeds: list[int], run: str, base: str, figure: str) -> list[str]:
    """Number of runs, mean of a figure in percent, its differences from ``base``'s in points; empty without runs."""
    found, bases = (scores(folder, seeds, name, figure) for name in (run, base))
    if not found:
        return []
    gaps = [f"{value - bases[seed]:+.1f}" for seed, value in found.items() if seed in bases and run != base]
    return [str(len(found)), f"{np.mean(list(found.values())):.1f}", ", ".join(gaps).replace("-", "−")]
