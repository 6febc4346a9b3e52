"""Neighbours are those of float32, whatever way they were found."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from twoviews.evaluation import nearest as module
from twoviews.evaluation.arrays import on_unit_sphere
from twoviews.evaluation.nearest import nearest


def found_by(queries, bank, k, left_out=None):
    parts = list(nearest(queries, bank, k, left_out))
    covered = np.concatenate([np.arange(len(queries))[rows] for rows, _, _ in parts])
    np.testing.assert_array_equal(covered, np.arange(len(queries)))
    return np.concatenate([c for _, c, _ in parts]), np.concatenate([f for _, _, f in parts])


@pytest.fixture(params=["float32", "bf16"])
def way(request, monkeypatch):
    monkeypatch.setattr(module, "multiplies_in_bf16", lambda: request.param == "bf16")
    monkeypatch.setattr(module, "SCREENED_FROM", 0)
    monkeypatch.setattr(module, "SPARE_CANDIDATES", 5)
    monkeypatch.setattr(module, "TILE_NUMBERS", 30_000)  # several tiles, the last one short
    return request.param


@pytest.fixture
def searched_again(monkeypatch):
    """Number of queries of each search in float32."""
    seen = []
    real = module._search

    def search(queries, *rest):
        seen.append(len(queries))
        return real(queries, *rest)

    monkeypatch.setattr(module, "_search", search)
    return seen


@pytest.mark.parametrize("k", [1, 6, 40])
def test_neighbours_are_scikit_learns(blobs, way, k):
    bank, queries = (on_unit_sphere(blobs(n, 48, 5, separation=0.6, seed=s)[0]) for n, s in ((900, 0), (210, 1)))
    cosines, rows = found_by(queries, bank, k)
    model = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank.astype(np.float64))
    distances, expected = model.kneighbors(queries.astype(np.float64))
    np.testing.assert_allclose(cosines, 1.0 - distances, atol=1e-6)
    np.testing.assert_array_equal(rows, expected)


def test_a_row_left_out_is_no_neighbour_and_the_others_are(blobs, way):
    bank = on_unit_sphere(blobs(300, 32, 3)[0])
    left_out = np.arange(300)
    _, rows = found_by(bank, bank, 7, left_out)
    assert not np.any(rows == left_out[:, None])
    _, with_itself = found_by(bank, bank, 8)
    np.testing.assert_array_equal(with_itself[:, 0], left_out)
    np.testing.assert_array_equal(rows, with_itself[:, 1:])
    _, everything = found_by(bank[:9], bank[:9], 8, left_out[:9])
    assert all(set(row) == set(range(9)) - {i} for i, row in enumerate(everything.tolist()))


def test_of_equally_similar_rows_the_first_are_neighbours(way):
    # Entries of ±1/4: products are exact, so that equal rows are equally similar on every processor.
    signs = np.unique(np.random.default_rng(0).integers(0, 2, (40, 16)), axis=0)[:20]
    different = ((2 * signs - 1) / 4).astype(np.float32)
    bank = np.tile(different, (12, 1))  # row i + 20·j equals row i
    _, rows = found_by(different, bank, 5)
    np.testing.assert_array_equal(rows, np.arange(20)[:, None] + 20 * np.arange(5))
    _, rows = found_by(np.zeros((3, 16), np.float32), bank, 4)  # equally far from all
    np.testing.assert_array_equal(rows, np.tile(np.arange(4), (3, 1)))


def test_what_bf16_cannot_tell_apart_is_searched_in_float32(monkeypatch, searched_again):
    monkeypatch.setattr(module, "multiplies_in_bf16", lambda: True)
    monkeypatch.setattr(module, "SCREENED_FROM", 0)
    generator = np.random.default_rng(0)
    apart = generator.standard_normal((200, 64))
    near = generator.standard_normal(64) + 1e-4 * generator.standard_normal((200, 64))  # closer than bf16 can see
    bank = on_unit_sphere(np.concatenate([apart, near]))
    queries = on_unit_sphere(np.concatenate([apart[:40] + 0.01, near[:4] + 1e-5]))
    products = queries.astype(np.float64) @ bank.T.astype(np.float64)
    # The last neighbours among many nearly equal ones; the first stand out from the rest.
    cosines, rows = found_by(queries, bank, 3)
    assert 0 < sum(searched_again) < len(queries)
    np.testing.assert_allclose(cosines, -np.sort(-products, axis=1)[:, :3], atol=1e-6)
    np.testing.assert_array_equal(rows[:40, 0], np.arange(40))


def test_bf16_is_given_up_where_most_has_to_be_searched_again(monkeypatch, searched_again):
    monkeypatch.setattr(module, "multiplies_in_bf16", lambda: True)
    monkeypatch.setattr(module, "SCREENED_FROM", 0)
    monkeypatch.setattr(module, "TILE_NUMBERS", 3_000)
    generator = np.random.default_rng(0)
    bank = on_unit_sphere(1.0 + 1e-5 * generator.standard_normal((300, 16)))
    bank[::2] *= -1.0  # far from the mean: nothing is gained by subtracting it
    cosines, _ = found_by(bank[:100], bank, 4)
    assert searched_again == [10] * 10
    expected = -np.sort(-(bank[:100].astype(np.float64) @ bank.T.astype(np.float64)), axis=1)[:, :4]
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


def test_small_searches_are_not_screened(blobs, monkeypatch):
    monkeypatch.setattr(module, "multiplies_in_bf16", lambda: pytest.fail("asked for bf16"))
    bank = on_unit_sphere(blobs(50, 8, 2)[0])
    found_by(bank, bank, 3)
