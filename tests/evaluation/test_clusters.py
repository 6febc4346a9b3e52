from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation import clusters
from twoviews.evaluation.clusters import (
    Spread,
    cluster_agreement,
    joined,
    kmeans_clusters,
    kmeans_starts,
    lowest_inertia,
    shuffled_agreement,
    spread_over_starts,
)


def test_clear_classes_are_found_whatever_the_length_of_features(blobs):
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = np.eye(3, 8)[labels] + 0.05 * generator.standard_normal((90, 8))
    features *= np.exp(2.0 * generator.standard_normal((90, 1)))
    found = kmeans_clusters(features, 3)
    agreement = cluster_agreement(found.assignments, labels, 3)
    assert agreement.accuracy == agreement.ari == 1.0
    np.testing.assert_array_equal(agreement.mapping[found.assignments], labels)


def test_each_image_is_in_its_nearest_cluster_and_centres_are_means(blobs):
    features, _ = blobs(200, 16, 4)
    found = kmeans_clusters(features, 4, seed=1)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - found.centres, axis=2)
    np.testing.assert_array_equal(found.assignments, distances.argmin(axis=1))
    np.testing.assert_allclose(found.distances, distances.min(axis=1), rtol=1e-4)
    for cluster in range(4):
        np.testing.assert_allclose(found.centres[cluster], unit[found.assignments == cluster].mean(axis=0), atol=1e-3)


def test_more_starts_are_not_worse_and_a_seed_decides(blobs):
    features, _ = blobs(150, 16, 8, separation=0.5)
    spread = {starts: np.sum(kmeans_clusters(features, 8, 3, starts).distances ** 2) for starts in (1, 10)}
    assert spread[10] <= spread[1] * (1 + 1e-6)
    one, same = kmeans_clusters(features, 8, 3), kmeans_clusters(features, 8, 3)
    np.testing.assert_array_equal(one.assignments, same.assignments)
    np.testing.assert_array_equal(one.distances, same.distances)


def test_agreement_equals_the_best_of_all_mappings():
    generator = np.random.default_rng(0)
    assignments, labels = generator.integers(0, 4, 50), generator.integers(0, 4, 50)
    agreement = cluster_agreement(assignments, labels, 4)
    best = max(np.mean(np.array(mapping)[assignments] == labels) for mapping in permutations(range(4)))
    assert agreement.accuracy == pytest.approx(best)
    assert np.mean(agreement.mapping[assignments] == labels) == pytest.approx(best)
    assert agreement.nmi == pytest.approx(normalized_mutual_info_score(labels, assignments))
    assert agreement.ari == pytest.approx(adjusted_rand_score(labels, assignments))


def test_more_clusters_than_classes_and_fewer():
    labels = np.array([0, 0, 0, 1, 1, 1])
    more = cluster_agreement(np.array([0, 0, 1, 2, 2, 2]), labels, 2)
    assert more.mapping.tolist() == [0, -1, 1]
    assert more.accuracy == pytest.approx(5 / 6)
    fewer = cluster_agreement(np.zeros(6, dtype=np.int64), labels, 2)
    assert fewer.accuracy == 0.5
    assert fewer.ari == 0.0


def test_shuffled_agreement_is_chance(blobs):
    labels = np.arange(600) % 3
    shuffled = shuffled_agreement(labels, labels, 3, seed=1)
    assert 1 / 3 < shuffled.accuracy.mean < 0.42  # the mapping is chosen afterwards, so a little above 1/3
    assert abs(shuffled.ari.mean) < 0.01
    assert 0 < shuffled.nmi.mean < 0.01
    assert shuffled == shuffled_agreement(labels, labels, 3, seed=1)
    assert shuffled != shuffled_agreement(labels, labels, 3, seed=2)


def test_shuffled_agreement_has_mean_and_spread_over_repeats():
    labels = np.arange(30) % 3
    generator = np.random.default_rng(7)
    by_hand = [cluster_agreement(labels, generator.permutation(labels), 3) for _ in range(5)]
    found = shuffled_agreement(labels, labels, 3, seed=7, repeats=5)
    for measure in ("accuracy", "nmi", "ari"):
        values = [getattr(one, measure) for one in by_hand]
        expected = Spread(np.mean(values), np.std(values, ddof=1), min(values), max(values))
        assert getattr(found, measure) == pytest.approx(expected)
    assert shuffled_agreement(labels, labels, 3, repeats=1).accuracy.std == 0.0


