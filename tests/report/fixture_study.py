"""Writes study folders as docs/runs.md describes them: made-up but plausible numbers, no training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from twoviews.files import append_json_line, write_csv, write_json

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HOSTILE = "</script><img src=x onerror=alert(1)>"
ACCURACIES = {
    "supervised": 0.582,
    "finetuned": 0.646,
    "linear_probe": 0.598,
    "knn": 0.521,
    "random_init_linear_probe": 0.377,
}


def write_study(folder: Path, class_names: Sequence[str] = CLASSES, images: int = 2000) -> Path:
    """A finished study of one seed."""
    random = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(len(class_names)), images // len(class_names))
    predictions = {name: _predict(random, labels, len(class_names), top1) for name, top1 in ACCURACIES.items()}
    confusions = {name: _confusion(labels, found, len(class_names)) for name, found in predictions.items()}
    models = {name: _model(table, class_names, name) for name, table in confusions.items()}
    comparison = _comparison(labels, predictions["supervised"], predictions["finetuned"])
    features = _features(folder / "features", random, class_names)
    _classifier(folder / "supervised", random, epochs=40, start=0.22, end=0.59)
    _classifier(folder / "finetune", random, epochs=40, start=0.45, end=0.65)
    _pretraining(folder / "pretrain", random, epochs=60)
    _test(folder / "test", random, labels, predictions, class_names, models, comparison)
    results = {
        "schema": 1,
        "protocol": "900 training labels (90 a class) and 100 for validation; last epoch of each schedule;"
        " test labels are read once, after every choice.",
        "data": {
            "name": "sample",
            "classes": list(class_names),
            "counts": {"unlabeled": 10000, "train": 900, "val": 100, "test": len(labels)},
            "leaks_removed": 3,
            "near_copies": 1,
            "near_copies_removed": 0,
        },
        "seeds": [0],
        "models": models,
        "comparison": comparison,
        "label_curve": [],
        "folds": [],
        "features": features,
        "speed": {"pretrain_images_per_second": 1240.0},
        "seconds": {
            "supervised": 41.0,
            "pretrain": 612.4,
            "features": 38.2,
            "finetune": 44.7,
            "test": 21.9,
            "total": 758.2,
        },
    }
    _surroundings(folder)
    write_json(folder / "results.json", results)
    return folder


def edit_results(folder: Path, change: Any) -> None:
    """Pass a study's results.json through ``change``, which edits it in place."""
    path = folder / "results.json"
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))


def stop_early(folder: Path, epochs: int = 12) -> None:
    """Make a finished study one that stopped in fine-tuning."""
    for path in (folder / "results.json", folder / "finetune" / "results.json"):
        path.unlink()
    shutil.rmtree(folder / "test")
    rows = (folder / "finetune" / "metrics.jsonl").read_text().splitlines()[:epochs]
    # The last line is cut, as by a crash while it was written.
    (folder / "finetune" / "metrics.jsonl").write_text("\n".join([*rows, '{"epoch": 13, "st']))


def _predict(random: np.random.Generator, labels: np.ndarray, classes: int, top1: float) -> np.ndarray:
    """Predictions of about this accuracy, better on some classes; mistakes go to neighbouring classes."""
    skill = top1 + 0.16 * np.sin(np.arange(classes) * 1.7)
    near = (labels + random.choice([-2, -1, 1, 2, 3], size=len(labels), p=[0.35, 0.1, 0.1, 0.35, 0.1])) % classes
    return np.where(random.random(len(labels)) < np.clip(skill, 0.05, 0.97)[labels], labels, near)


