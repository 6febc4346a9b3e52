"""Feature quality check of a frozen backbone: PCA, t-SNE, k-means, linear probe, kNN. Reads no test image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from twoviews.dataset.images import ImageSet
from twoviews.errors import DataError
from twoviews.settings import FeaturesCommand
from twoviews.spacing import evenly_spaced
from twoviews.stages.backbones import new_backbone
from twoviews.stages.feature_files import draw_features, save_features, save_maps, write_feature_tables
from twoviews.stages.feature_maps import draw_maps, group
from twoviews.stages.feature_probes import Checked, Features, probes
from twoviews.stages.folders import backbone_file
from twoviews.stages.in_run_folder import in_run_folder
from twoviews.stages.setup import Shared, prepare_alone
from twoviews.trainers.engine import Engine
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.validate import Normalisation, forward_all


def run_features(settings: FeaturesCommand, shared: Shared | None = None) -> Path:
    """Check the features of a pretraining run beside those of random weights; returns the run folder."""
    shared = shared or prepare_alone(settings)
    if not shared.can_train:
        raise DataError(f"{shared.splits.name} has no labelled images to check the features on; add train/<class>/.")

    def work(run: RunFolder) -> None:
        if shared.engine.is_first:
            init = settings.init or str(backbone_file(settings.run))
            what = "PCA, t-SNE, k-means, linear probe and kNN" if settings.maps else "linear probe and kNN"
            say(f"features: {what} on training and validation images")
            _check(settings, shared, run, init)

    return in_run_folder("features", settings, shared, work)


def extract(backbone: nn.Module, images: ImageSet, shared: Shared) -> Features:
    """Features of every image under the data set's own normalisation."""
    return extract_with(backbone, images, shared.normalisation, shared.engine)


def extract_with(backbone: nn.Module, images: ImageSet, norm: Normalisation, engine: Engine) -> Features:
    """N×D features, rounded to float16 as they are stored: every reader sees the same numbers."""
    return forward_all(backbone, images, norm, engine).astype(np.float16).astype(np.float32)


def _check(settings: FeaturesCommand, shared: Shared, run: RunFolder, init: str) -> None:
    splits, engine = shared.splits, shared.engine
    found: dict[str, Checked] = {}
    for model, start in (("pretrained", init), ("random_init", None)):
        backbone = engine.to_device(new_backbone(settings, shared.image_size, seed=settings.seed, init=start))
        found[model] = Checked(extract(backbone, splits.train, shared), extract(backbone, splits.val, shared))
        save_features(run.path / f"features-{model}.npy", found[model].all)
    probed = {model: probes(checked, shared, settings.seed, run.path, model) for model, checked in found.items()}
    mapped = _maps_and_clusters(found, settings, shared, run) if settings.maps else {}
    pretrained, untrained = probed["pretrained"], probed["random_init"]
    run.finish(
        {
            **mapped,
            **pretrained,
            "random_init": {
                "linear_probe_val_top1": untrained["linear_probe"]["val_top1"],
                "knn_val_top1": untrained["knn"]["val_top1"],
                "knn_protocols": untrained["knn_protocols"],
            },
        }
    )
    say(
        f"features: linear probe {pretrained['linear_probe']['val_top1']:.1%}, "
        f"kNN {pretrained['knn']['val_top1']:.1%} on validation "
        f"(random weights: {untrained['linear_probe']['val_top1']:.1%}, {untrained['knn']['val_top1']:.1%})"
        + (f"; k-means {mapped['kmeans']['accuracy']:.1%}" if mapped else "")
    )


def _maps_and_clusters(
    found: dict[str, Checked], settings: FeaturesCommand, shared: Shared, run: RunFolder
) -> dict[str, Any]:
    """What ``--no-maps`` leaves out: maps, clusters, their tables and pictures; returns the figures."""
    labels = _labels(shared)
    names = list(shared.splits.class_names)
    everything = {model: checked.all for model, checked in found.items()}
    drawn = evenly_spaced(len(labels), settings.max_images)
    shown = {model: features[drawn] for model, features in everything.items()}
    maps, figures = draw_maps(shown, labels[drawn], settings, shared.engine.threads)
    save_maps(run.path / "maps.npz", maps)
    grouped, kmeans = group(everything["pretrained"], everything["random_init"], labels, len(names), settings)
    write_feature_tables(run, shared, labels, drawn, grouped)
    variance = figures["pca"]["explained_variance_ratio"]
    draw_features(run.logs, maps, variance, labels=labels, drawn=drawn, grouped=grouped, names=names)
    return {**figures, "kmeans": kmeans}


def _labels(shared: Shared) -> npt.NDArray[np.int64]:
    """Of training images, then validation images."""
    train, val = shared.splits.train.labels, shared.splits.val.labels
    assert train is not None
    assert val is not None
    return np.concatenate([train, val])
