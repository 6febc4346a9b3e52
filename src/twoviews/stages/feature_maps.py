"""The feature check's maps and clusters: PCA, t-SNE and how far they can be believed; k-means and its spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.evaluation.cluster_number import cluster_curve, curve_values, silhouette, suggested_k
from twoviews.evaluation.clusters import (
    AgreementSpread,
    Clusters,
    cluster_agreement,
    kmeans_starts,
    lowest_inertia,
    shuffled_agreement,
    spread_over_starts,
)
from twoviews.evaluation.map_quality import map_qualities
from twoviews.evaluation.maps import pca_map, tsne_map
from twoviews.settings import FeaturesCommand

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

MAPS = ("pca", "tsne", "umap")
KMEANS_PROTOCOL = (
    "k-means on features of length 1, {starts} k-means++ starts, the one with the lowest inertia; clusters matched to "
    "classes by the Hungarian algorithm"
)


@dataclass
class Grouped:
    """Clusters of a backbone's features, and the class given to each (-1: none)."""

    clusters: Clusters
    mapping: Labels


def draw_maps(
    found: Mapping[str, Features], labels: Labels, settings: FeaturesCommand, threads: int
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, Any]]:
    """PCA and t-SNE of each backbone's N×D features, named ``<model>_pca`` and ``<model>_tsne``, and the figures.

    ``pca`` and ``tsne`` are the pretrained one's; ``map_quality`` has every model's.
    """
    maps: dict[str, npt.NDArray[np.float32]] = {}
    figures: dict[str, Any] = {}
    for model, features in found.items():
        maps[f"{model}_pca"], ratio = pca_map(features)
        if model == "pretrained":
            figures["pca"] = {"explained_variance_ratio": [float(r) for r in ratio]}
    for model, features in found.items():
        tsne = tsne_map(features, settings.perplexity, settings.seed, threads, common_start(maps))
        maps[f"{model}_tsne"] = tsne.points
        if model == "pretrained":
            figures["tsne"] = {"perplexity": tsne.perplexity}
    figures["map_quality"] = map_quality_figures(found, maps, labels)
    figures["tsne"]["trustworthiness"] = figures["map_quality"]["pretrained"]["tsne"]["trustworthiness"]
    return maps, figures


def common_start(maps: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Where every model's t-SNE begins, so that the eye can follow: the pretrained one's PCA, or the first there is."""
    return maps.get("pretrained_pca", next(iter(maps.values())))


def map_quality_figures(
    found: Mapping[str, Features], maps: Mapping[str, npt.NDArray[np.float32]], labels: Labels
) -> dict[str, dict[str, dict[str, Any]]]:
    """How far the maps of each model can be believed: model → each map it has → fields of `MapQuality`.

    Args:
        found: N×D features of each model.
        maps: N×2 points, named ``<model>_pca``, ``<model>_tsne`` and ``<model>_umap``, those there are, of the same
            images.
        labels: (N,) class numbers.
    """
    return {
        model: {
            name: quality._asdict()
            for name, quality in map_qualities(
                features, {name: maps[f"{model}_{name}"] for name in MAPS if f"{model}_{name}" in maps}, labels
            ).items()
        }
        for model, features in found.items()
    }


def group(
    pretrained: Features, random_init: Features, labels: Labels, classes: int, settings: FeaturesCommand
) -> tuple[Grouped, dict[str, Any]]:
    """k-means of both backbones' features against the classes, silhouettes, and which k the features suggest."""
    k, seed = settings.clusters or classes, settings.seed
    grouped, figures = _agreement(pretrained, k, labels, classes, seed)
    chance = shuffled_agreement(grouped.clusters.assignments, labels, classes, seed)
    curve = cluster_curve(pretrained, curve_values(classes, len(labels)), seed)
    record = {
        "protocol": KMEANS_PROTOCOL.format(starts=figures["starts"]),
        "clusters": k,
        **figures,
        **{f"{name}_shuffled": spread.mean for name, spread in chance._asdict().items()},
        "spread_shuffled": _spread_record(chance),
        "curve": [point._asdict() for point in curve],
        "suggested_k": suggested_k(curve),
        "random_init": _agreement(random_init, k, labels, classes, seed)[1],
    }
    return grouped, record


def _agreement(features: Features, k: int, labels: Labels, classes: int, seed: int) -> tuple[Grouped, dict[str, Any]]:
    """The start with the lowest inertia; its figures, their spread over all starts, and silhouettes."""
    starts = kmeans_starts(features, k, seed)
    clusters = lowest_inertia(starts)
    agreement = cluster_agreement(clusters.assignments, labels, classes)
    return Grouped(clusters, agreement.mapping), {
        "accuracy": agreement.accuracy,
        "nmi": agreement.nmi,
        "ari": agreement.ari,
        "starts": len(starts),
        "spread": _spread_record(spread_over_starts(starts, labels, classes)),
        "silhouette": {
            "clusters": silhouette(features, clusters.assignments),
            "classes": silhouette(features, labels),
            "distance": "1 - cosine",
            "images": len(features),
        },
    }


def _spread_record(spread: AgreementSpread) -> dict[str, dict[str, float]]:
    return {name: one._asdict() for name, one in spread._asdict().items()}
