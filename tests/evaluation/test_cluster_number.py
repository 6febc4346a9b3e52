from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation import cluster_number
from twoviews.evaluation.cluster_number import ClusterCurvePoint, cluster_curve, curve_values, silhouette, suggested_k
from twoviews.evaluation.clusters import kmeans_clusters


@pytest.mark.parametrize("tile", [1 << 23, 100])
@pytest.mark.parametrize("groups", [2, 3, 25])
def test_silhouette_is_scikit_learns(blobs, monkeypatch, tile, groups):
    monkeypatch.setattr(cluster_number, "TILE_NUMBERS", tile)
    features, labels = blobs(90, 16, 3)
    divided = np.random.default_rng(0).integers(0, groups, 90) * 7 - 4
    for division in (divided, labels):
        expected = silhouette_score(features.astype(np.float64), division, metric="cosine")
        assert silhouette(features, division) == pytest.approx(expected, abs=1e-6)


def test_silhouette_with_images_alone_and_rows_of_zeros(blobs):
    features, labels = blobs(40, 8, 2)
    labels[3], labels[7] = 5, 6
    features[[0, 1, 10]] = 0.0
    expected = silhouette_score(features.astype(np.float64), labels, metric="cosine")
    assert silhouette(features, labels) == pytest.approx(expected, abs=1e-6)
    assert silhouette(features, np.arange(40)) == 0.0


def test_silhouette_of_groups_far_apart_of_mixed_ones_and_of_one():
    features = np.repeat(np.eye(3), 5, axis=0)
    assert silhouette(features, np.arange(15) // 5) == pytest.approx(1.0)
    assert silhouette(features, np.arange(15) % 5) < 0.1
    assert silhouette(features, np.zeros(15, dtype=np.int64)) is None
    assert silhouette(np.ones((6, 3)), np.arange(6) % 2) == pytest.approx(0.0, abs=1e-6)


def test_length_does_not_matter(blobs):
    features, labels = blobs(60, 16, 3)
    lengths = np.exp(np.random.default_rng(0).standard_normal((60, 1)))
    assert silhouette(features * lengths, labels) == pytest.approx(silhouette(features, labels), abs=1e-6)


def test_the_curve_finds_the_number_of_clear_groups():
    generator = np.random.default_rng(0)
    features = np.eye(5, 40)[np.arange(200) % 5] + 0.05 * generator.standard_normal((200, 40))
    curve = cluster_curve(features, curve_values(5, 200))
    assert suggested_k(curve) == 5
    assert all(later.inertia < former.inertia for former, later in pairwise(curve))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    at_five = next(point for point in curve if point.k == 5)
    means = np.stack([unit[group::5].mean(axis=0) for group in range(5)])
    assert at_five.inertia == pytest.approx(np.sum((unit - means[np.arange(200) % 5]) ** 2), rel=1e-5)
    assert at_five.silhouette == pytest.approx(silhouette_score(unit, np.arange(200) % 5, metric="cosine"), abs=1e-5)
    assert cluster_curve(features, [3], seed=1) == cluster_curve(features, [3], seed=1)


def test_where_components_hold_everything_the_curve_is_that_of_k_means(blobs):
    features, _ = blobs(120, 20, 3, separation=3.0)
    [point] = cluster_curve(features, [3])
    found = kmeans_clusters(features, 3)
    assert point.inertia == pytest.approx(found.inertia, rel=1e-4)
    assert point.silhouette == pytest.approx(silhouette(features, found.assignments), abs=1e-4)


def test_of_many_images_some_make_the_curve(blobs, monkeypatch):
    features, _ = blobs(120, 20, 3)
    monkeypatch.setattr(cluster_number, "CURVE_IMAGES", 40)
    assert cluster_curve(features, [2, 3]) == cluster_curve(features[::3], [2, 3])


@pytest.mark.parametrize(("classes", "images"), [(2, 100), (3, 100), (7, 1000), (10, 1000), (100, 5000), (10, 15)])
def test_numbers_of_clusters_reach_from_two_to_twice_the_classes(classes, images):
    values = curve_values(classes, images)
    assert values == sorted(set(values))
    assert values[0] == 2
    assert values[-1] == min(2 * classes, images - 1)
    assert classes in values
    assert len(values) <= 8


def test_numbers_of_clusters_stay_below_the_images():
    assert curve_values(10, 5) == [2, 3, 4]
    assert curve_values(10, 2) == [2]


@pytest.mark.filterwarnings("error")
def test_collapsed_features_suggest_no_number():
    curve = cluster_curve(np.ones((20, 4)), [2, 3, 4])
    assert [point.silhouette for point in curve] == [None, None, None]
    assert [point.inertia for point in curve] == pytest.approx([0.0, 0.0, 0.0], abs=1e-5)
    assert suggested_k(curve) is None


def test_the_smallest_of_equal_numbers_is_suggested():
    curve = [
        ClusterCurvePoint(2, 3.0, None),
        ClusterCurvePoint(3, 2.0, 0.4),
        ClusterCurvePoint(4, 1.5, 0.4),
        ClusterCurvePoint(5, 1.0, 0.1),
    ]
    assert suggested_k(curve) == 3
    assert suggested_k([]) is None


def test_what_cannot_be_judged_is_refused(blobs):
    features, labels = blobs(10, 4, 2)
    with pytest.raises(DataError, match="10 groups"):
        silhouette(features, labels[:9])
    with pytest.raises(DataError, match="aren't finite"):
        silhouette(np.full((10, 4), np.nan), labels)
    with pytest.raises(DataError, match="11 clusters of 10 images"):
        cluster_curve(features, [2, 11])
    with pytest.raises(SettingsError, match="at least 1"):
        cluster_curve(features, [])
    with pytest.raises(SettingsError, match="at least 1"):
        cluster_curve(features, [0, 2])
