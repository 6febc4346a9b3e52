"""Minutes to an accuracy: lightly's loop, twoviews with the same settings, and twoviews with what pays.

    python benchmarks/time_to_accuracy.py runs.jsonl [--only lightly|same|fast] [--seed 0 1 2] [key=value ...]

Each loop trains the same small ResNet (resnet18_w16) on the sample's 10,000 unlabeled CIFAR-10 images, and is scored by
the same code: features of the frozen backbone, weighted kNN (k = 20) and a linear probe (its strength chosen by
cross-validation) from the 1,000 labelled images to the 2,000 test images.

- ``lightly``: the loop of lightly's README (``SimCLRTransform``, ``NTXentLoss``, one forward a view, float32) with this
  project's optimizer and schedule: SGD with Nesterov momentum, linear warm-up over a tenth of the epochs, cosine.
- ``same``: twoviews from the same backbone weights, with the same distribution and size of views, epochs, batch,
  temperature and learning rate.
- ``fast``: twoviews with the settings in ``FAST``, changed by ``key=value`` (any setting of ``twoviews pretrain``).

A finished run is a line in the file and is not run again; one that was stopped goes on from its last checkpoint.
``minutes`` are those of the epochs, data and views included; ``minutes_whole`` has what happens beside them too
(estimate, checkpoints, monitor, curves), and is null for a run that was stopped and went on. Choose settings on
another draw than the one you report: ``--images dev.npz``, from ``tools/make_sample.py FOLDER --development dev.npz``.
Needs ``pip install -e '.[benchmark]'``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from machine import machine
from peers import lightly_dataset, lightly_peer, loader
from torch import nn

from twoviews.dataset.sample import SAMPLE_FILE, load_sample
from twoviews.dataset.splits import make_splits
from twoviews.evaluation.knn import KNN
from twoviews.evaluation.probes import choose_linear_probe
from twoviews.files import append_json_line, read_json, read_json_lines, write_atomically
from twoviews.settings import PretrainCommand
from twoviews.stages.backbones import new_backbone
from twoviews.stages.features import extract
from twoviews.stages.models import load_backbone
from twoviews.stages.pretrain import run_pretrain
from twoviews.stages.setup import Shared
from twoviews.trainers.engine import Engine
from twoviews.trainers.optimizer import lr_at, peak_lr, schedule

K, TEMPERATURE = 20, 0.1  # of the kNN: fixed, so that nothing is chosen on test images

# Views as lightly's own CIFAR-10 benchmark has them: half the jitter, no blur.
COMMON: dict[str, Any] = {
    "data": "sample",
    "image_size": 32,
    "backbone": "resnet18_w16",
    "crop_scale": (0.08, 1.0),
    "jitter": 0.8,
    "jitter_strength": 0.5,
    "grayscale": 0.2,
    "blur": 0.0,
    "projection_hidden": 512,
    "momentum": 0.9,
    "weight_decay": 1e-4,
}
FAST: dict[str, Any] = {
    "epochs": 8,
    "first_view_size": 16,
    "view_size": 24,
    "crop_scale": (0.2, 1.0),
    "base_lr": 0.9,
    "weight_decay": 5e-4,
}

Line = dict[str, Any]
Labelled = tuple[Any, Any]  # features N×D, and labels (N,)


def make_settings(shared: Line, changes: Line, seed: int, folder: Path) -> PretrainCommand:
    """Settings of a run; they are lightly's too."""
    values = {**COMMON, **{key: shared[key] for key in ("epochs", "batch_size", "base_lr", "temperature")}, **changes}
    values.setdefault("warmup_epochs", values["epochs"] / 10)
    return PretrainCommand.model_validate({**values, "seed": seed, "out": folder, "monitor_epochs": values["epochs"]})


