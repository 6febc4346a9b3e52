from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation import probes
from twoviews.evaluation.probes import choose_linear_probe, fit_linear_probe, stratified_folds


def reference(features, labels, c):
    scaler = StandardScaler().fit(features.astype(np.float64))
    model = LogisticRegression(C=c, solver="newton-cg", tol=1e-8, max_iter=5_000)
    return scaler, model.fit(scaler.transform(features.astype(np.float64)), labels)


@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0, 10.0])
@pytest.mark.parametrize(("images", "dimensions"), [(300, 40), (60, 150)])
def test_the_fit_is_scikit_learns_optimum(blobs, images, dimensions, c):
    features, labels = blobs(images, dimensions, 4, separation=0.7)
    probe = fit_linear_probe(features, labels, 4, c)
    scaler, model = reference(features, labels, c)
    np.testing.assert_allclose(probe.mean, scaler.mean_, rtol=1e-5)
    np.testing.assert_allclose(probe.scale, scaler.scale_, rtol=1e-5)
    size = np.abs(model.coef_).max()
    np.testing.assert_allclose(probe.weight, model.coef_, atol=2e-3 * size)
    # Softmax leaves a common shift of the intercepts free.
    np.testing.assert_allclose(probe.bias, model.intercept_ - model.intercept_.mean(), atol=2e-3)
    fresh, _ = blobs(200, dimensions, 4, separation=0.7, seed=1)
    expected = model.predict_proba(scaler.transform(fresh.astype(np.float64)))
    np.testing.assert_allclose(probe.scores(fresh), expected, atol=2e-3)


def test_two_classes_are_scikit_learns_with_twice_the_c(blobs):
    features, labels = blobs(120, 20, 2, separation=0.4)
    scaler, model = reference(features, labels, 0.2)
    expected = model.predict_proba(scaler.transform(features.astype(np.float64)))
    np.testing.assert_allclose(fit_linear_probe(features, labels, 2, 0.1).scores(features), expected, atol=1e-3)


def test_unequal_class_sizes_and_an_absent_class(blobs):
    features, labels = blobs(200, 10, 4)
    kept = (labels != 2) & ((labels != 3) | (np.arange(200) % 3 == 0))
    probe = fit_linear_probe(features[kept], labels[kept], 4, 0.1)
    scaler, model = reference(features[kept], labels[kept], 0.1)
    scores = probe.scores(features)
    np.testing.assert_array_equal(scores[:, 2], 0.0)
    expected = model.predict_proba(scaler.transform(features.astype(np.float64)))
    np.testing.assert_allclose(scores[:, [0, 1, 3]], expected, atol=1e-3)
    assert np.isfinite(probe.bias).all()


