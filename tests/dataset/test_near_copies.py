"""Near copies: hashes that turn with the picture, what is found, and what must not be."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from twoviews.dataset import near_copies
from twoviews.dataset.images import ImageSet, Pixels
from twoviews.dataset.near_copies import NearCopies, find_near_copies, similarity
from twoviews.dataset.picture_hash import GRID, WAYS, grids, picture_hashes, turned, turned_hashes
from twoviews.dataset.sample import SAMPLE_FILE

# Pairs of CIFAR-10's test images that show one picture, as a person who looked at them found.
ONE_PICTURE = {
    *((16, 7195), (562, 8451), (884, 7105), (890, 3676), (963, 4190), (1035, 4056), (1169, 7855), (2789, 7118)),
    *((3676, 6377), (3676, 6942), (3848, 4309), (4020, 9970), (4481, 5894), (5785, 9784), (6377, 6942)),
}
SHARED = Path(__file__).parents[3] / "shared" / "data"


def as_set(pixels: Pixels) -> ImageSet:
    return ImageSet.whole(pixels, None, [str(i) for i in range(len(pixels))])


def decoded(file: Path, first: int, last: int) -> Pixels:
    """Images ``first`` to ``last`` of CIFAR-10's JPEG copies joined in one file."""
    with np.load(file, allow_pickle=False) as archive:
        joined, ends = archive["jpeg"], archive["offsets"][first : last + 1]
    files = (Image.open(io.BytesIO(joined[a:b].tobytes())) for a, b in itertools.pairwise(ends))
    return np.ascontiguousarray(np.stack([np.asarray(file.convert("RGB")) for file in files]).transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def photos() -> Pixels:
    """400 unlabeled images of the sample."""
    return decoded(SAMPLE_FILE, 0, 400)


def large(pixels: Pixels, size: int) -> Pixels:
    """The same pictures at another size."""
    pictures = [Image.fromarray(image.transpose(1, 2, 0)).resize((size, size)) for image in pixels]
    return np.ascontiguousarray(np.stack([np.asarray(p) for p in pictures]).transpose(0, 3, 1, 2))


def each(change: Callable[[Image.Image], Image.Image], pixels: Pixels) -> Pixels:
    changed = [np.asarray(change(Image.fromarray(image.transpose(1, 2, 0)))) for image in pixels]
    return np.ascontiguousarray(np.stack(changed).transpose(0, 3, 1, 2))


def encoded(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def halved(image: Image.Image) -> Image.Image:
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def found_between(copies: Pixels, originals: Pixels) -> NearCopies:
    one, other = as_set(copies), as_set(originals)
    return find_near_copies(one, picture_hashes(one), other, picture_hashes(other))


def share_found(copies: Pixels, originals: Pixels) -> float:
    """The share of copies that are found as copies of the picture they were made of."""
    found = found_between(copies, originals)
    return len(np.unique(found.first[found.first == found.second])) / len(copies)


@pytest.mark.parametrize("size", [8, 16, 32, 33, 96, 100])
def test_areas_are_means_of_the_pixels_under_them(size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, size, size), dtype=np.uint8)
    fine = pixels.repeat(GRID, axis=2).repeat(GRID, axis=3).astype(np.float64)
    expected = np.floor(fine.reshape(3, 3, GRID, size, GRID, size).mean(axis=(3, 5)) + 0.5)
    assert np.array_equal(grids(as_set(pixels), np.arange(3)), expected)


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("way", range(WAYS))
def test_the_hash_of_a_turned_picture_is_the_turned_hash(photos: Pixels, size: int, way: int) -> None:
    pixels = photos[:50] if size == 32 else large(photos[:50], size)
    hashes = picture_hashes(as_set(pixels))
    again = picture_hashes(as_set(np.ascontiguousarray(turned(pixels, way))))
    assert np.array_equal(again.hashes.reshape(50, -1), turned_hashes(hashes.hashes)[:, way])
    assert np.array_equal(again.means, hashes.means)


def test_the_ways_are_the_eight_of_a_square() -> None:
    picture = np.arange(9, dtype=np.uint8).reshape(3, 3)
    ways = {turned(picture, way).tobytes() for way in range(WAYS)}
    quarter_turns = [np.rot90(side, k).tobytes() for side in (picture, picture[:, ::-1]) for k in range(4)]
    assert ways == set(quarter_turns)


def test_the_memory_layout_does_not_matter(photos: Pixels, tmp_path: Path) -> None:
    pixels = photos[:60]
    expected = picture_hashes(as_set(pixels))
    by_columns = np.ascontiguousarray(pixels.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    mixed = ImageSet(photos, np.array([5, 7, 7, 6, 0]), None, [""] * len(photos))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for other in (by_columns, mapped):
            hashes = picture_hashes(as_set(other))
            assert np.array_equal(hashes.hashes, expected.hashes)
            assert np.array_equal(hashes.means, expected.means)
        assert np.array_equal(picture_hashes(mixed).hashes, expected.hashes[mixed.rows])


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_pictures_encoded_anew_are_found(photos: Pixels, quality: int) -> None:
    assert share_found(each(lambda image: encoded(image, quality), photos), photos) >= 0.95


def test_pictures_of_half_the_size_are_found(photos: Pixels) -> None:
    assert share_found(each(halved, photos), photos) >= 0.95


@pytest.mark.parametrize("way", range(1, WAYS))
def test_turned_and_mirrored_pictures_are_found(photos: Pixels, way: int) -> None:
    pixels = np.ascontiguousarray(turned(photos, way))
    assert share_found(pixels, photos) >= 0.98
    if way in (1, 6):
        assert share_found(each(lambda image: encoded(image, 75), pixels), photos) >= 0.95


def test_other_sizes_find_each_other(photos: Pixels) -> None:
    pixels = large(photos[:100], 64)
    assert share_found(each(lambda image: encoded(image, 60), pixels), pixels) >= 0.95
    assert share_found(large(pixels, 96), pixels) >= 0.95


def test_different_pictures_are_no_copies(photos: Pixels) -> None:
    """The sample's unlabeled and test images come from two parts of CIFAR-10; a few are near duplicates there."""
    test = decoded(SAMPLE_FILE, 11_000, 13_000)
    images = as_set(test)
    hashes = picture_hashes(images)
    assert len(find_near_copies(images, hashes, images, hashes, within=True).first) <= 2
    assert len(found_between(photos, test).first) <= 1


def test_blocks_and_threads_change_nothing(photos: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = as_set(each(lambda image: encoded(image, 50), photos[:150]))
    images = as_set(photos)

    def search() -> list[np.ndarray]:
        one, other = picture_hashes(copies), picture_hashes(images)
        return [one.hashes, one.means, one.blank, *find_near_copies(copies, one, images, other)]

    monkeypatch.setattr(near_copies, "HASH_SIMILARITY", 0.5)
    monkeypatch.setattr(near_copies, "SIMILARITY", 0.3)
    expected = search()
    assert len(expected[3]) > 200
    threads = torch.get_num_threads()
    monkeypatch.setattr("twoviews.dataset.copies._BLOCK_BYTES", 7 * photos[0].nbytes)
    monkeypatch.setattr(near_copies, "_ROWS", 11)
    monkeypatch.setattr(near_copies, "_COLUMNS", 13)
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        again = search()
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(one, two) for one, two in zip(expected, again, strict=True))


def test_within_a_set_a_pair_is_given_once_and_none_with_itself(photos: Pixels) -> None:
    pixels = np.concatenate([photos[:20], each(lambda image: encoded(image, 80), photos[:5]), photos[3:4]])
    images = as_set(pixels)
    hashes = picture_hashes(images)
    found = find_near_copies(images, hashes, images, hashes, within=True)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert {(i, 20 + i) for i in range(5)} | {(3, 25), (23, 25)} <= pairs
    assert all(one < other for one, other in pairs)
    assert len(pairs) == len(found.first)


def test_the_most_similar_comes_first(photos: Pixels) -> None:
    pixels = photos[:1]
    others = np.concatenate([each(lambda image, q=q: encoded(image, q), pixels) for q in (60, 95, 40)])
    found = found_between(pixels, others)
    assert found.second.tolist() == [1, 0, 2]
    assert (np.diff(found.similarity) <= 0).all()
    assert found_between(pixels, pixels).similarity.tolist() == [1.0]


def test_images_of_one_colour_are_counted_and_match_nothing() -> None:
    grey = np.full((3, 3, 32, 32), 120, dtype=np.uint8)
    grey[1] += np.random.default_rng(0).integers(0, 4, (3, 32, 32), dtype=np.uint8)
    grey[2, :, :, 16:] = 140
    hashes = picture_hashes(as_set(grey))
    assert hashes.blank.tolist() == [True, True, False]
    found = found_between(grey, grey)
    assert found.first.tolist() == [2]
    empty = as_set(grey[:0])
    assert len(find_near_copies(empty, picture_hashes(empty), as_set(grey), hashes).first) == 0
    assert len(find_near_copies(as_set(grey), hashes, empty, picture_hashes(empty)).first) == 0


def test_similarity_is_one_for_equal_pictures_and_low_for_others(photos: Pixels) -> None:
    small = grids(as_set(photos), np.arange(len(photos)))
    assert (similarity(small, small) == 1.0).all()
    others = similarity(small[:-1], small[1:])
    assert others.max() < 0.9
    assert abs(float(np.median(others))) < 0.3
    lighter = (small // 2, small // 2 + 7)
    assert (similarity(*lighter) == 1.0).all()  # the mean is compared elsewhere


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "cifar10_test.npz").exists(), reason="CIFAR-10 is not here")
def test_rates_on_cifar10() -> None:
    test = decoded(SHARED / "cifar10_test.npz", 0, 10_000)
    for quality in (50, 70, 95):
        assert share_found(each(lambda image, q=quality: encoded(image, q), test), test) >= 0.95
    assert share_found(each(halved, test), test) >= 0.95
    for way in (3, 5, 6):
        assert (
            share_found(each(lambda image: encoded(image, 75), np.ascontiguousarray(turned(test, way))), test) >= 0.95
        )
    images = as_set(test)
    hashes = picture_hashes(images)
    found = find_near_copies(images, hashes, images, hashes, within=True)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs >= ONE_PICTURE
    assert len(pairs - ONE_PICTURE) < 10  # 0.1 % of the images
