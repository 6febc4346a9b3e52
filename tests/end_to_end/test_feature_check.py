"""The feature check on random weights: what it records, with maps and without, and that its parts agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twoviews.errors import CheckpointError
from twoviews.evaluation.clusters import cluster_agreement, kmeans_starts
from twoviews.evaluation.knn import KNN
from twoviews.model.resnet50 import create_backbone
from twoviews.report.features.cluster_words import cluster_sentences
from twoviews.report.features.knn_words import knn_sentences
from twoviews.report.features.map_words import map_sentences
from twoviews.settings import FeaturesCommand
from twoviews.stages.feature_maps import map_quality_figures
from twoviews.stages.features import run_features
from twoviews.stages.folders import PROBE
from twoviews.stages.models import load_probe_classifier
from twoviews.stages.setup import prepare
from twoviews.trainers.weights import save_weights


@pytest.fixture(scope="module")
def checked(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The run folder with maps (True) and without (False)."""
    work = tmp_path_factory.mktemp("checked")
    weights = work / "backbone.safetensors"
    save_weights(weights, create_backbone("resnet18_w16", "small").state_dict(), {})
    more: dict[str, Any] = {"backbone": "resnet18_w16", "image_size": 32, "init": str(weights), "threads": 1}
    more |= {"data": str(photos), "cache": work / "cache", "precision": "float32", "perplexity": 5.0}
    every = {maps: FeaturesCommand(**more, maps=maps, out=work / f"maps-{maps}") for maps in (True, False)}
    shared = prepare(every[True])
    return {maps: run_features(settings, shared) for maps, settings in every.items()}


def results_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "results.json").read_text())
    assert isinstance(found, dict)
    return found


def labels_of(folder: Path) -> np.ndarray:
    rows = (folder / "index.csv").read_text().splitlines()[1:]
    found = [row.rsplit(",", 1)[1] for row in rows]
    names = sorted(set(found))
    return np.array([names.index(name) for name in found])


def test_without_maps_probes_are_the_same_and_nothing_is_drawn(checked: dict[bool, Path]) -> None:
    whole, fast = results_of(checked[True]), results_of(checked[False])
    left_out = {"pca", "tsne", "map_quality", "kmeans"}
    assert left_out <= set(whole)
    assert {key: whole[key] for key in whole if key not in left_out} == fast
    for name in ("maps.npz", "index.csv", "clusters.csv", "logs/tsne_plot.png"):
        assert (checked[True] / name).exists()
        assert not (checked[False] / name).exists()
    assert map_sentences(fast) == cluster_sentences(fast) == []
    assert map_sentences(whole)
    assert cluster_sentences(whole)
    assert knn_sentences(fast) == knn_sentences(whole) != []


def test_a_probe_on_weights_of_others_predicts_nothing_and_says_why(checked: dict[bool, Path]) -> None:
    """Their model and normalisation are not known, which the check was told and did not need."""
    with pytest.raises(CheckpointError, match=r"backbone\.safetensors was not written by twoviews: fine-tune from it"):
        load_probe_classifier(checked[False] / PROBE)


def test_each_figure_of_a_probe_names_its_protocol(checked: dict[bool, Path]) -> None:
    results = results_of(checked[False])
    assert "5-fold cross-validation" in results["linear_probe"]["protocol"]
    assert "leave-one-out" in results["knn"]["protocol"]
    features = np.load(checked[False] / "features-pretrained.npy").astype(np.float32)
    labels = labels_of(checked[True])
    train = len(labels) - sum(",val," in row for row in (checked[True] / "index.csv").read_text().splitlines())
    assert 0 < train < len(labels)
    assert [row["k_asked"] for row in results["knn_protocols"]] == [200, 20, 5]
    assert [row["k"] for row in results["knn_protocols"]] == [train, 20, 5]
    for row in results["knn_protocols"]:
        model = KNN.of(features[:train], labels[:train], 3, row["k"], row["temperature"])
        assert row["val_top1"] == np.mean(model.predict(features[train:]) == labels[train:])
    assert len(results["random_init"]["knn_protocols"]) == 3


def test_clusters_are_those_of_the_chosen_start_and_its_spread(checked: dict[bool, Path]) -> None:
    found = results_of(checked[True])["kmeans"]
    labels = labels_of(checked[True])
    features = np.load(checked[True] / "features-pretrained.npy").astype(np.float32)
    starts = kmeans_starts(features, 3, seed=0)
    accuracies = [cluster_agreement(one.assignments, labels, 3).accuracy for one in starts]
    assert (found["starts"], found["clusters"]) == (20, 3)
    assert found["accuracy"] == accuracies[int(np.argmin([one.inertia for one in starts]))]
    expected = {"mean": np.mean(accuracies), "std": np.std(accuracies, ddof=1)}
    expected |= {"min": min(accuracies), "max": max(accuracies)}
    assert found["spread"]["accuracy"] == pytest.approx(expected)
    assert found["spread_shuffled"]["nmi"]["mean"] == found["nmi_shuffled"]
    assert [point["k"] for point in found["curve"]] == [2, 3, 4, 5, 6]
    best = max(found["curve"], key=lambda point: point["silhouette"])
    assert found["suggested_k"] == best["k"]
    assert set(found["random_init"]) >= {"accuracy", "nmi", "ari", "spread", "silhouette"}


def test_map_quality_is_that_of_the_maps_kept(checked: dict[bool, Path]) -> None:
    folder = checked[True]
    results, labels = results_of(folder), labels_of(folder)
    models = ("pretrained", "random_init")
    features = {model: np.load(folder / f"features-{model}.npy").astype(np.float32) for model in models}
    with np.load(folder / "maps.npz") as maps:
        again = map_quality_figures(features, dict(maps), labels)
    assert again == results["map_quality"]
    assert results["tsne"]["trustworthiness"] == again["pretrained"]["tsne"]["trustworthiness"]
