"""How well the report finds wrong labels: labels of a finished study are changed, and those it suspects counted.

    twoviews study sample --seeds 3
    python benchmarks/label_errors.py output/study-sample [--draws 60] [--share 0.05]

In each draw a share of the labels becomes another class: any other with the same probability, or (``confusions``) one
drawn as the baseline's wrong answers to images of that class are. Then the report's own rules are asked, with features
and answers as the study left them. ``test``: test images, by the fine-tuned model and neighbours; beside it the images
that the model alone would name, as many and the surest first. ``labelled``: training and validation images, by
neighbours. One JSON line a part, way and seed: means over draws with their standard deviations, and how many are listed
where nothing was changed. Every seed has its own models, and the features of the first, which share one pretraining.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import machine

from twoviews.report.data import ReportData
from twoviews.report.explore.image_features import read_features
from twoviews.report.health.label_errors import by_model_and_neighbours, by_neighbours
from twoviews.report.run import load, seed_folders
from twoviews.report.tested import read_tested

Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Suspect = Callable[[Rows], Rows]  # labels → images that are listed


def change(labels: Rows, share: float, odds: Doubles, generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Which images get another label, and all labels then; ``odds`` has a row of classes to come to for each class."""
    chosen = generator.choice(len(labels), round(share * len(labels)), replace=False)
    changed = labels.copy()
    changed[chosen] = [generator.choice(len(odds), p=odds[label]) for label in labels[chosen]]
    return chosen, changed


def odds_of(labels: Rows, predicted: Rows | None, classes: int) -> Doubles:
    """Of coming to each other class: all alike, or as often as a model mistakes one for the other (once more each)."""
    counts = np.ones((classes, classes))
    if predicted is not None:
        np.add.at(counts, (labels, predicted), 1)
    np.fill_diagonal(counts, 0)
    odds: Doubles = counts / counts.sum(axis=1, keepdims=True)
    return odds


def measure(labels: Rows, odds: Doubles, ways: dict[str, Suspect], arguments: argparse.Namespace) -> dict[str, Any]:
    """Listed images, precision and recall of each way over all draws."""
    generator = np.random.default_rng(0)
    found: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
    for _ in range(arguments.draws):
        chosen, changed = change(labels, arguments.share, odds, generator)
        for way, suspect in ways.items():
            listed = suspect(changed)
            right = len(np.intersect1d(listed, chosen))
            found[way].append((len(listed), right / max(1, len(listed)), right / len(chosen)))
    row: dict[str, Any] = {"images": len(labels), "changed": len(chosen), "draws": arguments.draws}
    for way, suspect in ways.items():
        means, deviations = np.mean(found[way], axis=0).tolist(), np.std(found[way], axis=0, ddof=1).tolist()
        names = ("listed", "precision", "recall")
        cells: dict[str, Any] = {
            name: [round(mean, 2), round(deviation, 2)]
            for name, mean, deviation in zip(names, means, deviations, strict=True)
        }
        row[way] = cells | {"listed_unchanged": len(suspect(labels))}
    return row


def tested(study: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Test images, with the models of each seed that starts from the first one's pretraining."""
    data = ReportData.read(study)
    images = data.images
    if images is None:
        raise SystemExit(f"{study} has no test stage with maps: features of the test images are needed.")
    features = next(one.features for one in images.backbones if one.name == "pretrained")
    assert features is not None
    first, *others = seed_folders(study) or [study]
    for seed in [first, *(one for one in others if not (one / "pretrain").exists())]:
        test = read_tested(load(seed))
        if test is None or test.ids != list(images.row_of):
            raise SystemExit(f"{seed} has not tested the images of which there are features.")
        model, baseline, labels = test.models["finetuned"], test.models["supervised"], test.labels
        top1 = float(np.mean(model.predicted == labels))

        def rule(given: Rows, features: npt.NDArray[Any] = features, model: Any = model) -> Rows:
            return by_model_and_neighbours(features, given, model.predicted, model.confidence).rows

        def surest(given: Rows, model: Any = model, rule: Suspect = rule) -> Rows:
            others = np.flatnonzero(model.predicted != given)
            return others[np.argsort(-model.confidence[others], kind="stable")][: len(rule(given))]

        ways: dict[str, Suspect] = {"rule": rule, "model_alone": surest}
        for way, predicted in (("any other class", None), ("confusions", baseline.predicted)):
            about = {"part": "test", "seed": seed.name, "top1": round(top1, 3), "labels_become": way}
            yield about | measure(labels, odds_of(labels, predicted, len(test.class_names)), ways, arguments)


def labelled(study: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Training and validation images of the first seed."""
    data = ReportData.read(study)
    part = data.suspected_training_images
    if part is None:
        raise SystemExit(f"{study} has no feature check with maps: features of the labelled images are needed.")
    features = read_features(data.run.stages["features"].folder / "features-pretrained.npy")
    if len(features) != len(part.labels):
        raise SystemExit("too many labelled images: the report looks at some of them.")
    ways: dict[str, Suspect] = {"rule": lambda given: by_neighbours(features, given).rows}
    odds = odds_of(part.labels, None, len(part.names))
    yield {"part": "labelled", "labels_become": "any other class"} | measure(part.labels, odds, ways, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are changed")
    arguments = parser.parse_args()
    for rows in (tested(arguments.study, arguments), labelled(arguments.study, arguments)):
        for row in rows:
            print(json.dumps(row), flush=True)
    print(json.dumps({"study": arguments.study.name, "share": arguments.share, **machine("numpy")}))


if __name__ == "__main__":
    main()
