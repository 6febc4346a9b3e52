from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.maps import pca_map, principal_components, tsne_map, umap_map


@pytest.mark.parametrize(("images", "dimensions"), [(200, 30), (25, 90)])
def test_pca_is_scikit_learns(blobs, images, dimensions):
    features, _ = blobs(images, dimensions, 3)
    points, ratios = pca_map(features)
    model = PCA(2, svd_solver="full").fit(features.astype(np.float64))
    np.testing.assert_allclose(ratios, model.explained_variance_ratio_, rtol=1e-6)
    expected = model.transform(features.astype(np.float64))
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-3)
    assert points.dtype == np.float32


@pytest.mark.parametrize(("images", "dimensions"), [(200, 30), (25, 90)])
def test_pca_has_one_sign(blobs, images, dimensions):
    features, _ = blobs(images, dimensions, 3)
    points, _ = pca_map(features)
    centred = features - features.mean(axis=0)
    for axis in range(2):
        loadings = points[:, axis] @ centred
        assert loadings[np.abs(loadings).argmax()] > 0
    mirrored, _ = pca_map(-features)
    np.testing.assert_allclose(mirrored, -points @ np.diag(np.sign(np.sum(-points * mirrored, axis=0))), atol=1e-3)
    shuffle = np.random.default_rng(0).permutation(images)
    np.testing.assert_allclose(pca_map(features[shuffle])[0], points[shuffle], atol=1e-3)


def test_pca_of_features_that_do_not_vary_or_have_one_dimension():
    points, ratios = pca_map(np.ones((5, 4)))
    np.testing.assert_array_equal(points, 0.0)
    np.testing.assert_array_equal(ratios, 0.0)
    points, ratios = pca_map(np.arange(5.0)[:, None])
    np.testing.assert_allclose(ratios, [1.0, 0.0])
    np.testing.assert_allclose(points, np.stack([np.arange(5.0) - 2.0, np.zeros(5)], axis=1), atol=1e-6)


def test_components_beyond_the_rank_are_zeros_and_their_squares_add_up(blobs):
    features, _ = blobs(30, 4, 2)
    points, squares, total = principal_components(features, 6)
    assert points.shape == (30, 6)
    np.testing.assert_array_equal(points[:, 4:], 0.0)
    np.testing.assert_allclose(np.sum(points**2, axis=0), squares, rtol=1e-9, atol=1e-9)
    assert squares.sum() == pytest.approx(total)


def test_tsne_keeps_neighbours_and_parts_classes(blobs):
    features, labels = blobs(120, 60, 3, separation=4.0)
    points, perplexity = tsne_map(features, perplexity=15)
    assert points.shape == (120, 2)
    assert perplexity == 15
    assert trustworthiness(features, points) > 0.9
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(labels[distances.argmin(axis=1)] == labels) > 0.97


def test_tsne_is_the_same_again_with_any_number_of_threads(blobs):
    features, _ = blobs(100, 20, 3)
    first = tsne_map(features, seed=4).points
    np.testing.assert_array_equal(first, tsne_map(features, seed=4).points)
    np.testing.assert_array_equal(first, tsne_map(features, seed=4, threads=2).points)


def test_tsne_lies_as_its_start_lies():
    rng = np.random.default_rng(3)
    sheet = rng.uniform(-1, 1, (200, 2)) * [2, 1]
    features = (sheet @ rng.standard_normal((2, 10))).astype(np.float32)
    own = pca_map(features)[0]
    for start, long_axis in ((own, 0), (own * np.float32([-1, 1]), 0), (own[:, ::-1], 1)):
        points = tsne_map(features, start=start).points
        assert np.corrcoef(points[:, long_axis], start[:, long_axis])[0, 1] > 0.9


def test_tsne_lowers_the_perplexity_for_few_images(blobs):
    features, _ = blobs(10, 64, 2)
    points, perplexity = tsne_map(features)
    assert perplexity == 3.0
    assert np.isfinite(points).all()
    assert tsne_map(features[:4]).perplexity == 1.0


def test_tsne_of_equal_images_and_of_collapsed_features(blobs):
    features, _ = blobs(15, 8, 3)
    assert np.isfinite(tsne_map(np.repeat(features, 3, axis=0)).points).all()
    assert np.isfinite(tsne_map(np.ones((40, 8))).points).all()
    assert np.isfinite(tsne_map(features[:, :1]).points).all()


def test_what_cannot_be_mapped_is_refused(blobs):
    features, _ = blobs(10, 4, 2)
    broken = features.copy()
    broken[3, 0] = np.nan
    for function in (pca_map, tsne_map):
        with pytest.raises(DataError, match="row 3"):
            function(broken)
    with pytest.raises(DataError, match="at least 4"):
        tsne_map(features[:3])
    with pytest.raises(DataError, match="at least 2"):
        pca_map(features[:1])
    with pytest.raises(DataError, match="images × dimensions"):
        pca_map(features[0])
    with pytest.raises(SettingsError, match="perplexity"):
        tsne_map(features, perplexity=0.5)


def test_umap_keeps_neighbours_and_is_the_same_again(blobs):
    pytest.importorskip("umap", reason="needs umap-learn: pip install -e '.[umap]'")
    features, labels = blobs(120, 60, 3, separation=4.0)
    points = umap_map(features, seed=4)
    assert points.shape == (120, 2)
    assert points.dtype == np.float32
    assert trustworthiness(features, points) > 0.9
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(labels[distances.argmin(axis=1)] == labels) > 0.97
    np.testing.assert_array_equal(points, umap_map(features, seed=4))
    assert np.isfinite(umap_map(features[:4])).all()
    assert np.isfinite(umap_map(np.ones((40, 8)))).all()
    with pytest.raises(DataError, match="at least 4"):
        umap_map(features[:3])
