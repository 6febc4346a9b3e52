"""Feature quality check of a frozen backbone: PCA, t-SNE, k-means, linear probe, kNN. Reads no test image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from twoviews.dataset.images import ImageSet, evenly_spaced
from twoviews.errors import DataError
from twoviews.evaluation.clusters import Clusters, cluster_agreement, kmeans_clusters, shuffled_agreement
from twoviews.evaluation.knn import choose_knn
from twoviews.evaluation.maps import pca_map, trustworthiness, tsne_map
from twoviews.evaluation.probes import choose_linear_probe
from twoviews.files import write_atomically, write_csv
from twoviews.report.maps import kmeans_map, scatter_map
from twoviews.report.style import save
from twoviews.settings import FeaturesCommand
from twoviews.stages.folders import backbone_file
from twoviews.stages.probe_files import save_probe
from twoviews.stages.setup import (
    Shared,
    in_run_folder,
    new_backbone,
    prepare_alone,
)
from twoviews.stages.tasks import SELECT_FROM
from twoviews.trainers.engine import Engine
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.validate import Normalisation, forward_all

Features = npt.NDArray[np.float32]


@dataclass
class Checked:
    """Features of the labelled images under one backbone: training rows first, then validation."""

    train: Features
    val: Features

    @property
    def all(self) -> Features:
        """Training and validation rows together."""
        return np.concatenate([self.train, self.val])


def run_features(settings: FeaturesCommand, shared: Shared | None = None) -> Path:
    """Check the features of a pretraining run beside those of random weights; returns the run folder."""
    shared = shared or prepare_alone(settings)
    if not shared.can_train:
        raise DataError(f"{shared.splits.name} has no labelled images to check the features on; add train/<class>/.")

    def work(run: RunFolder) -> None:
        if shared.engine.is_first:
            init = settings.init or str(backbone_file(settings.run))
            say("features: PCA, t-SNE, k-means, linear probe and kNN on training and validation images")
            _check(settings, shared, run, init)

    return in_run_folder("features", settings, shared, work)


def extract(backbone: nn.Module, images: ImageSet, shared: Shared) -> Features:
    """Features of every image under the data set's own normalisation."""
    return extract_with(backbone, images, shared.normalisation, shared.engine)


def extract_with(backbone: nn.Module, images: ImageSet, norm: Normalisation, engine: Engine) -> Features:
    """N×D features, rounded to float16 as they are stored: every reader sees the same numbers."""
    return forward_all(backbone, images, norm, engine).astype(np.float16).astype(np.float32)


def save_features(path: Path, features: Features) -> None:
    """Write N×D float16."""
    write_atomically(path, lambda stream: np.save(stream, features.astype(np.float16), allow_pickle=False))


def save_maps(path: Path, maps: dict[str, npt.NDArray[np.float32]]) -> None:
    """Write named N×2 maps."""
    arrays: dict[str, Any] = {name: points.astype(np.float32) for name, points in maps.items()}
    write_atomically(path, lambda stream: np.savez(stream, **arrays))


def _check(settings: FeaturesCommand, shared: Shared, run: RunFolder, init: str) -> None:
    splits, engine = shared.splits, shared.engine
    names = list(splits.class_names)
    assert splits.train.labels is not None
    assert splits.val.labels is not None
    labels = np.concatenate([splits.train.labels, splits.val.labels])
    found: dict[str, Checked] = {}
    for model, start in (("pretrained", init), ("random_init", None)):
        backbone = engine.to_device(new_backbone(settings, shared.image_size, seed=settings.seed, init=start))
        found[model] = Checked(extract(backbone, splits.train, shared), extract(backbone, splits.val, shared))
        save_features(run.path / f"features-{model}.npy", found[model].all)
    probes = {model: _probes(checked, settings, shared, run, model) for model, checked in found.items()}
    drawn = evenly_spaced(len(labels), settings.max_images)
    maps, figures = _maps(found, drawn, settings, shared)
    save_maps(run.path / "maps.npz", maps)
    clusters, mapping, kmeans = _kmeans(found, labels, settings, len(names))
    _write_tables(run, shared, labels, drawn, clusters, mapping)
    _draw(run, maps, figures, labels[drawn], clusters.assignments[drawn], mapping, names)
    run.finish(
        {
            **figures,
            "kmeans": kmeans,
            "linear_probe": probes["pretrained"]["linear_probe"],
            "knn": probes["pretrained"]["knn"],
            "random_init": {
                "linear_probe_val_top1": probes["random_init"]["linear_probe"]["val_top1"],
                "knn_val_top1": probes["random_init"]["knn"]["val_top1"],
            },
        }
    )
    say(
        f"features: linear probe {probes['pretrained']['linear_probe']['val_top1']:.1%}, "
        f"kNN {probes['pretrained']['knn']['val_top1']:.1%} on validation "
        f"(random weights: {probes['random_init']['linear_probe']['val_top1']:.1%}, "
        f"{probes['random_init']['knn']['val_top1']:.1%}); k-means {kmeans['accuracy']:.1%}"
    )


