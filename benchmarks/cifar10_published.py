"""Accuracies on CIFAR-10 as they are published: of a backbone by kNN and a linear probe from all 50,000 labels.

    twoviews pretrain cifar10_as_stl10 --data-root DATA --backbone resnet18 --epochs 200 --out RUN
    python benchmarks/cifar10_published.py RUN --data-root DATA [--no-probe] [--classifiers FOLDER ...]

The features of the frozen backbone, of the images as they are, at 10,000 test images:

- ``knn200``: weighted kNN with k = 200 and T = 0.1, as lightly's benchmarks have it (there the best epoch counts);
- ``knn10``: majority of the 10 nearest by cosine, as simclr-cifar10's README has it;
- ``linear_probe``: L2-regularised logistic regression, its strength chosen by cross-validation on 10,000 of the
  training images and its penalty then made as much weaker as there are more of them.

``--classifiers`` adds the accuracy of what `twoviews supervised` and `twoviews finetune` left. One JSON line. RUN may
have been pretrained on fewer images than the 50,000; their labels serve here all the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from twoviews.dataset.cifar10 import load_cifar10
from twoviews.dataset.images import Source
from twoviews.evaluation.knn import KNN
from twoviews.evaluation.probes import choose_linear_probe, fit_linear_probe
from twoviews.files import read_json
from twoviews.settings import RunSettings
from twoviews.spacing import evenly_spaced
from twoviews.stages.features import extract_with
from twoviews.stages.models import load_backbone, load_classifier
from twoviews.trainers.engine import Engine
from twoviews.trainers.validate import Normalisation, forward_all

CHOICE_IMAGES = 10_000
MAJORITY = 1e6  # a temperature at which all neighbours weigh the same


def published(backbone: Any, about: dict[str, Any], source: Source, engine: Engine, with_probe: bool) -> dict[str, Any]:
    """Accuracies of a frozen backbone."""
    assert source.test is not None
    norm = Normalisation(tuple(about["mean"]), tuple(about["std"]))
    backbone = engine.to_device(backbone)
    train, test = (extract_with(backbone, images, norm, engine) for images in (source.train, source.test))
    labels, truth = source.train.labels, source.test.labels
    assert labels is not None
    assert truth is not None
    classes = len(source.class_names)

    def correct(predictions: Any) -> float:
        return float((predictions == truth).mean())

    found = {
        "knn200": correct(KNN.of(train, labels, classes, 200, 0.1).predict(test)),
        "knn10": correct(KNN.of(train, labels, classes, 10, MAJORITY).predict(test)),
    }
    if with_probe:
        some = np.array(evenly_spaced(len(train), CHOICE_IMAGES))
        chosen, _ = choose_linear_probe(train[some], labels[some], classes)
        c = chosen.c * len(train) / len(some)  # five times the images need a weaker penalty; not searched
        found |= {"linear_probe": correct(fit_linear_probe(train, labels, classes, c).predict(test)), "c": c}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--no-probe", action="store_true", help="leave the linear probe out: it takes minutes")
    parser.add_argument("--classifiers", type=Path, nargs="*", default=[], help="runs of supervised or finetune")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    engine = Engine(RunSettings(device=arguments.device, precision=arguments.precision))
    backbone = load_backbone(arguments.run)
    about: dict[str, Any] = backbone.about  # type: ignore[assignment]
    line: dict[str, Any] = {"run": arguments.run.name, "model": about["model"]}
    source = load_cifar10(arguments.data_root, download=False)
    line |= published(backbone, about, source, engine, not arguments.no_probe)
    results = read_json(arguments.run / "results.json")
    line |= {key: results[key] for key in ("epochs", "seconds") if key in results}
    test = source.test
    assert test is not None
    for folder in arguments.classifiers:
        classifier, said = load_classifier(folder / "models" / "classifier.safetensors")
        norm = Normalisation(tuple(said["mean"]), tuple(said["std"]))
        logits = forward_all(engine.to_device(classifier), test, norm, engine)
        line[folder.name] = float((logits.argmax(axis=1) == test.labels).mean())
    print(json.dumps(line | machine() | engine.describe()))


if __name__ == "__main__":
    main()
