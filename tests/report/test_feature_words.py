from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from twoviews.report.features.cluster_words import (
    cluster_sentences,
    curve_sentences,
    silhouette_sentences,
)
from twoviews.report.features.knn_words import knn_sentences
from twoviews.report.features.map_words import map_sentences, map_sentences_on_test
from twoviews.report.features.tables import knn_protocols


def feature_sentences(features: dict[str, Any]) -> list[str]:
    """Everything that can be said, in the order of the page's pictures."""
    return [
        *map_sentences(features),
        *map_sentences_on_test(features),
        *cluster_sentences(features),
        *silhouette_sentences(features),
        *curve_sentences(features),
        *knn_sentences(features),
    ]


def quality(trustworthiness: float, features: float, **more: Any) -> dict[str, Any]:
    return {
        "trustworthiness": trustworthiness,
        "continuity": 0.97,
        "overlap": 0.38,
        "overlap_chance": 0.01,
        "purity_map": features,
        "purity_features": features,
        "purity_chance": 0.1,
        "k": 10,
        "images": 1000,
        "judged": 1000,
        **more,
    }


def spread(low: float, high: float, std: float) -> dict[str, Any]:
    return {"accuracy": {"mean": (low + high) / 2, "std": std, "min": low, "max": high}}


FEATURES: dict[str, Any] = {
    "map_quality": {
        "pretrained": {"tsne": quality(0.96, 0.45), "pca": quality(0.80, 0.45, overlap=0.05)},
        "random_init": {"tsne": quality(0.985, 0.22), "pca": quality(0.86, 0.22)},
    },
    "kmeans": {
        "clusters": 10,
        "accuracy": 0.41,
        "accuracy_shuffled": 0.142,
        "starts": 20,
        "spread": spread(0.36, 0.43, 0.018),
        "spread_shuffled": spread(0.13, 0.155, 0.006),
        "random_init": {"accuracy": 0.21, "spread": spread(0.19, 0.22, 0.007)},
        "silhouette": {"clusters": 0.12, "classes": 0.03},
        "curve": [
            {"k": 2, "inertia": 9.0, "silhouette": 0.17},
            {"k": 5, "inertia": 7.0, "silhouette": 0.21},
            {"k": 10, "inertia": 6.0, "silhouette": 0.12},
            {"k": 20, "inertia": 5.0, "silhouette": 0.10},
        ],
        "suggested_k": 5,
    },
    "knn": {"val_top1": 0.53, "k": 10, "temperature": 0.1},
    "knn_protocols": [
        {"name": "a", "k_asked": 200, "k": 90, "temperature": 0.07, "val_top1": 0.48},
        {"name": "b", "k_asked": 20, "k": 20, "temperature": 0.07, "val_top1": 0.52},
        {"name": "c", "k_asked": 5, "k": 5, "temperature": 0.07, "val_top1": 0.51},
    ],
    "test": {
        "map_quality": {
            "supervised": {"tsne": quality(0.97, 0.55)},
            "finetuned": {"tsne": quality(0.98, 0.63)},
            "pretrained": {"tsne": quality(0.96, 0.44)},
            "random_init": {"tsne": quality(0.98, 0.21)},
        },
        "knn_protocols": [{"k_asked": 200, "k": 90, "temperature": 0.07, "test_top1": 0.47}],
    },
}


def changed(value: Any, *keys: str) -> dict[str, Any]:
    features = copy.deepcopy(FEATURES)
    place = features
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return features


def text_of(sentences: list[str]) -> str:
    return " ".join(sentences)


