"""The fingerprint of a run's images: whatever would change training changes it, and nothing else does."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import numpy as np
import pytest

from twoviews.dataset.copies import image_digests
from twoviews.dataset.fingerprint import Fingerprint
from twoviews.dataset.images import ImageSet

NAMES = ["a.png", "b.png", "line\nbreak.png", "\udcff.png", "\u00e9.png", "f.png"]


def images(names: Sequence[str] = NAMES, *, labelled: bool = True, seed: int = 0) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(names), 3, 4, 4), dtype=np.uint8)
    return ImageSet.whole(pixels, np.arange(len(names)) % 3 if labelled else None, names)


def of(source: ImageSet, rows: Sequence[int] = (0, 1, 2, 3, 4, 5)) -> Fingerprint:
    (digests,) = image_digests([source])
    return Fingerprint([(source, digests)], [source.take(np.array(rows))])


SAVED = of(images()).as_file


def test_the_same_images_are_the_same() -> None:
    assert of(images()).as_file == SAVED
    assert of(images()).changes_since(SAVED) is None


def test_what_changed_is_counted_and_named() -> None:
    other = images([*NAMES[1:], "g.png"])
    other.pixels[:5] = images().pixels[1:]
    other.labels[:5] = images().labels[1:]  # type: ignore[index]
    assert of(other).changes_since(SAVED) == "1 added (g.png), 1 removed (a.png)"
    pixel = images()
    pixel.pixels[2, 0, 0, 0] ^= 1
    assert of(pixel).changes_since(SAVED) == "1 with other pixels or another label (line\nbreak.png)"
    label = images()
    label.labels[3] = 1 - label.labels[3]  # type: ignore[index]
    assert of(label).changes_since(SAVED) == "1 with other pixels or another label (\\udcff.png)"
    assert of(images(seed=1)).changes_since(SAVED) == (
        "6 with other pixels or another label (a.png, b.png, line\nbreak.png, ...)"
    )


def test_order_and_sets_count_too() -> None:
    for rows in ([1, 0, 2, 3, 4, 5], [0, 1, 2, 3, 4]):
        assert of(images(), rows).changes_since(SAVED) == "the same images in another order or in other sets"


def test_an_image_in_two_sets_has_its_label() -> None:
    source = images()
    twin = ImageSet(source.pixels, source.rows, None, source.names)
    digests = image_digests([source, twin])
    for order in ((0, 1), (1, 0)):
        both = [((source, twin)[i], digests[i]) for i in order]
        assert Fingerprint(both, [source]).content == of(source).content


@pytest.mark.parametrize(
    "damaged",
    [b"", SAVED[:-9], SAVED[:20] + b"\0" + SAVED[21:], gzip.compress(b"[]"), gzip.compress(b"{}")],
    ids=["empty", "cut", "changed", "list", "nothing in it"],
)
def test_a_damaged_file_is_an_error(damaged: bytes) -> None:
    with pytest.raises(ValueError):
        of(images()).changes_since(damaged)
