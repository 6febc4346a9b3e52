"""The part of the page about frozen features: maps, clusters and probes, each with words on how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twoviews.report import tables
from twoviews.report.data import ReportData
from twoviews.report.explore.gather import REFERENCE
from twoviews.report.features import maps
from twoviews.report.features import tables as feature_tables
from twoviews.report.features.cluster_words import cluster_sentences, curve_sentences, silhouette_sentences
from twoviews.report.features.knn_words import knn_sentences
from twoviews.report.features.map_words import map_sentences, map_sentences_on_test, pca_says, tested_says, variance
from twoviews.report.image_index import Maps, class_numbers
from twoviews.report.map_kinds import MAP_NAMES
from twoviews.report.model_names import COMPARED, model_name
from twoviews.report.number_words import percent
from twoviews.report.pictures import Picture, embed
from twoviews.report.run import Run
from twoviews.report.tables import Table
from twoviews.report.values import dig

# Backbones whose UMAP of the test images is shown, with what is written over it.
UMAP_MODELS = {
    "pretrained": "After SimCLR",
    "random_init": "Untrained backbone",
    "supervised": model_name("supervised"),
    "finetuned": model_name("finetuned"),
}


@dataclass(frozen=True)
class Group:
    """What belongs together: how to read the pictures, what the numbers say, pictures and tables."""

    title: str
    read: str = ""
    says: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class FeatureSection:
    """What the page says and shows about frozen features."""

    overview: Table | None
    groups: list[Group]


def feature_section(data: ReportData) -> FeatureSection | None:
    """The section, or None where there was no feature check."""
    run, checked, tested = data.run, data.checked_maps, data.tested_maps
    found = dig(run.results, "features")
    features: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    groups = [
        *([_pca(run, checked), _tsne(checked)] if checked is not None else []),
        Group(
            "How far the maps can be believed",
            says=map_sentences(features),
            tables=_there(feature_tables.map_quality(features.get("map_quality"), "training and validation images")),
        ),
        _kmeans(run, checked, features),
        Group(
            "How many clusters?",
            says=curve_sentences(features),
            pictures=feature_tables.cluster_curve(features),
        ),
        _tested(run, tested, features),
        *([_umap(tested)] if tested is not None else []),
        Group(
            "kNN and linear probe",
            says=knn_sentences(features),
            tables=_there(feature_tables.knn_protocols(features), feature_tables.probe_sweep(features)),
        ),
    ]
    groups = [group for group in groups if group.pictures or group.tables or any(group.says)]
    overview = tables.features(run)
    return FeatureSection(overview, groups) if overview or groups else None


def _there(*found: Table | None) -> list[Table]:
    return [table for table in found if table is not None]


def _pca(run: Run, found: Maps) -> Group:
    shares = variance(run.results)
    axes = tuple(f"PC {i + 1}" + (f" ({percent(v)} of variance)" if v else "") for i, v in enumerate(shares))
    return Group(
        "PCA",
        "Each point is an image, placed along the two directions in which the features vary most. Classes that lie"
        " apart here differ along those directions; classes that overlap may still differ along others."
        + _named(found)
        + _sampled(found),
        [said] if (said := pca_says(run.results)) else [],
        [
            *_map(found, "pretrained_pca", "After SimCLR", (axes[0], axes[1])),
            *_map(found, "random_init_pca", "Untrained backbone", ("PC 1", "PC 2")),
        ],
    )


def _tsne(found: Maps) -> Group:
    return Group(
        "t-SNE",
        "Images with similar features are placed near each other. Which images are neighbours means something; the"
        f" size of a group and the space between groups do not.{_followed(found, 'tsne')}" + _sampled(found),
        [],
        [
            *_map(found, "pretrained_tsne", "After SimCLR"),
            *_map(found, "random_init_tsne", "Untrained backbone"),
        ],
    )


def _kmeans(run: Run, found: Maps | None, features: Mapping[str, Any]) -> Group:
    pictures = [] if found is None else _clusters(run, found)
    read = (
        "Clusters are found in the features without any label; the picture shows them on the map above. Each has the"
        " colour of the class that fits it best, so equal colours in the two pictures are agreement."
    )
    return Group(
        "k-means",
        read + _sampled(found) if found is not None and pictures else "",
        [*cluster_sentences(features), *silhouette_sentences(features)],
        pictures,
        _there(feature_tables.clusters(features)),
    )


def _tested(run: Run, found: Maps | None, features: Mapping[str, Any]) -> Group:
    pictures = [
        one for model in COMPARED if found is not None for one in _map(found, f"{model}_tsne", model_name(model))
    ]
    read = (
        "The same test images in the features of the two classifiers. Points of a colour inside a group of another are"
        " images whose features look like the other class."
    )
    if found is not None and pictures:
        read += _followed(found, "tsne") + _sampled(found)
    return Group(
        "t-SNE of test images after training" if pictures else "Test images after training",
        read if pictures else "",
        [*([tested_says(run.results)] if pictures else []), *map_sentences_on_test(features)],
        pictures,
        _there(feature_tables.map_quality(dig(features, "test", "map_quality"), "test images")),
    )


def _umap(found: Maps) -> Group:
    pictures = [one for model, title in UMAP_MODELS.items() for one in _map(found, f"{model}_umap", title)]
    read = "Another way to place images with similar features near each other, to be read as t-SNE is."
    read += _followed(found, "umap") + _sampled(found)
    return Group("UMAP of test images", read if pictures else "", [], pictures)


def _followed(found: Maps, kind: str) -> str:
    """That maps of a kind can be followed by eye, and no more, where SimCLR's is among several."""
    if sum(name.endswith(f"_{kind}") for name in found.points) < 2 or f"{REFERENCE}_{kind}" not in found.points:
        return ""
    return (
        " The maps of all models start from the same coordinates and are turned, mirrored and sized to match SimCLR’s"
        " (Procrustes), so that the eye can follow; distances between maps mean nothing."
    )


