from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation import map_quality as module
from twoviews.evaluation.map_quality import MapQuality, map_qualities, map_quality
from twoviews.evaluation.maps import pca_map


def neighbours(points, k):
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points.astype(np.float64))
    return model.kneighbors(return_distance=False)


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("tile", [1 << 23, 700])
def test_every_measure_is_that_of_scikit_learn(blobs, monkeypatch, tile, k):
    monkeypatch.setattr(module, "TILE_NUMBERS", tile)
    features, labels = blobs(120, 30, 3)
    points, _ = pca_map(features)
    found = map_quality(features, points, labels, k)
    # Continuity is trustworthiness with the two sides exchanged.
    assert found.trustworthiness == pytest.approx(trustworthiness(features, points, n_neighbors=k), abs=1e-6)
    assert found.continuity == pytest.approx(trustworthiness(points, features, n_neighbors=k), abs=1e-6)
    near, drawn = neighbours(features, k), neighbours(points, k)
    overlap = np.mean([len(set(a) & set(b)) / k for a, b in zip(near, drawn, strict=True)])
    assert found.overlap == pytest.approx(overlap, abs=1e-9)
    assert found.purity_features == pytest.approx(np.mean(labels[near] == labels[:, None]), abs=1e-9)
    assert found.purity_map == pytest.approx(np.mean(labels[drawn] == labels[:, None]), abs=1e-9)
    assert (found.k, found.images, found.judged) == (k, 120, 120)


def test_a_faithful_map_is_perfect_and_a_random_one_is_at_chance(blobs):
    features, labels = blobs(600, 12, 3)
    same = map_quality(features, features * 3.0 + 1.0, labels)
    assert (same.trustworthiness, same.continuity, same.overlap) == (1.0, 1.0, 1.0)
    assert same.purity_map == same.purity_features
    noise = map_quality(features, np.random.default_rng(0).standard_normal((600, 2)), labels)
    assert noise.trustworthiness == pytest.approx(0.5, abs=0.03)
    assert noise.continuity == pytest.approx(0.5, abs=0.03)
    assert noise.overlap == pytest.approx(noise.overlap_chance, abs=0.01)
    assert noise.purity_map == pytest.approx(noise.purity_chance, abs=0.03)
    assert noise.purity_features > noise.purity_chance + 0.1


def test_purity_by_chance_counts_pairs_of_images():
    labels = np.array([0, 0, 0, 1, 1, 2])
    features = np.random.default_rng(0).standard_normal((6, 4))
    pairs = [labels[i] == labels[j] for i in range(6) for j in range(6) if i != j]
    assert map_quality(features, features[:, :2], labels).purity_chance == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("value", [0.0, 0.1, 3.7])
def test_collapsed_features_look_like_a_random_map_and_not_like_a_perfect_one(blobs, value):
    features, labels = blobs(300, 12, 3)
    points, _ = pca_map(features)
    flat = np.full((300, 12), value, dtype=np.float32)
    for found in (
        map_quality(flat, points, labels),
        map_quality(features, flat[:, :2], labels),
        map_quality(flat, flat[:, :2], labels),
    ):
        assert found.trustworthiness == pytest.approx(0.5, abs=0.05)
        assert found.overlap == pytest.approx(found.overlap_chance, abs=0.01)


def test_ties_count_as_though_broken_at_random():
    # Images 1 and 2 are equally far from image 0 on the tied side: its nearest there is either, with rank 1 or 2.
    tied = np.array([[0.0, 0], [1, 0], [-1, 0], [8, 0], [-8, 0]])
    clear = np.array([[0.0, 0], [1, 0], [-1.5, 0], [8, 0], [-8, 0]])
    labels = np.zeros(5, dtype=np.int64)
    excess = 1 - 2 / (5 * 1 * (2 * 5 - 3 * 1 - 1)) * 0.5
    assert map_quality(tied, clear, labels, k=1).trustworthiness == pytest.approx(excess)
    assert map_quality(clear, tied, labels, k=1).continuity == pytest.approx(excess)
    assert map_quality(clear, tied, labels, k=1).overlap == pytest.approx((0.5 + 4) / 5)


def test_of_many_images_some_are_judged_among_all(blobs, monkeypatch):
    features, labels = blobs(200, 12, 4)
    points, _ = pca_map(features)
    whole = map_quality(features, points, labels, k=5)
    monkeypatch.setattr(module, "MOST_JUDGED", 50)
    some = map_quality(features, points, labels, k=5)
    assert (some.judged, some.images) == (50, 200)
    near, drawn, judged = neighbours(features, 5), neighbours(points, 5), np.arange(0, 200, 4)
    assert some.purity_map == pytest.approx(np.mean(labels[drawn][judged] == labels[judged][:, None]))
    overlap = np.mean([len(set(near[i]) & set(drawn[i])) / 5 for i in judged])
    assert some.overlap == pytest.approx(overlap)
    assert some.trustworthiness == pytest.approx(whole.trustworthiness, abs=0.03)


def test_size_and_place_of_the_features_do_not_matter(blobs):
    features, labels = blobs(150, 12, 3)
    points, _ = pca_map(features)
    expected = map_quality(features, points, labels)
    for scale in (1e-30, 1e30):
        assert map_quality(features * np.float32(scale), points, labels) == pytest.approx(expected, abs=1e-4)
    far = features.astype(np.float64) + 1e4
    assert map_quality(far, points + 100.0, labels) == pytest.approx(expected, abs=2e-3)


def test_several_maps_are_each_as_alone_and_k_is_lowered(blobs):
    features, labels = blobs(8, 12, 2)
    maps = {"a": features[:, :2], "b": features[:, 2:4]}
    found = map_qualities(features, maps, labels)
    assert found == {name: map_quality(features, points, labels) for name, points in maps.items()}
    assert {one.k for one in found.values()} == {3}
    assert map_qualities(features, {}, labels) == {}
    shares = np.array([one for quality in found.values() for one in quality[:7]])
    assert isinstance(found["a"], MapQuality)
    assert np.all((shares >= 0) & (shares <= 1))


def test_what_cannot_be_compared_is_refused(blobs):
    features, labels = blobs(10, 4, 2)
    points = features[:, :2]
    with pytest.raises(DataError, match="doesn't belong"):
        map_quality(features, points[:9], labels)
    with pytest.raises(DataError, match="need 10 labels"):
        map_quality(features, points, labels[:9])
    with pytest.raises(DataError, match="aren't finite"):
        map_quality(features, np.full((10, 2), np.nan), labels)
    with pytest.raises(DataError, match="at least 3"):
        map_quality(features[:2], points[:2], labels[:2])
    with pytest.raises(SettingsError, match="k = 0"):
        map_quality(features, points, labels, k=0)
