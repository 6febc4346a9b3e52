"""What the feature check leaves: features, maps, tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.files import write_atomically, write_csv
from twoviews.report.features.maps import kmeans_map, scatter_map
from twoviews.report.figure_data import map_data
from twoviews.report.figure_files import write_figure
from twoviews.stages.feature_maps import Grouped
from twoviews.stages.setup import Shared
from twoviews.trainers.run_folder import RunFolder

Labels = npt.NDArray[np.int64]


def save_features(path: Path, features: npt.NDArray[np.float32]) -> None:
    """Write N×D float16."""
    write_atomically(path, lambda stream: np.save(stream, features.astype(np.float16), allow_pickle=False))


def save_maps(path: Path, maps: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Write named N×2 maps."""
    arrays: dict[str, Any] = {name: points.astype(np.float32) for name, points in maps.items()}
    write_atomically(path, lambda stream: np.savez(stream, **arrays))


def write_feature_tables(run: RunFolder, shared: Shared, labels: Labels, drawn: Labels, grouped: Grouped) -> None:
    """index.csv of the ``drawn`` images, which are in the maps, and clusters.csv of all."""
    names = shared.splits.class_names
    parts = [("train", shared.splits.train), ("val", shared.splits.val)]
    files = [(split, images.name(i)) for split, images in parts for i in range(len(images))]
    write_csv(
        run.path / "index.csv",
        ["id", "split", "file", "label"],
        [(i, *files[i], names[labels[i]]) for i in drawn],
    )
    given = [names[label] if label >= 0 else "" for label in grouped.mapping]
    clusters = grouped.clusters
    write_csv(
        run.path / "clusters.csv",
        ["id", "cluster", "class", "distance"],
        [
            (i, clusters.assignments[i], given[clusters.assignments[i]], f"{clusters.distances[i]:.5f}")
            for i in range(len(labels))
        ],
    )


def draw_features(
    logs: Path,
    maps: Mapping[str, npt.NDArray[np.float32]],
    variance: list[float],
    *,
    labels: Labels,
    drawn: Labels,
    grouped: Grouped,
    names: list[str],
) -> None:
    """The pictures of the pretrained features.

    Args:
        logs: folder of the pictures.
        maps: of the drawn images, N×2; at least ``pretrained_pca`` and ``pretrained_tsne``.
        variance: fraction that each axis of the PCA explains.
        labels: (M,) classes of all images.
        drawn: (N,) ids of the drawn ones, as in index.csv.
        grouped: clusters of all images.
        names: of the classes.
    """
    axes = (f"PC 1 ({variance[0]:.1%} of variance)", f"PC 2 ({variance[1]:.1%})")
    pca, tsne = maps["pretrained_pca"], maps["pretrained_tsne"]
    classes, clusters = labels[drawn], grouped.clusters.assignments[drawn]
    one, other = map_data(pca, classes, names, id=drawn), map_data(tsne, classes, names, id=drawn)
    write_figure(scatter_map(pca, classes, names, "PCA of SimCLR features", axes), one, logs / "pca_plot")
    write_figure(scatter_map(tsne, classes, names, "t-SNE of SimCLR features"), other, logs / "tsne_plot")
    given = {cluster: int(label) for cluster, label in enumerate(grouped.mapping)}
    clustered = kmeans_map(tsne, clusters, classes, names, given, "k-means of SimCLR features")
    write_figure(clustered, map_data(tsne, classes, names, id=drawn, cluster=clusters), logs / "kmeans_plot")