def _map(found: Maps, name: str, title: str, labels: tuple[str, str] = ("", "")) -> list[Picture]:
    points = found.points.get(name)
    if points is None:
        return []
    shown = min(len(points), maps.MOST_POINTS)
    kind = MAP_NAMES[name.rpartition("_")[2]]
    figure = maps.scatter_map(points, found.labels, found.class_names, axis_labels=labels)
    return [embed(figure, f"{kind} map of {shown:,} images, {title}, coloured by class.", title)]


def _named(found: Maps) -> str:
    """What the names on the maps that follow mean, where there are any."""
    if len(found.class_names) > maps.MOST_NAMED:
        return ""
    return " On this and the other maps a class has its name near its middle, where there is room for it."


def _sampled(found: Maps) -> str:
    """How the points of a map too large to draw were chosen; nothing where all are drawn."""
    if len(found.labels) <= maps.MOST_POINTS:
        return ""
    return f" {maps.MOST_POINTS:,} of {len(found.labels):,} images are shown, drawn at random."


def _clusters(run: Run, found: Maps) -> list[Picture]:
    points = found.points.get("pretrained_tsne", found.points.get("pretrained_pca"))
    rows = {row.get("id", ""): row for row in run.table(run.stages["features"].folder / "clusters.csv")}
    if points is None or not rows:
        return []
    places = class_numbers(found.class_names)
    try:
        numbers = np.array([int(rows[one]["cluster"]) for one in found.index.ids], dtype=np.int64)
        given = {int(row["cluster"]): places.get(row.get("class") or "", -1) for row in rows.values()}
    except (KeyError, ValueError):
        run.problems.append("features/clusters.csv and features/index.csv don't fit together")
        return []
    return [
        embed(
            maps.kmeans_map(points, numbers, found.labels, found.class_names, given, panels=[panel]),
            f"The map of {min(len(points), maps.MOST_POINTS):,} images coloured by {said}.",
            f"After SimCLR, coloured by {said}",
        )
        for panel, said in (("cluster", "k-means cluster"), ("class", "class"))
    ]