def test_scores_are_probabilities_and_predict_is_their_largest(blobs):
    features, labels = blobs(90, 8, 3)
    probe = fit_linear_probe(features, labels, 3, 1.0)
    scores = probe.scores(features.astype(np.float16))
    assert scores.shape == (90, 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(probe.predict(features.astype(np.float16)), scores.argmax(axis=1))


def test_units_of_a_dimension_do_not_matter_and_a_constant_one_is_ignored(blobs):
    features, labels = blobs(100, 12, 3)
    plain = fit_linear_probe(features, labels, 3, 0.1)
    scaled = features * np.logspace(-3, 3, 12, dtype=np.float32) + 5.0
    scaled = np.concatenate([scaled, np.full((100, 1), 0.1, dtype=np.float32)], axis=1)
    probe = fit_linear_probe(scaled, labels, 3, 0.1)
    np.testing.assert_allclose(probe.scores(scaled), plain.scores(features), atol=2e-2)
    np.testing.assert_array_equal(probe.weight[:, -1], 0.0)


def test_collapsed_features_give_the_class_frequencies():
    labels = np.array([0, 0, 0, 1])
    scores = fit_linear_probe(np.full((4, 5), 0.3, dtype=np.float32), labels, 2, 1.0).scores(np.ones((1, 5)))
    np.testing.assert_allclose(scores, [[0.75, 0.25]], atol=1e-4)


def test_the_sweep_equals_cross_validation_by_hand(blobs):
    features, labels = blobs(103, 15, 3, separation=0.5)
    strengths = (1.0, 1e-4, 1e-2)
    probe, rows = choose_linear_probe(features, labels, 3, strengths, folds=4, seed=3)
    assert [row["c"] for row in rows] == [1e-4, 1e-2, 1.0]
    fold_of = stratified_folds(labels, 4, seed=3)
    for row in rows:
        correct = 0
        for fold in range(4):
            out = fold_of == fold
            scaler, model = reference(features[~out], labels[~out], row["c"])
            correct += np.sum(model.predict(scaler.transform(features[out])) == labels[out])
        assert row["cv_top1"] == pytest.approx(correct / 103, abs=1.5 / 103)
    best = max(rows, key=lambda row: (row["cv_top1"], -row["cv_cross_entropy"]))
    assert probe.c == best["c"]
    refit = fit_linear_probe(features, labels, 3, probe.c)
    np.testing.assert_array_equal(probe.weight, refit.weight)


def test_regularisation_is_chosen_where_it_is_needed(blobs):
    features, labels = blobs(60, 200, 2, separation=0.25)
    _, rows = choose_linear_probe(features, labels, 2)
    losses = [row["cv_cross_entropy"] for row in rows]
    assert losses[-1] > min(losses) + 0.2


def test_validation_images_decide_instead(blobs):
    features, labels = blobs(80, 10, 2, separation=0.3)
    val_features, val_labels = blobs(50, 10, 2, separation=0.3, seed=9)
    probe, rows = choose_linear_probe(features, labels, 2, val=(val_features, val_labels))
    for row in rows:
        accuracy = np.mean(fit_linear_probe(features, labels, 2, row["c"]).predict(val_features) == val_labels)
        assert row["val_top1"] == pytest.approx(accuracy, abs=1e-9)
    assert max(row["val_top1"] for row in rows) == np.mean(probe.predict(val_features) == val_labels)


def test_no_held_out_number_reaches_the_fit_that_is_scored_on_it(blobs, monkeypatch):
    features, labels = blobs(20, 6, 2)
    seen: list[set[float]] = []
    scored: list[set[float]] = []
    real_path, real_trial = probes._path, probes._trial

    def path(features, *rest, **named):
        seen.append(set(features.ravel().tolist()))
        return real_path(features, *rest, **named)

    def trial(probe, features, labels):
        scored.append(set(features.ravel().tolist()))
        return real_trial(probe, features, labels)

    features = features + np.arange(features.size, dtype=np.float32).reshape(features.shape)
    monkeypatch.setattr(probes, "usable_cpus", lambda: 1)
    monkeypatch.setattr(probes, "_path", path)
    monkeypatch.setattr(probes, "_trial", trial)
    choose_linear_probe(features, labels, 2, strengths=[1.0], folds=5)
    assert len(seen) == 6  # five folds and the final fit
    assert all(not train & out for train, out in zip(seen, scored, strict=False))
    assert set().union(*scored) == seen[-1]


def test_folds_are_stratified_balanced_and_seeded():
    labels = np.repeat([0, 1, 2, 3], [11, 7, 2, 1])
    fold_of = stratified_folds(labels, 3, seed=0)
    for label in (0, 1, 2):
        sizes = np.bincount(fold_of[labels == label], minlength=3)
        assert sizes.max() - sizes.min() <= 1
    overall = np.bincount(fold_of[fold_of >= 0], minlength=3)
    assert overall.max() - overall.min() <= 1
    assert fold_of[labels == 3].tolist() == [-1]
    np.testing.assert_array_equal(fold_of, stratified_folds(labels, 3, seed=0))
    assert not np.array_equal(fold_of, stratified_folds(labels, 3, seed=1))


@pytest.mark.parametrize("cores", [1, 3])
def test_the_number_of_cores_does_not_change_a_digit(blobs, monkeypatch, cores):
    features, labels = blobs(60, 30, 3)
    expected_probe, expected_rows = choose_linear_probe(features, labels, 3, seed=5)
    monkeypatch.setattr(probes, "usable_cpus", lambda: cores)
    probe, rows = choose_linear_probe(features, labels, 3, seed=5)
    np.testing.assert_array_equal(probe.weight, expected_probe.weight)
    assert rows == expected_rows


def test_tiny_sets(blobs):
    features, labels = blobs(10, 64, 2, separation=2.0)
    probe, rows = choose_linear_probe(features, labels, 2)
    assert len(rows) == len(probes.DEFAULT_STRENGTHS)
    assert np.mean(probe.predict(features) == labels) == 1.0
    probe, rows = choose_linear_probe(features[:2], labels[:2], 2)  # one image a class: nothing to hold out
    assert rows == []
    np.testing.assert_array_equal(probe.predict(features[:2]), [0, 1])


def test_what_cannot_be_fitted_is_refused_in_one_line(blobs):
    features, labels = blobs(10, 4, 2)
    broken = features.copy()
    broken[7, 1] = np.nan
    with pytest.raises(DataError, match=r"first in row 7") as caught:
        choose_linear_probe(broken, labels, 2)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="at least two classes"):
        fit_linear_probe(features, np.zeros(10, dtype=np.int64), 2, 1.0)
    with pytest.raises(DataError, match="need 10 labels"):
        fit_linear_probe(features, labels[:9], 2, 1.0)
    with pytest.raises(DataError, match="not one of the 2 classes"):
        fit_linear_probe(features, labels + 1, 2, 1.0)
    with pytest.raises(DataError, match="don't fit this probe"):
        fit_linear_probe(features, labels, 2, 1.0).scores(features[:, :3])
    with pytest.raises(SettingsError, match="above 0"):
        fit_linear_probe(features, labels, 2, 0.0)
    with pytest.raises(SettingsError, match="at least one"):
        choose_linear_probe(features, labels, 2, strengths=[])
    with pytest.raises(SettingsError, match="at least 2"):
        choose_linear_probe(features, labels, 2, folds=1)
