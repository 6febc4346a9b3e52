"""Copies by pixels, whatever the memory layout."""

from __future__ import annotations

import numpy as np
import pytest

from twoviews.dataset import copies
from twoviews.dataset.copies import copy_groups, find_leaks, first_positions, image_digests
from twoviews.dataset.images import ImageSet


def random_images(count: int, size: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def whole(pixels: np.ndarray, prefix: str = "x") -> ImageSet:
    return ImageSet.whole(pixels, None, [f"{prefix}/{i}" for i in range(len(pixels))])


def column_major(pixels: np.ndarray) -> np.ndarray:
    """The same images as a transposed view, as STL-10's files give them."""
    return np.ascontiguousarray(pixels.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)


@pytest.mark.parametrize("first", [np.array, column_major])
@pytest.mark.parametrize("second", [np.array, column_major])
def test_equal_pixels_equal_digests_in_any_layout(first: object, second: object) -> None:
    images = random_images(5)
    one, two = image_digests([whole(first(images)), whole(second(images))])  # type: ignore[operator]
    assert one == two
    assert len(set(one)) == 5
    assert all(len(digest) == 16 for digest in one)


def test_a_transposed_image_is_no_copy() -> None:
    images = random_images(5)
    turned = images.transpose(0, 1, 3, 2)
    for other in (turned, np.ascontiguousarray(turned)):
        one, two = image_digests([whole(images), whole(other)])
        assert not set(one) & set(two)


def test_rows_decide_and_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(50)
    rows = np.array([3, 4, 5, 49, 0, 0, 7, 6, 5], dtype=np.int64)
    chosen = ImageSet(images, rows, None, [str(i) for i in range(50)])
    everything, expected = image_digests([whole(images), chosen])
    assert expected == [everything[row] for row in rows]
    monkeypatch.setattr(copies, "_BLOCK_BYTES", 3 * images[0].nbytes)
    assert image_digests([whole(images), chosen]) == [everything, expected]


def test_one_changed_value_is_no_copy_and_sizes_differ() -> None:
    images = random_images(1)
    other = images.copy()
    other[0, 2, 5, 5] ^= 1
    one, two = image_digests([whole(images), whole(other)])
    assert one != two
    black, wide = image_digests([whole(np.zeros((1, 3, 4, 9), np.uint8)), whole(np.zeros((1, 3, 6, 6), np.uint8))])
    assert black != wide
    assert image_digests([whole(images[:0])]) == [[]]


def test_leaks_are_named() -> None:
    held = random_images(4)
    images = np.concatenate([random_images(3, seed=1), held[2:3], held[1:2], held[2:3]])
    held_digests, digests = image_digests([whole(held, "test"), whole(images, "unlabeled")])
    held_out = {"test": (whole(held, "test"), first_positions(held_digests))}
    mask, leaks = find_leaks("unlabeled", whole(images, "unlabeled"), digests, held_out)
    assert list(mask) == [False, False, False, True, True, True]
    assert [(leak.file, leak.copy_of_split, leak.copy_of) for leak in leaks] == [
        ("unlabeled/3", "test", "test/2"),
        ("unlabeled/4", "test", "test/1"),
        ("unlabeled/5", "test", "test/2"),
    ]
    assert [(leak.row, leak.copy_of_row, leak.kind, leak.similarity) for leak in leaks] == [
        (3, 2, "exact", 1.0),
        (4, 1, "exact", 1.0),
        (5, 2, "exact", 1.0),
    ]
    assert copy_groups(digests) == [[3, 5]]