def train_lightly(settings: PretrainCommand, shared: Shared, workers: int) -> tuple[nn.Module, Line]:
    """lightly's loop, from its last finished epoch; the backbone, and seconds and losses."""
    assert settings.out is not None
    path, splits, device = settings.out / "checkpoint.pt", shared.splits, shared.engine.device
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = lightly_dataset(
        splits.unlabeled.read(slice(None)),
        shared.image_size,
        cj_prob=settings.jitter,
        cj_strength=settings.jitter_strength,
        min_scale=settings.crop_scale[0],
        random_gray_scale=settings.grayscale,
        gaussian_blur=settings.blur,
        sigmas=settings.blur_sigma,
        normalize={"mean": list(splits.mean), "std": list(splits.std)},
    )
    peer = lightly_peer(
        new_backbone(settings, shared.image_size, seed=settings.seed),
        loader(dataset, settings.batch_size, workers, device),
        device,
        hidden=settings.projection_hidden,
        temperature=settings.temperature,
        lr=peak_lr(settings, settings.batch_size),
        momentum=settings.momentum,
        nesterov=True,
        weight_decay=settings.weight_decay,
    )
    state: Line = {"epoch": 0, "seconds": 0.0, "losses": []}
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        peer.model.load_state_dict(state["model"])
        peer.optimizer.load_state_dict(state["optimizer"])
    torch.manual_seed(settings.seed * 1_000_003 + state["epoch"])  # order and views
    steps_per_epoch = len(peer.loader)
    rates = schedule(settings, settings.batch_size, steps_per_epoch)
    for epoch in range(state["epoch"], settings.epochs):
        losses = []
        started = time.monotonic()
        stream = peer.steps()
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            for group in peer.optimizer.param_groups:
                group["lr"] = lr_at(step, **rates)
            losses.append(next(stream))
        mean = float(torch.stack(losses).mean())
        state["seconds"] += time.monotonic() - started
        state["losses"].append(mean)
        print(f"lightly epoch {epoch + 1}/{settings.epochs}  loss {mean:.3f}  {state['seconds']:.0f} s", flush=True)
        state |= {"epoch": epoch + 1, "model": peer.model.state_dict(), "optimizer": peer.optimizer.state_dict()}
        write_atomically(path, partial(torch.save, state))
    backbone = peer.model.backbone
    assert isinstance(backbone, nn.Module)
    return backbone, {"seconds": state["seconds"], "losses": state["losses"]}


def train_twoviews(settings: PretrainCommand, shared: Shared) -> tuple[nn.Module, Line]:
    """``twoviews pretrain``; the backbone, and seconds and losses."""
    run = run_pretrain(settings, shared)
    rows = read_json_lines(run / "metrics.jsonl")
    return load_backbone(run), {
        "seconds": read_json(run / "results.json")["seconds"],
        "losses": [row["loss"] for row in rows],
    }


def accuracies(backbone: nn.Module, shared: Shared, seed: int) -> Line:
    """Share of the test images that kNN and the linear probe get right, both from the labelled images."""
    splits = shared.splits
    backbone = shared.engine.to_device(backbone)
    labelled = [splits.train, splits.val]
    features = np.concatenate([extract(backbone, images, shared) for images in labelled])
    labels = np.concatenate([images.labels for images in labelled if images.labels is not None])
    test = splits.open_test()
    return scores((features, labels), (extract(backbone, test, shared), test.labels), len(splits.class_names), seed)


def scores(known: Labelled, asked: Labelled, classes: int, seed: int) -> Line:
    """Share of those asked for that kNN and the linear probe get right, from the features and labels that are known."""
    knn = KNN.of(*known, classes, K, TEMPERATURE)
    probe, _ = choose_linear_probe(*known, classes, seed=seed)
    features, labels = asked
    return {
        "knn_top1": float((knn.predict(features) == labels).mean()),
        "linear_probe_top1": float((probe.predict(features) == labels).mean()),
    }


def folder_of(file: Path, line: Line) -> Path:
    """Where a run lies; ``line`` is what was asked for, with its figures or without."""
    what = {key: line[key] for key in ("loop", "seed", "shared", "changes")}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]
    return file.with_suffix("") / f"{what['loop']}-seed{what['seed']}-{digest}"


