"""What the test stage keeps of single images: features, maps, clusters, and what is needed to show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.evaluation.clusters import joined, kmeans_clusters
from twoviews.evaluation.maps import pca_map, tsne_map, umap_map
from twoviews.files import write_atomically
from twoviews.settings import TestCommand
from twoviews.stages.feature_files import save_features, save_maps
from twoviews.stages.feature_maps import Features, common_start, map_quality_figures
from twoviews.stages.map_images import DrawnSplit
from twoviews.stages.setup import Shared
from twoviews.stages.tested_files import write_index
from twoviews.trainers.run_folder import RunFolder

STARTS = 3  # of k-means, fewer than in the feature check: these clusters colour a map, no figure comes from them


def write_maps(
    features: Mapping[str, Features],
    labelled: Mapping[str, Features],
    parts: Sequence[DrawnSplit],
    *,
    shown: npt.NDArray[np.int64],
    clusters: int | None,
    settings: TestCommand,
    shared: Shared,
    run: RunFolder,
) -> dict[str, Any]:
    """Features of every backbone, their maps and clusters, index.csv and thumbnails.

    Args:
        features: of each backbone, those of all test images.
        labelled: of each backbone, those of the training and validation images on the maps; {} where there are none.
        parts: the images on the maps, test images first.
        shown: the predictions that index.csv has, of all test images.
        clusters: k of k-means; none: the number of classes.

    Returns:
        ``map_quality``, how far the maps can be believed, judged on test images alone, of which the classifiers have
        seen none; and ``maps``, what is drawn on them.
    """
    names, tests = list(shared.splits.class_names), parts[0]
    number = len(tests.drawn)
    k = min(clusters or len(names), number)
    tested = {model: rows[tests.drawn] for model, rows in features.items()}
    every = {m: np.concatenate([rows, labelled.get(m, rows[:0])]) for m, rows in tested.items()}
    maps = {f"{model}_pca": pca_map(rows)[0] for model, rows in every.items()}
    start = common_start(maps)
    groups: dict[str, npt.NDArray[Any]] = {}
    for model, rows in every.items():
        save_features(run.path / f"features-{model}.npy", features[model])
        if model in labelled:
            save_features(run.path / f"train_features-{model}.npy", labelled[model])
        maps[f"{model}_tsne"] = tsne_map(rows, seed=settings.seed, threads=shared.engine.threads, start=start).points
        if settings.umap:
            maps[f"{model}_umap"] = umap_map(rows, settings.seed, start)
        # From test images alone, so that their clusters are the same whatever else is on the maps.
        found = joined(rows[number:], kmeans_clusters(rows[:number], k, settings.seed, STARTS))
        groups[model] = found.assignments.astype(np.int16)
        groups[f"{model}_distance"] = found.distances
    save_maps(run.path / "maps.npz", maps)
    save_clusters(run.path / "clusters.npz", groups)
    write_index(run.path, parts, names, shown)
    assert tests.images.labels is not None
    quality = map_quality_figures(
        tested, {name: points[:number] for name, points in maps.items()}, tests.images.labels[tests.drawn]
    )
    drawn = {part.split: len(part.drawn) for part in parts}
    images = {part.split: len(part.images) for part in parts}
    return {"map_quality": quality, "maps": {"drawn": drawn, "images": images, "clusters": k}}


def save_clusters(path: Path, groups: Mapping[str, npt.NDArray[Any]]) -> None:
    """Of each backbone (N,) int16 clusters, and as ``<backbone>_distance`` (N,) float32 distances to their centres."""
    arrays: dict[str, Any] = dict(groups)
    write_atomically(path, lambda stream: np.savez(stream, **arrays))
