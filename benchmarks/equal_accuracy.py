"""Whether the loops of time_to_accuracy.py gave equally good backbones: scored on CIFAR-10's 10,000 test images.

    python benchmarks/time_to_accuracy.py runs.jsonl
    python benchmarks/equal_accuracy.py runs.jsonl --data-root DATA [--labels 5000]

The sample's 1,000 labels and 2,000 test images tell apart what lies a point and a half from each other, and no less.
Here the features of each finished run's frozen backbone are scored by weighted kNN (k = 20) and a linear probe (its
strength chosen by cross-validation) from ``--labels`` training images of CIFAR-10, evenly spaced, on its 10,000 test
images. A JSON line a run, then one a loop with means and deviations over its seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from time_to_accuracy import TEMPERATURE, K, folder_of, make_settings
from torch import nn

from twoviews.dataset.cifar10 import load_cifar10
from twoviews.dataset.images import Source
from twoviews.dataset.sample import SAMPLE_FILE, load_sample
from twoviews.dataset.splits import make_splits
from twoviews.evaluation.knn import KNN
from twoviews.evaluation.probes import choose_linear_probe
from twoviews.files import read_json_lines
from twoviews.spacing import evenly_spaced
from twoviews.stages.backbones import new_backbone
from twoviews.stages.features import extract_with
from twoviews.stages.models import load_backbone
from twoviews.trainers.engine import Engine
from twoviews.trainers.validate import Normalisation

Line = dict[str, Any]


def backbone_of(line: Line, file: Path) -> nn.Module:
    """Of a finished run."""
    folder = folder_of(file, line)
    if line["loop"] != "lightly":
        return load_backbone(folder)
    settings = make_settings(line["shared"], line["changes"], line["seed"], folder)
    backbone = new_backbone(settings, 32, seed=0)
    weights = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    start = "backbone."
    backbone.load_state_dict({name.removeprefix(start): w for name, w in weights.items() if name.startswith(start)})
    return backbone


def score(backbone: nn.Module, source: Source, labels: int, norm: Normalisation, engine: Engine) -> Line:
    """Share of the test images that kNN and the linear probe get right."""
    assert source.test is not None
    train = source.train.take(np.array(evenly_spaced(len(source.train), labels)))
    known, truth, classes = train.labels, source.test.labels, len(source.class_names)
    assert known is not None
    features, asked = (
        extract_with(engine.to_device(backbone), images, norm, engine) for images in (train, source.test)
    )
    probe, _ = choose_linear_probe(features, known, classes)
    return {
        "knn_top1": float((KNN.of(features, known, classes, K, TEMPERATURE).predict(asked) == truth).mean()),
        "linear_probe_top1": float((probe.predict(asked) == truth).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="as given to time_to_accuracy.py, its runs beside it")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--labels", type=int, default=5_000)
    arguments = parser.parse_args()
    source = load_cifar10(arguments.data_root, download=False)
    groups: dict[str, list[Line]] = {}
    for line in read_json_lines(arguments.file):
        if line["shared"]["images"] != SAMPLE_FILE.name:
            parser.error(
                f"{arguments.file}: runs on {line['shared']['images']}; only the bundled sample's can be scored"
            )
        settings = make_settings(line["shared"], line["changes"], line["seed"], folder_of(arguments.file, line))
        splits = make_splits(load_sample(), seed=line["seed"])
        norm = Normalisation(tuple(splits.mean), tuple(splits.std))
        found = score(backbone_of(line, arguments.file), source, arguments.labels, norm, Engine(settings))
        print(json.dumps({"loop": line["loop"], "seed": line["seed"], **found}), flush=True)
        groups.setdefault(json.dumps([line["loop"], line["shared"], line["changes"]]), []).append(found)
    for group, lines in groups.items():
        row: Line = {"loop": json.loads(group)[0], "runs": len(lines)}
        for key in ("knn_top1", "linear_probe_top1"):
            values = [line[key] for line in lines]
            row[key] = round(statistics.mean(values), 4)
            row[f"{key}_std"] = round(statistics.stdev(values), 4) if len(values) > 1 else None
        print(json.dumps(row))
    print(json.dumps({"labels": arguments.labels, "test_images": len(source.test or ()), **machine()}))


if __name__ == "__main__":
    main()
