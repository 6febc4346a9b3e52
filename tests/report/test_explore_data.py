"""What the explorer computes: neighbours as scikit-learn finds them, maps turned but never bent, the sprite sheet."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from twoviews.report.explore import neighbours
from twoviews.report.explore.align import NOWHERE, flipped, on_a_square, turned
from twoviews.report.explore.neighbours import nearest
from twoviews.report.explore.sheet import Sheet, read_sheet

RANDOM = np.random.default_rng(11)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_neighbours_are_those_of_scikit_learn(kind, monkeypatch):
    monkeypatch.setattr(neighbours, "_TILE", 7 * 300)  # several tiles, the last one short
    features = RANDOM.normal(size=(300, 20)).astype(kind)
    search = NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(features.astype(np.float64))
    expected = search.kneighbors(return_distance=False)  # without the query itself
    assert nearest(features).tolist() == expected.tolist()


def test_equally_near_images_come_in_their_order():
    features = np.repeat(np.eye(3, dtype=np.float32), 12, axis=0)
    found = nearest(features)
    assert found[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found[5].tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert found[35].tolist() == [24, 25, 26, 27, 28, 29, 30, 31]


def test_neighbours_among_some_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(neighbours, "_TILE", 7 * 100)
    features, among = RANDOM.normal(size=(150, 20)), np.sort(RANDOM.choice(150, 100, replace=False))
    search = NearestNeighbors(n_neighbors=9, metric="cosine", algorithm="brute").fit(features[among])
    near = among[search.kneighbors(features, return_distance=False)]
    # A candidate is its own nearest, and left out; another image keeps all.
    expected = [row[1:].tolist() if i in among else row[:8].tolist() for i, row in enumerate(near)]
    assert nearest(features, among=among).tolist() == expected


@pytest.mark.parametrize("images", [0, 1, 2, 5])
def test_few_images_have_few_neighbours(images):
    found = nearest(RANDOM.normal(size=(images, 3)))
    assert found.shape == (images, max(images - 1, 0))
    assert all(i not in row for i, row in enumerate(found.tolist()))


def test_features_of_zero_are_no_trouble():
    features = np.zeros((12, 4), dtype=np.float16)
    features[3:] = RANDOM.normal(size=(9, 4))
    assert nearest(features).shape == (12, 8)


def test_a_turned_map_is_a_similarity_of_the_first_and_undoes_any_turn():
    points = RANDOM.normal(size=(200, 2)) * [3, 1]
    angle = 2.1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = 4.2 * (points * [1, -1]) @ turn + [30, -7]
    assert np.allclose(turned(moved, points), points)
    # Of another map every distance is scaled by the same number, and no rotation would fit better.
    other = RANDOM.normal(size=(200, 2)) + 0.4 * points
    found = turned(other, points)
    ratios = pdist(found) / pdist(other)
    assert np.ptp(ratios) < 1e-9 * ratios.mean()
    _, best, least = procrustes(points, other)
    centred = found - found.mean(0)
    assert np.allclose(centred / np.linalg.norm(centred), best / np.linalg.norm(best))
    assert 0 < least < 1


def test_pca_axes_are_only_mirrored():
    points = RANDOM.normal(size=(50, 2)) * [3, 1]
    assert np.allclose(flipped(points * [-1, 1] + 9, points), points)
    assert np.allclose(
        np.abs(flipped(points[:, ::-1], points) - points.mean(0)), np.abs((points - points.mean(0))[:, ::-1])
    )


def test_images_without_a_place_are_left_out_of_the_turn():
    points = RANDOM.normal(size=(30, 2))
    missing = -points.copy()
    missing[4] = np.nan
    found = turned(missing, points)
    shared = np.delete(np.arange(30), 4)
    assert np.isnan(found[4]).all()
    assert np.allclose(found[shared], points[shared])
    assert np.isnan(turned(np.full((3, 2), np.nan), points[:3])).all()


def test_a_map_on_a_square_keeps_its_proportions():
    points = np.array([[0.0, 0.0], [8.0, 0.0], [8.0, 2.0], [np.nan, 1.0]])
    found = on_a_square(points)
    assert found[:, 0].tolist() == [0, 65534, 65534, NOWHERE]
    assert found[3, 1] == NOWHERE
    assert found[0, 1] > found[2, 1]  # y points down
    across, down = int(found[1, 0]) - int(found[0, 0]), int(found[0, 1]) - int(found[2, 1])
    assert abs(across - 4 * down) <= 4
    assert on_a_square(np.ones((5, 2))).tolist() == [[32767, 32767]] * 5


def test_part_of_a_sheet_holds_those_pictures(tmp_path):
    side, columns, count = 8, 5, 23
    tones = np.arange(count) * 10
    pixels = np.zeros((5 * columns, 1), dtype=np.uint8)
    pixels[:count, 0] = tones
    whole = np.repeat(pixels.reshape(5, columns).repeat(side, 0).repeat(side, 1)[:, :, None], 3, axis=2)
    Image.fromarray(whole).save(tmp_path / "thumbnails.webp", lossless=True)
    about = {"size": side, "columns": columns, "ids": list(range(100, 100 + count)), "order": "row by row"}
    (tmp_path / "thumbnails.json").write_text(json.dumps(about))
    problems: list[str] = []
    sheet = read_sheet(tmp_path, [f"{i:06d}" for i in range(99, 100 + count)], problems)
    assert isinstance(sheet, Sheet)
    assert problems == []
    assert sheet.places.tolist() == [-1, *range(count)]  # the first has no picture
    rows = np.array([0, 3, 23])
    part = sheet.part(rows)
    shown = np.asarray(Image.open(io.BytesIO(part.webp)).convert("RGB")).astype(int)
    assert part.places.tolist() == [-1, 1, 2]
    for place, tone in ((1, tones[2]), (2, tones[22])):
        down, right = divmod(place, part.columns)
        middle = shown[down * side + side // 2, right * side + side // 2]
        assert np.abs(middle - tone).max() <= 6


@pytest.mark.parametrize("about", ["{", "[]", '{"size": 0, "columns": 3}', '{"size": 9, "columns": 900, "ids": []}'])
def test_a_sheet_that_does_not_fit_is_noted(tmp_path, about):
    Image.new("RGB", (27, 27)).save(tmp_path / "thumbnails.webp")
    problems: list[str] = []
    assert read_sheet(tmp_path, ["0"], problems) is None
    assert problems == []
    (tmp_path / "thumbnails.json").write_text(about)
    assert read_sheet(tmp_path, ["0"], problems) is None
    assert len(problems) == 1