def _confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def _model(table: np.ndarray, names: Sequence[str], name: str) -> dict[str, Any]:
    images = int(table.sum())
    top1 = float(np.trace(table) / images)
    half = 1.96 * (top1 * (1 - top1) / images) ** 0.5
    recall = np.diag(table) / table.sum(1)
    precision = np.diag(table) / np.maximum(table.sum(0), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    return {
        "val_top1": round(top1 + 0.011, 2),
        "test_top1": top1,
        "macro_f1": float(f1.mean()),
        "std": None,
        "ci95": [top1 - half, top1 + half],
        "ci95_method": "Wilson",
        "per_seed": [top1],
        "confusion": table.tolist(),
        "per_class": [
            {"class": one, "precision": float(p), "recall": float(r), "f1": float(f), "images": int(n)}
            for one, p, r, f, n in zip(names, precision, recall, f1, table.sum(1), strict=True)
        ],
    }


def _comparison(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    gained, lost = (
        ((after == labels) & (before != labels)).sum(),
        ((after != labels) & (before == labels)).sum(),
    )
    images = len(labels)
    points = 100 * float(gained - lost) / images
    half = 196 * float((gained + lost) / images - ((gained - lost) / images) ** 2) ** 0.5 / images**0.5
    return {
        "finetuned_minus_supervised": {
            "points": points,
            "ci95": [points - half, points + half],
            "ci95_method": "paired bootstrap over test images, 10,000 draws",
            "mcnemar_p": 0.0000123,
            "mcnemar_p_per_seed": [0.0000123],
        }
    }


def _blobs(random: np.random.Generator, labels: np.ndarray, classes: int, spread: float) -> np.ndarray:
    angles = np.arange(classes) * 2.4
    centres = np.stack([np.cos(angles), np.sin(angles)], 1) * np.sqrt(np.arange(classes) + 1.0)[:, None]
    return (centres[labels] + random.normal(size=(len(labels), 2)) * spread).astype(np.float32)


def _features(folder: Path, random: np.random.Generator, names: Sequence[str]) -> dict[str, Any]:
    labels = np.tile(np.arange(len(names)), 100)
    folder.mkdir()
    maps = {
        "pretrained_pca": _blobs(random, labels, len(names), 1.3),
        "pretrained_tsne": 12 * _blobs(random, labels, len(names), 0.55),
        "random_init_pca": _blobs(random, labels, len(names), 3.5),
        "random_init_tsne": 12 * _blobs(random, labels, len(names), 2.2),
    }
    np.savez(folder / "maps.npz", **maps)
    index = [
        [f"{i:06d}", "train" if i < 900 else "val", f"train/{i:05d}", names[label]] for i, label in enumerate(labels)
    ]
    write_csv(folder / "index.csv", ["id", "split", "file", "label"], index)
    clusters = np.where(random.random(len(labels)) < 0.43, labels, random.integers(0, len(names), len(labels)))
    rows = [[index[i][0], c, names[c], f"{random.random():.4f}"] for i, c in enumerate(clusters)]
    write_csv(folder / "clusters.csv", ["id", "cluster", "class", "distance"], rows)
    features = {
        "pca": {"explained_variance_ratio": [0.142, 0.089]},
        "tsne": {"trustworthiness": 0.962, "perplexity": 30},
        "kmeans": {
            "clusters": len(names),
            "accuracy": 0.412,
            "nmi": 0.331,
            "ari": 0.214,
            "accuracy_shuffled": 0.131,
            "nmi_shuffled": 0.018,
            "ari_shuffled": -0.0004,
            "random_init": {"accuracy": 0.214, "nmi": 0.094, "ari": 0.041},
        },
        "linear_probe": {
            "val_top1": 0.61,
            "train_cv_top1": 0.594,
            "c": 0.01,
            "sweep": [{"c": 0.001, "cv_top1": 0.57}, {"c": 0.01, "cv_top1": 0.594}],
        },
        "knn": {"val_top1": 0.53, "train_cv_top1": 0.519, "k": 20, "temperature": 0.07},
        "random_init": {"linear_probe_val_top1": 0.39, "knn_val_top1": 0.31},
    }
    write_json(folder / "results.json", features)
    return features


def _classifier(folder: Path, random: np.random.Generator, epochs: int, start: float, end: float) -> None:
    folder.mkdir()
    for epoch in range(1, epochs + 1):
        done = 1 - np.exp(-3.2 * epoch / epochs)
        top1 = start + (end - start) * done
        append_json_line(
            folder / "metrics.jsonl",
            {
                "epoch": epoch,
                "step": epoch * 14,
                "lr": 0.1 * (1 + np.cos(np.pi * epoch / epochs)) / 2,
                "train_loss": 2.2 - 1.9 * done * end / 0.62 + random.normal() * 0.02,
                "train_top1": min(top1 + 0.3 * done**2 + random.normal() * 0.006, 0.995),
                # One epoch without a number: a gap in the curve.
                "val_loss": None if epoch == 9 else 2.1 - 1.0 * done * end / 0.62 + random.normal() * 0.05,
                "val_top1": top1 + random.normal() * 0.018,
            },
        )
        row = {
            "epoch": epoch,
            "seconds": 1.0 + random.random() * 0.05,
            "images_per_second": 880 + random.random(),
        }
        append_json_line(folder / "timing.jsonl", row)
    write_json(folder / "results.json", {"schema": 1, "val_top1": end, "epochs": epochs, "seconds": 41.0})


def _pretraining(folder: Path, random: np.random.Generator, epochs: int) -> None:
    folder.mkdir()
    for epoch in range(1, epochs + 1):
        done = 1 - np.exp(-3 * epoch / epochs)
        row = {
            "epoch": epoch,
            "step": epoch * 39,
            "lr": 0.6 * min(epoch / 6, (1 + np.cos(np.pi * epoch / epochs)) / 2),
            "loss": 5.4 - 1.6 * done + random.normal() * 0.015,
            "contrastive_top1": 0.05 + 0.62 * done + random.normal() * 0.004,
        }
        if epoch % 5 == 0:
            row |= {
                "knn_top1": 0.31 + 0.22 * done,
                "alignment": 0.9 - 0.3 * done,
                "uniformity": -1.2 - 1.9 * done,
                "effective_rank": 14 + 55 * done,
            }
        append_json_line(folder / "metrics.jsonl", row)
        row = {"epoch": epoch, "seconds": 10.2, "images_per_second": 1235 + 10 * random.random()}
        append_json_line(folder / "timing.jsonl", row)
    write_json(folder / "results.json", {"schema": 1, "knn_top1": 0.53, "loss": 3.8})
    pixels = random.random((3, 8, 4, 4, 3)) * 255
    pixels[1:] = 0.7 * pixels[0] + 0.3 * pixels[1:]
    strip = np.pad(pixels.repeat(16, 2).repeat(16, 3), ((0, 0), (0, 0), (3, 3), (3, 3), (0, 0)), constant_values=255)
    logs = folder / "logs"
    logs.mkdir()
    image = strip.transpose(0, 2, 1, 3, 4).reshape(3 * 70, 8 * 70, 3).astype(np.uint8)
    Image.fromarray(image).save(logs / "views.png")


def _test(
    folder: Path,
    random: np.random.Generator,
    labels: np.ndarray,
    predictions: dict[str, np.ndarray],
    names: Sequence[str],
    models: dict[str, Any],
    comparison: dict[str, Any],
) -> None:
    folder.mkdir()
    spreads = {"random_init": 2.3, "pretrained": 0.6, "supervised": 0.7, "finetuned": 0.45}
    maps = {f"{model}_tsne": 12 * _blobs(random, labels, len(names), spread) for model, spread in spreads.items()}
    maps |= {f"{model}_pca": _blobs(random, labels, len(names), 2 * spread) for model, spread in spreads.items()}
    np.savez(folder / "maps.npz", **maps)
    header = ["id", "file", "label"] + [part for model in predictions for part in (model, f"{model}_confidence")]
    rows = [
        [f"{i:06d}", f"test/{i:05d}", names[label]]
        + [cell for found in predictions.values() for cell in (names[found[i]], "0.7000")]
        for i, label in enumerate(labels)
    ]
    write_csv(folder / "predictions.csv", header, rows)
    index = [[row[0], "test", row[1], row[2], names[predictions["finetuned"][i]]] for i, row in enumerate(rows)]
    write_csv(folder / "index.csv", ["id", "split", "file", "label", "prediction"], index)
    write_json(folder / "results.json", {"schema": 1, "models": models, "comparison": comparison})


def _surroundings(folder: Path) -> None:
    classifier = {
        "epochs": 40,
        "batch_size": 64,
        "base_lr": 0.1,
        "weight_decay": 5e-4,
        "label_smoothing": 0.0,
    }
    settings = {
        "data": "sample",
        "seed": 0,
        "device": "auto",
        "precision": "auto",
        "supervised": {"backbone": "resnet18_w16", "stem": "small", **classifier},
        "pretrain": {
            "backbone": "resnet18_w16",
            "stem": "small",
            "epochs": 60,
            "batch_size": 256,
            "base_lr": 0.6,
            "weight_decay": 1e-4,
            "temperature": 0.2,
            "projection_dim": 128,
            "warmup_epochs": 6,
        },
        "finetune": {**classifier, "base_lr": 0.05},
        "features": {"perplexity": 30, "clusters": 10},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    machine = {
        "platform": "Linux x86_64",
        "cpu": "Example CPU",
        "cores": 2,
        "threads": 2,
        "device": "cpu",
        "precision": "bf16",
        "memory_gb": 16,
    }
    versions = {
        "twoviews": "0.1.0",
        "python": "3.11.7",
        "torch": "2.10.0",
        "timm": "1.0.20",
        "numpy": "2.1.0",
    }
    write_json(
        folder / "environment.json",
        {
            **versions,
            "machine": machine,
            "command": "twoviews study sample",
            "started": "2026-05-02T09:14:00+00:00",
        },
    )
    leaks = [
        {
            "split": "train",
            "file": f"train/0{i}.png",
            "copy_of_split": "test",
            "copy_of": f"test/1{i}.png",
            "kind": "near" if i == 3 else "exact",
            "similarity": 0.9731 if i == 3 else 1.0,
        }
        for i in range(4)
    ]
    shown = [3, 0, 2]
    pairs = np.random.default_rng(0).integers(0, 256, (len(shown) * 32, 2 * 32, 3), dtype=np.uint8)
    Image.fromarray(pairs).save(folder / "leaks.webp", lossless=True)
    conflicts = [
        {
            "split": "train",
            "file": "train/00.png",
            "label": "cat",
            "other_split": "train",
            "other_file": "train/07.png",
            "other_label": "dog",
            "kind": "exact",
            "similarity": 1.0,
        }
    ]
    skipped = [{"path": "unlabeled/broken.jpg", "reason": "truncated", "bytes": 1312}]
    write_json(
        folder / "data.json",
        {
            "notes": ["Images are 32×32 pixels and are used as they are."],
            "leaks": leaks,
            "leak_pictures": {"size": 32, "leaks": shown},
            "conflicts": conflicts,
            "skipped": skipped,
        },
    )