def test_the_numbers_are_in_the_sentences_and_each_ends() -> None:
    sentences = feature_sentences(FEATURES)
    text = text_of(sentences)
    for number in (
        "0.960",
        "0.970",
        "38.0%",
        "45.0%",
        "22.0%",
        "41.0%",
        "14.2%",
        "43.0%",
        "1.8 points",
        "0.12",
        "0.21",
    ):
        assert number in text
    assert all(sentence.endswith(".") and ".." not in sentence and "–" not in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("trust", "amount"),
    [(0.95, "nearly all neighbours on the map"), (0.85, "most neighbours on the map"), (0.84, "by far not all")],
)
def test_trustworthiness_falls_into_its_band(trust: float, amount: str) -> None:
    sentences = map_sentences(changed(trust, "map_quality", "pretrained", "tsne", "trustworthiness"))
    assert amount in sentences[0]
    assert ("Read groups, not single points" in sentences[0]) == (trust < 0.85)


@pytest.mark.parametrize(
    ("untrained", "how"), [(0.96, "equally well"), (0.93, "less faithfully"), (0.985, "more faithfully")]
)
def test_the_untrained_map_is_compared(untrained: float, how: str) -> None:
    sentence = map_sentences(changed(untrained, "map_quality", "random_init", "tsne", "trustworthiness"))[0]
    assert f"drawn {how} ({untrained:.3f})" in sentence


@pytest.mark.parametrize(
    ("untrained", "judged", "how"),
    [
        (0.22, 1000, "more than the 22.0%"),
        (0.60, 1000, "fewer than the 60.0%"),
        (0.42, 1000, "not clearly different from the 42.0%"),
        (0.42, 10_000, "more than the 42.0%"),
    ],
)
def test_shares_of_neighbours_differ_beyond_two_standard_errors(untrained: float, judged: int, how: str) -> None:
    features = copy.deepcopy(FEATURES)
    for model, share in (("pretrained", 0.45), ("random_init", untrained)):
        features["map_quality"][model]["tsne"] |= {"purity_features": share, "judged": judged}
    assert how in map_sentences(features)[-1]


@pytest.mark.parametrize(
    ("share", "how"), [(0.45, "as the features hold them"), (0.2, "mixes classes"), (0.7, "parts the classes more")]
)
def test_purity_on_the_map_is_compared_with_the_features(share: float, how: str) -> None:
    assert how in map_sentences(changed(share, "map_quality", "pretrained", "tsne", "purity_map"))[-1]


@pytest.mark.parametrize(
    ("finetuned", "how"), [(0.63, "more than the baseline"), (0.45, "less than"), (0.56, "no clear difference")]
)
def test_tested_backbones_are_compared(finetuned: float, how: str) -> None:
    features = changed({"tsne": quality(0.98, finetuned)}, "test", "map_quality", "finetuned")
    [sentence] = map_sentences_on_test(features)
    assert how in sentence
    assert sentence.index("baseline 55.0%") < sentence.index("fine-tuned model") < sentence.index("untrained backbone")


def test_clusters_are_beyond_chance_only_above_every_shuffle() -> None:
    assert "beyond chance" in text_of(cluster_sentences(FEATURES))
    assert "no better than chance" in text_of(cluster_sentences(changed(0.155, "kmeans", "accuracy")))
    assert "beyond chance" in text_of(cluster_sentences(changed(0.156, "kmeans", "accuracy")))


@pytest.mark.parametrize(
    ("low", "high", "how"), [(0.19, 0.22, "does better"), (0.3, 0.37, "ranges overlap"), (0.44, 0.5, "does worse")]
)
def test_clusters_are_compared_with_the_untrained_by_ranges_of_starts(low: float, high: float, how: str) -> None:
    found = {"accuracy": high, "spread": spread(low, high, 0.01)}
    assert how in text_of(cluster_sentences(changed(found, "kmeans", "random_init")))


def test_starts_that_disagree_are_named() -> None:
    assert "partly luck" not in text_of(cluster_sentences(FEATURES))
    assert "partly luck" in text_of(cluster_sentences(changed(0.031, "kmeans", "spread", "accuracy", "std")))


@pytest.mark.parametrize(
    ("value", "how"), [(0.25, "overlap"), (0.4, "part weakly"), (0.6, "reasonably"), (0.8, "part clearly")]
)
def test_silhouette_falls_into_its_band(value: float, how: str) -> None:
    assert how in text_of(silhouette_sentences(changed(value, "kmeans", "silhouette", "clusters")))


