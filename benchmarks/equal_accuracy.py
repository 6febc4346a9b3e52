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
from pathlib import Path

import numpy as np
import torch
from machine import machine
from time_to_accuracy import Line, folder_of, make_settings, mean_and_deviation, scores
from torch import nn

from twoviews.dataset.cifar10 import load_cifar10
from twoviews.dataset.images import Source
from twoviews.dataset.sample import SAMPLE_FILE, load_sample
from twoviews.dataset.splits import make_splits
from twoviews.files import read_json_lines
from twoviews.settings import PretrainCommand
from twoviews.spacing import evenly_spaced
from twoviews.stages.backbones import new_backbone
from twoviews.stages.features import extract_with
from twoviews.stages.models import load_backbone
from twoviews.trainers.engine import Engine
from twoviews.trainers.validate import Normalisation


def backbone_of(line: Line, settings: PretrainCommand) -> nn.Module:
    """Of a finished run with these settings."""
    assert settings.out is not None
    if line["loop"] != "lightly":
        return load_backbone(settings.out)
    backbone = new_backbone(settings, 32, seed=0)
    weights = torch.load(settings.out / "checkpoint.pt", weights_only=True)["model"]
    start = "backbone."
    backbone.load_state_dict({name.removeprefix(start): w for name, w in weights.items() if name.startswith(start)})
    return backbone


def score(backbone: nn.Module, source: Source, labels: int, norm: Normalisation, engine: Engine) -> Line:
    """Share of the test images that kNN and the linear probe get right."""
    assert source.test is not None
    train = source.train.take(np.array(evenly_spaced(len(source.train), labels)))
    backbone = engine.to_device(backbone)
    known, asked = ((extract_with(backbone, images, norm, engine), images.labels) for images in (train, source.test))
    return scores(known, asked, len(source.class_names), seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="as given to time_to_accuracy.py, its runs beside it")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--labels", type=int, default=5_000)
    arguments = parser.parse_args()
    source, sample = load_cifar10(arguments.data_root, download=False), load_sample()
    groups: dict[str, list[Line]] = {}
    for line in read_json_lines(arguments.file):
        if line["shared"]["images"] != SAMPLE_FILE.name:
            parser.error(
                f"{arguments.file}: runs on {line['shared']['images']}; only the bundled sample's can be scored"
            )
        settings = make_settings(line["shared"], line["changes"], line["seed"], folder_of(arguments.file, line))
        splits = make_splits(sample, seed=line["seed"])
        norm = Normalisation(tuple(splits.mean), tuple(splits.std))
        found = score(backbone_of(line, settings), source, arguments.labels, norm, Engine(settings))
        print(json.dumps({"loop": line["loop"], "seed": line["seed"], **found}), flush=True)
        groups.setdefault(json.dumps([line["loop"], line["shared"], line["changes"]]), []).append(found)
    for group, lines in groups.items():
        row: Line = {"loop": json.loads(group)[0], "runs": len(lines)}
        for key in ("knn_top1", "linear_probe_top1"):
            row[key] = mean_and_deviation([line[key] for line in lines])
        print(json.dumps(row))
    print(json.dumps({"labels": arguments.labels, "test_images": len(source.test or ()), **machine()}))


if __name__ == "__main__":
    main()
