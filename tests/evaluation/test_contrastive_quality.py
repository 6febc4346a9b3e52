from __future__ import annotations

import numpy as np
import pytest

from twoviews.errors import DataError
from twoviews.evaluation.contrastive_quality import (
    alignment,
    collapse_warning,
    effective_rank,
    feature_std,
    uniformity,
)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_alignment_is_the_formula_in_a_loop(blobs):
    first, _ = blobs(20, 8, 2)
    second, _ = blobs(20, 8, 2, seed=1)
    by_hand = np.mean([np.sum((a - b) ** 2) for a, b in zip(unit(first), unit(second), strict=True)])
    assert alignment(first, second) == pytest.approx(by_hand, rel=1e-5)
    assert alignment(first, 3 * first) == pytest.approx(0.0, abs=1e-10)
    assert alignment(first, -first) == pytest.approx(4.0, rel=1e-5)


def test_uniformity_is_the_formula_in_a_loop(blobs):
    features, _ = blobs(20, 8, 2)
    rows = unit(features.astype(np.float64))
    pairs = [np.exp(-2 * np.sum((rows[i] - rows[j]) ** 2)) for i in range(20) for j in range(i)]
    assert uniformity(features) == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)


def test_uniformity_at_its_ends():
    assert uniformity(np.ones((10, 4))) == pytest.approx(0.0, abs=1e-6)
    assert uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8.0, rel=1e-6)
    spread = np.random.default_rng(0).standard_normal((500, 256))
    assert uniformity(spread) == pytest.approx(-4.0, abs=0.1)


def test_only_so_many_evenly_spaced_images_are_measured(blobs):
    features, _ = blobs(60, 8, 2)
    assert uniformity(features, most_images=20) == pytest.approx(uniformity(features[::3]))
    assert effective_rank(features, most_images=20) == pytest.approx(effective_rank(features[::3]))


@pytest.mark.parametrize(("images", "dimensions"), [(60, 20), (15, 40)])
def test_effective_rank_is_the_formula_from_singular_values(blobs, images, dimensions):
    features, _ = blobs(images, dimensions, 3)
    values = np.linalg.svd(features - features.mean(axis=0, dtype=np.float64), compute_uv=False)
    shares = values[values > 1e-9] / values[values > 1e-9].sum()
    assert effective_rank(features) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_equal_directions(rank):
    corners = np.concatenate([np.eye(rank, 16), -np.eye(rank, 16)])
    assert effective_rank(1e-3 * corners + 7.0) == pytest.approx(rank, rel=1e-5)
    assert effective_rank(1e20 * corners) == pytest.approx(rank, rel=1e-5)


def test_collapse_is_measured_and_said():
    generator = np.random.default_rng(0)
    spread = generator.standard_normal((300, 64))
    assert feature_std(spread) == pytest.approx(1 / 8, rel=0.02)
    assert collapse_warning(effective_rank(spread), feature_std(spread), 64) is None

    point = np.ones(64) + 1e-3 * spread
    message = collapse_warning(effective_rank(point), feature_std(point), 64)
    assert message is not None
    assert "same way" in message
    assert f"{feature_std(point) * 8:.2g}" in message

    line = spread[:, :1] * np.ones(64)
    rank = effective_rank(line)
    assert rank == pytest.approx(1.0, abs=1e-3)
    message = collapse_warning(rank, feature_std(line), 64)
    assert message is not None
    assert "effective rank 1.0 of at most 64" in message

    constant = np.full((10, 64), 0.3)
    assert effective_rank(constant) == 1.0
    assert collapse_warning(1.0, feature_std(constant), 64) is not None


def test_many_dimensions_need_more_directions_but_few_images_are_not_blamed():
    healthy = 1 / np.sqrt(2048)
    assert collapse_warning(12.0, healthy, 2048) is not None
    assert collapse_warning(25.0, healthy, 2048) is None
    assert collapse_warning(12.0, healthy, 2048, images=50) is None


def test_what_cannot_be_measured_is_refused(blobs):
    features, _ = blobs(10, 4, 2)
    with pytest.raises(DataError, match="shapes"):
        alignment(features, features[:9])
    for function in (uniformity, effective_rank):
        with pytest.raises(DataError, match="at least 2"):
            function(features[:1])
        with pytest.raises(DataError, match="aren't finite"):
            function(np.full((10, 4), np.nan))
