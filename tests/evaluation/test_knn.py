from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation import knn, nearest
from twoviews.evaluation.knn import KNN, PROTOCOL_KS, choose_knn, protocol_predictions


def reference(features, labels, k, temperature):
    model = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / temperature)
    )
    return model.fit(features.astype(np.float64), labels)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (50, 0.2), (120, 1.0)])
@pytest.mark.parametrize("tile", [1 << 23, 700])
def test_scores_are_scikit_learns(blobs, monkeypatch, tile, k, temperature):
    monkeypatch.setattr(nearest, "TILE_NUMBERS", tile)
    features, labels = blobs(120, 16, 3, separation=0.5)
    queries, _ = blobs(45, 16, 3, separation=0.5, seed=1)
    model = KNN.of(features, labels, 3, k, temperature)
    expected = reference(features, labels, k, temperature).predict_proba(queries.astype(np.float64))
    np.testing.assert_allclose(model.scores(queries), expected, atol=1e-4)
    np.testing.assert_array_equal(model.predict(queries), model.scores(queries).argmax(axis=1))


@pytest.mark.parametrize("tile", [1 << 23, 300])
def test_the_sweep_equals_leaving_each_image_out(blobs, monkeypatch, tile):
    monkeypatch.setattr(nearest, "TILE_NUMBERS", tile)
    features, labels = blobs(60, 30, 3, separation=0.4)
    model, rows = choose_knn(features, labels, 3, ks=(1, 4, 15), temperatures=(0.07, 0.5))
    assert [(row["k"], row["temperature"]) for row in rows] == [(k, t) for k in (1, 4, 15) for t in (0.07, 0.5)]
    for row in rows:
        correct = 0
        for left_out in range(60):
            others = np.arange(60) != left_out
            one = reference(features[others], labels[others], int(row["k"]), row["temperature"])
            correct += one.predict(features[left_out : left_out + 1])[0] == labels[left_out]
        assert row["cv_top1"] == correct / 60
    best = max(rows, key=lambda row: row["cv_top1"])
    assert (model.k, model.temperature) == (best["k"], best["temperature"])


def test_an_image_does_not_vote_for_itself():
    # Nearest other image always has the other label: leave-one-out must be always wrong.
    angles = np.deg2rad([0.0, 1.0, 90.0, 91.0, 180.0, 181.0])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    _, rows = choose_knn(features, np.array([0, 1, 0, 1, 0, 1]), 2, ks=(1,))
    assert {row["cv_top1"] for row in rows} == {0.0}


def test_k_is_lowered_to_the_images_there_are(blobs):
    features, labels = blobs(10, 8, 2, separation=2.0)
    model, rows = choose_knn(features, labels, 2)
    assert {row["k"] for row in rows} == {1.0, 5.0, 9.0}
    assert model.k <= 9
    assert KNN.of(features, labels, 2, 200, 0.07).k == 10


def test_beyond_the_limit_evenly_spaced_images_are_left_out_in_turn(blobs, monkeypatch):
    features, labels = blobs(200, 8, 2, separation=0.2)
    monkeypatch.setattr(knn, "MOST_QUERIES", 10)
    _, rows = choose_knn(features, labels, 2, ks=(3,), temperatures=(0.1,))
    correct = 0
    for left_out in range(0, 200, 20):
        others = np.arange(200) != left_out
        one = reference(features[others], labels[others], 3, 0.1)
        correct += one.predict(features[left_out : left_out + 1])[0] == labels[left_out]
    assert rows[0]["cv_top1"] == correct / 10


def test_length_does_not_matter_and_a_tiny_temperature_is_the_nearest_image(blobs):
    features, labels = blobs(80, 30, 4)
    queries, _ = blobs(30, 30, 4, seed=2)
    lengths = np.linspace(1e-6, 1e6, 80, dtype=np.float32)[:, None]
    one = KNN.of(features, labels, 4, 1, 0.07)
    many = KNN.of(features * lengths, labels, 4, 40, 1e-6)
    np.testing.assert_array_equal(one.predict(queries), many.predict(queries))
    assert np.isfinite(many.scores(queries)).all()


@pytest.mark.parametrize("tile", [1 << 23, 700])
def test_each_protocol_is_the_knn_of_its_numbers(blobs, monkeypatch, tile):
    monkeypatch.setattr(nearest, "TILE_NUMBERS", tile)
    features, labels = blobs(260, 16, 4, separation=0.4)
    queries, truth = blobs(70, 16, 4, separation=0.4, seed=1)
    found = protocol_predictions(features, labels, 4, queries)
    assert [one.k_asked for one in found] == [one.k for one in found] == list(PROTOCOL_KS) == [200, 20, 5]
    assert len({one.name for one in found}) == 3
    for one in found:
        assert f"k = {one.k_asked}, T = 0.07" in one.name
        expected = reference(features, labels, one.k, 0.07).predict(queries.astype(np.float64))
        np.testing.assert_array_equal(one.predictions, expected)
        np.testing.assert_array_equal(one.predictions, KNN.of(features, labels, 4, one.k, 0.07).predict(queries))
    assert len({np.mean(one.predictions == truth) for one in found}) > 1


def test_protocols_lower_k_to_the_images_there_are_and_say_so(blobs):
    features, labels = blobs(12, 8, 2)
    queries, _ = blobs(9, 8, 2, seed=1)
    found = protocol_predictions(features, labels, 2, queries)
    assert [(one.k_asked, one.k) for one in found] == [(200, 12), (20, 12), (5, 5)]
    np.testing.assert_array_equal(found[0].predictions, found[1].predictions)
    assert [len(one.predictions) for one in protocol_predictions(features, labels, 2, queries[:0])] == [0, 0, 0]


def test_features_without_length_still_give_shares():
    model = KNN.of(np.zeros((4, 3)), np.array([0, 0, 0, 1]), 2, 4, 0.1)
    np.testing.assert_allclose(model.scores(np.zeros((1, 3))), [[0.75, 0.25]])


def test_what_cannot_vote_is_refused(blobs):
    features, labels = blobs(10, 4, 2)
    with pytest.raises(DataError, match="at least 2"):
        choose_knn(features[:1], labels[:1], 2)
    with pytest.raises(DataError, match="aren't finite"):
        choose_knn(np.full((10, 4), np.inf), labels, 2)
    with pytest.raises(DataError, match="don't fit this kNN"):
        KNN.of(features, labels, 2, 3, 0.1).scores(features[:, :2])
    with pytest.raises(DataError, match="can't be neighbours"):
        protocol_predictions(features, labels, 2, features[:, :2])
    with pytest.raises(SettingsError, match="at least one neighbour"):
        choose_knn(features, labels, 2, ks=(0, 5))
    with pytest.raises(SettingsError, match="above 0"):
        KNN.of(features, labels, 2, 3, 0.0)