def _probes(
    checked: Checked, settings: FeaturesCommand, shared: Shared, run: RunFolder, model: str
) -> dict[str, dict[str, Any]]:
    """Linear probe and kNN: chosen on train (or on a large validation set), scored on validation."""
    train_labels, val_labels = shared.splits.train.labels, shared.splits.val.labels
    assert train_labels is not None
    assert val_labels is not None
    classes = len(shared.splits.class_names)
    choose_on_val = (checked.val, val_labels) if len(val_labels) >= SELECT_FROM else None
    probe, sweep = choose_linear_probe(checked.train, train_labels, classes, seed=settings.seed, val=choose_on_val)
    prefix = "" if model == "pretrained" else f"{model}_"
    save_probe(run.path / f"{prefix}linear_probe.safetensors", probe)
    knn, knn_sweep = choose_knn(checked.train, train_labels, classes)
    best = max((row.get("cv_top1", 0.0) for row in sweep), default=None)
    return {
        "linear_probe": {
            "val_top1": float((probe.predict(checked.val) == val_labels).mean()),
            "train_cv_top1": best,
            "c": probe.c,
            "sweep": sweep,
        },
        "knn": {
            "val_top1": float((knn.predict(checked.val) == val_labels).mean()),
            "train_cv_top1": max((row["cv_top1"] for row in knn_sweep), default=None),
            "k": knn.k,
            "temperature": knn.temperature,
        },
    }


def _maps(
    found: dict[str, Checked], drawn: npt.NDArray[np.int64], settings: FeaturesCommand, shared: Shared
) -> tuple[dict[str, Any], dict[str, Any]]:
    """PCA and t-SNE of each backbone; the figures are the pretrained one's."""
    maps: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    for model, checked in found.items():
        features = checked.all[drawn]
        maps[f"{model}_pca"], ratio = pca_map(features)
        tsne = tsne_map(features, settings.perplexity, settings.seed, shared.engine.threads)
        maps[f"{model}_tsne"] = tsne.points
        if model == "pretrained":
            figures = {
                "pca": {"explained_variance_ratio": [float(r) for r in ratio]},
                "tsne": {
                    "trustworthiness": trustworthiness(features, tsne.points),
                    "perplexity": tsne.perplexity,
                },
            }
    return maps, figures


def _kmeans(
    found: dict[str, Checked], labels: npt.NDArray[np.int64], settings: FeaturesCommand, classes: int
) -> tuple[Clusters, npt.NDArray[np.int64], dict[str, Any]]:
    """Clusters of the pretrained features, the class given to each (-1: none), and the figures."""
    k = settings.clusters or classes
    clusters = kmeans_clusters(found["pretrained"].all, k, settings.seed)
    agreement = cluster_agreement(clusters.assignments, labels, classes)
    chance = shuffled_agreement(clusters.assignments, labels, classes, settings.seed)
    random = kmeans_clusters(found["random_init"].all, k, settings.seed)
    random_agreement = cluster_agreement(random.assignments, labels, classes)
    figures = {
        "clusters": k,
        "accuracy": agreement.accuracy,
        "nmi": agreement.nmi,
        "ari": agreement.ari,
        "accuracy_shuffled": chance.accuracy,
        "nmi_shuffled": chance.nmi,
        "ari_shuffled": chance.ari,
        "random_init": {
            "accuracy": random_agreement.accuracy,
            "nmi": random_agreement.nmi,
            "ari": random_agreement.ari,
        },
    }
    return clusters, agreement.mapping, figures


def _write_tables(
    run: RunFolder,
    shared: Shared,
    labels: npt.NDArray[np.int64],
    drawn: npt.NDArray[np.int64],
    clusters: Clusters,
    mapping: npt.NDArray[np.int64],
) -> None:
    names = shared.splits.class_names
    parts = [("train", shared.splits.train), ("val", shared.splits.val)]
    files = [(split, images.name(i)) for split, images in parts for i in range(len(images))]
    write_csv(
        run.path / "index.csv",
        ["id", "split", "file", "label"],
        [(i, *files[i], names[labels[i]]) for i in drawn],
    )
    given = [names[label] if label >= 0 else "" for label in mapping]
    write_csv(
        run.path / "clusters.csv",
        ["id", "cluster", "class", "distance"],
        [
            (i, clusters.assignments[i], given[clusters.assignments[i]], f"{clusters.distances[i]:.5f}")
            for i in range(len(labels))
        ],
    )


def _draw(
    run: RunFolder,
    maps: dict[str, Any],
    figures: dict[str, Any],
    labels: npt.NDArray[np.int64],
    assignments: npt.NDArray[np.int64],
    mapping: npt.NDArray[np.int64],
    names: list[str],
) -> None:
    ratio = figures["pca"]["explained_variance_ratio"]
    axes = (f"PC 1 ({ratio[0]:.1%} of variance)", f"PC 2 ({ratio[1]:.1%})")
    save(
        scatter_map(maps["pretrained_pca"], labels, names, "PCA of SimCLR features", axes),
        run.logs / "pca_plot.png",
    )
    save(
        scatter_map(maps["pretrained_tsne"], labels, names, "t-SNE of SimCLR features"),
        run.logs / "tsne_plot.png",
    )
    given = {cluster: int(label) for cluster, label in enumerate(mapping)}
    save(
        kmeans_map(maps["pretrained_tsne"], assignments, labels, names, given, "k-means of SimCLR features"),
        run.logs / "kmeans_plot.png",
    )