def test_starts_differ_and_the_one_of_lowest_inertia_is_chosen(blobs):
    features, labels = blobs(150, 16, 8, separation=0.5)
    starts = kmeans_starts(features, 8, seed=3, starts=6)
    assert len({found.assignments.tobytes() for found in starts}) > 1
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for found in starts:
        assert found.inertia == pytest.approx(np.sum((unit - found.centres[found.assignments]) ** 2), rel=1e-5)
    assert lowest_inertia(starts).inertia == min(found.inertia for found in starts)
    chosen = kmeans_clusters(features, 8, seed=3, starts=6)
    np.testing.assert_array_equal(chosen.assignments, lowest_inertia(starts).assignments)
    spread = spread_over_starts(starts, labels, 8)
    values = [cluster_agreement(found.assignments, labels, 8).nmi for found in starts]
    assert spread.nmi == pytest.approx(Spread(np.mean(values), np.std(values, ddof=1), min(values), max(values)))
    # A start is the same whatever number of them is asked for.
    np.testing.assert_array_equal(kmeans_starts(features, 8, seed=3, starts=2)[1].centres, starts[1].centres)


def test_of_many_images_some_move_the_centres_and_all_join_one(blobs, monkeypatch):
    features, _ = blobs(300, 16, 3, separation=3.0)
    whole = kmeans_clusters(features, 3)
    monkeypatch.setattr(clusters, "MOST_FITTED", 75)
    found = kmeans_clusters(features, 3)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - found.centres, axis=2)
    np.testing.assert_array_equal(found.assignments, distances.argmin(axis=1))
    np.testing.assert_allclose(found.centres[0], unit[::4][found.assignments[::4] == 0].mean(axis=0), atol=1e-3)
    assert cluster_agreement(found.assignments, whole.assignments, 3).accuracy > 0.97
    assert found.inertia >= whole.inertia * (1 - 1e-6)


@pytest.mark.filterwarnings("error")
def test_equal_images_leave_clusters_empty():
    found = kmeans_clusters(np.ones((10, 4)), 3)
    assert len(set(found.assignments.tolist())) == 1
    assert found.centres.shape == (3, 4)
    np.testing.assert_allclose(found.distances, 0.0, atol=1e-6)


def test_what_cannot_be_clustered_is_refused(blobs):
    features, labels = blobs(10, 4, 2)
    with pytest.raises(DataError, match="11 clusters of 10 images"):
        kmeans_clusters(features, 11)
    with pytest.raises(DataError, match="aren't finite"):
        kmeans_clusters(np.full((10, 4), np.nan), 2)
    with pytest.raises(DataError, match="no images"):
        cluster_agreement(labels[:0], labels[:0], 2)
    with pytest.raises(DataError, match="not one of the 2 classes"):
        cluster_agreement(labels, labels - 1, 2)
    with pytest.raises(DataError, match="counted from 0"):
        cluster_agreement(labels - 1, labels, 2)
    with pytest.raises(SettingsError, match="at least 1"):
        kmeans_clusters(features, 0)
    with pytest.raises(SettingsError, match="shuffled 0 times"):
        shuffled_agreement(labels, labels, 2, repeats=0)


def test_images_that_join_change_no_cluster(blobs, monkeypatch):
    monkeypatch.setattr(clusters, "TILE_NUMBERS", 16 * 7)  # several tiles, the last one short
    features, _ = blobs(200, 16, 4)
    found = kmeans_clusters(features[:150], 4, starts=2)
    whole = joined(features[150:], found)
    np.testing.assert_array_equal(whole.centres, found.centres)
    np.testing.assert_array_equal(whole.assignments[:150], found.assignments)
    np.testing.assert_array_equal(whole.distances[:150], found.distances)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - found.centres, axis=2)
    np.testing.assert_array_equal(whole.assignments, distances.argmin(axis=1))
    np.testing.assert_allclose(whole.distances, distances.min(axis=1), rtol=1e-4)
    assert whole.inertia == pytest.approx(np.sum(distances.min(axis=1) ** 2), rel=1e-4)
    assert len(joined(features[:0], found).assignments) == 150
    with pytest.raises(DataError, match="row 1"):
        joined(np.array([features[0], features[1] * np.nan]), found)