def test_classes_that_lie_in_each_other_are_named() -> None:
    assert "0.03." in text_of(silhouette_sentences(FEATURES))
    text = text_of(silhouette_sentences(changed(-0.02, "kmeans", "silhouette", "classes")))
    assert "−0.02: on average an image is no nearer to its own class" in text


def test_the_suggested_number_and_whether_it_stands_out() -> None:
    text = text_of(curve_sentences(FEATURES))
    assert "2, 5, 10 and 20" in text
    assert "highest at 5 (0.21)" in text
    assert "no number of clusters fits well" in text
    assert "fewer than the 10 used" in text

    def best_at(k: int, height: float, beside: float) -> str:
        curve = [{"k": one, "silhouette": height if one == k else beside} for one in (2, 5, 10, 20)]
        features = changed(curve, "kmeans", "curve")
        features["kmeans"]["suggested_k"] = k
        return text_of(curve_sentences(features))

    assert "within 0.01 of it at 2, 5 and 20" in best_at(10, 0.500, 0.495)
    assert "within 0.01" not in best_at(10, 0.5, 0.4)
    assert "fits well" not in best_at(10, 0.5, 0.4)
    assert "That is the number used above." in best_at(10, 0.5, 0.4)
    assert "largest one tried" in best_at(20, 0.5, 0.4)
    assert "more than the 10 used above." in best_at(20, 0.5, 0.4)
    assert "smallest one tried" in best_at(2, 0.5, 0.4)


def test_protocols_of_knn_name_k_and_what_was_lowered() -> None:
    validation, test = knn_sentences(FEATURES)
    assert "48.0% with k = 200, 52.0% with k = 20 and 51.0% with k = 5 of the validation images" in validation
    assert "k = 10 and T = 0.1, chosen on the training images, 53.0%" in validation
    assert "only 90 training images: for k = 200 all of them vote" in validation
    assert "47.0% with k = 200 of the test images" in test
    assert "only" not in text_of(knn_sentences({"knn_protocols": FEATURES["knn_protocols"][1:]}))


def test_an_older_run_and_one_without_maps_say_what_they_have() -> None:
    assert feature_sentences({}) == []
    assert feature_sentences({"linear_probe": {"val_top1": 0.5}, "knn": FEATURES["knn"]}) == []
    old = {
        "tsne": {"trustworthiness": 0.962, "perplexity": 30},
        "kmeans": {"clusters": 10, "accuracy": 0.4, "accuracy_shuffled": 0.14, "random_init": {"accuracy": 0.25}},
    }
    text = text_of(feature_sentences(old))
    assert "trustworthiness is 0.962 of 1, so nearly all" in text
    assert "against 14.0% with shuffled labels, so beyond chance" in text
    assert "reach 25.0%, 15.0 points less" in text
    assert [key for key in ("continuity", "silhouette", "starts", "kNN") if key in text] == []
    without_maps = {key: FEATURES[key] for key in ("knn", "knn_protocols")}
    assert feature_sentences(without_maps) == knn_sentences(FEATURES)[:1]


def test_no_key_is_needed() -> None:
    """Each value left out, or of another kind, in turn: sentences may go, nothing breaks."""

    def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path] * bool(path) + [deep for key, one in inner for deep in paths(one, (*path, key))]

    for path in paths(FEATURES):
        for other in (None, "text", [], {}):
            features = changed(other, *path)
            assert all(isinstance(one, str) and "None" not in one for one in feature_sentences(features)), path
    assert json.loads(json.dumps(FEATURES)) == FEATURES


def test_the_knn_chosen_here_has_its_test_accuracy_beside_those_of_papers() -> None:
    for tested, told in (({}, "–"), ({"knn_test_top1": 0.512}, "51.2%")):
        table = knn_protocols({**FEATURES, "test": {**FEATURES["test"], **tested}})
        assert table is not None
        assert (table.rows[-1][0], table.rows[-1][-1]) == ("chosen here", told)