def run_one(what: Line, arguments: argparse.Namespace) -> Line:
    """Train and score one loop with one seed."""
    folder = folder_of(arguments.file, what)
    begun = folder.exists()
    settings = make_settings(what["shared"], what["changes"], what["seed"], folder)
    splits = make_splits(load_sample(arguments.images), seed=settings.seed)
    unlabeled = splits.unlabeled.take(np.arange(min(len(splits.unlabeled), arguments.count)))
    shared = Shared(Engine(settings), replace(splits, unlabeled=unlabeled))
    started = time.monotonic()
    if what["loop"] == "lightly":
        backbone, figures = train_lightly(settings, shared, arguments.workers)
    else:
        backbone, figures = train_twoviews(settings, shared)
    whole = time.monotonic() - started
    images = settings.epochs * (len(unlabeled) // settings.batch_size) * settings.batch_size
    return {
        **what,
        **accuracies(backbone, shared, settings.seed),
        "minutes": round(figures["seconds"] / 60, 3),
        "minutes_whole": None if begun else round(whole / 60, 3),
        "images_per_second": round(images / figures["seconds"], 1),
        "first_loss": round(figures["losses"][0], 3),
        "last_loss": round(figures["losses"][-1], 3),
        "precision": "float32" if what["loop"] == "lightly" else shared.engine.precision,
        "threads": shared.engine.threads,
        **machine("lightly"),
    }


def summarise(lines: list[Line]) -> None:
    """Print a line for each loop and settings: accuracy and minutes over seeds, beside lightly with the same seeds."""
    groups: dict[str, dict[int, Line]] = {}
    for line in lines:
        key = json.dumps([line["loop"], line["shared"], line["changes"]], sort_keys=True)
        groups.setdefault(key, {})[line["seed"]] = line
    for by_seed in groups.values():
        first = next(iter(by_seed.values()))
        lightly = groups.get(json.dumps(["lightly", first["shared"], {}], sort_keys=True), {})
        row: Line = {"loop": first["loop"], "shared": first["shared"], "changes": first["changes"]}
        row |= {"seeds": sorted(by_seed)}
        for key in ("knn_top1", "linear_probe_top1", "minutes"):
            row[key] = mean_and_deviation([line[key] for line in by_seed.values()])
        both = sorted(by_seed.keys() & lightly.keys())
        if both and first["loop"] != "lightly":
            for key in ("knn_top1", "linear_probe_top1"):
                gains = [100 * (by_seed[seed][key] - lightly[seed][key]) for seed in both]
                row[f"{key}_points_over_lightly"] = mean_and_deviation(gains)
            for key in ("minutes", "minutes_whole"):
                pairs = [(lightly[seed][key], by_seed[seed][key]) for seed in both]
                times = [theirs / ours for theirs, ours in pairs if theirs is not None and ours is not None]
                row[f"times_shorter_{key}"] = mean_and_deviation(times) if times else None
        print(json.dumps(row))


def mean_and_deviation(values: list[float]) -> Line:
    return {
        "mean": round(statistics.mean(values), 4),
        "std": round(statistics.stdev(values), 4) if len(values) > 1 else None,
    }


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON lines of finished runs; the runs lie in a folder beside it")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="settings of fast")
    parser.add_argument("--only", choices=("lightly", "same", "fast"), help="default: all three")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10, help="of lightly and same")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--base-lr", type=float, default=0.6, help="learning rate per 256 images of lightly and same")
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument(
        "--workers", type=int, default=cores, help="of lightly's DataLoader; default: one for each core"
    )
    parser.add_argument("--count", type=int, default=10_000, help="unlabeled images to train on")
    parser.add_argument("--images", type=Path, default=SAMPLE_FILE, help="a draw that tools/make_sample.py wrote")
    arguments = parser.parse_intermixed_args()  # key=value may follow options
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in arguments.changes)}
    if changes and arguments.only in ("lightly", "same"):
        parser.error("key=value changes the fast loop alone; use --only fast")
    keys = ("epochs", "batch_size", "base_lr", "temperature", "count")
    shared = {**{key: getattr(arguments, key) for key in keys}, "images": arguments.images.name}
    for seed in arguments.seed:
        for loop in [arguments.only] if arguments.only else ["lightly", "same", "fast"]:
            of_loop = {**FAST, **changes} if loop == "fast" else {}
            what = json.loads(json.dumps({"loop": loop, "seed": seed, "shared": shared, "changes": of_loop}))
            done = read_json_lines(arguments.file)
            if not any(what.items() <= line.items() for line in done):
                line = run_one(what, arguments)
                append_json_line(arguments.file, line)
                print(json.dumps(line), flush=True)
    summarise(read_json_lines(arguments.file))


if __name__ == "__main__":
    main()
