"""CIFAR-10 in the manner of STL-10: which images have labels, and which folds they are in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from test_cifar10 import write_set

from twoviews.dataset import cifar10_as_stl10
from twoviews.dataset.cifar10 import CLASS_NAMES
from twoviews.dataset.cifar10_as_stl10 import KEY, fold_positions, labelled_rows, load_cifar10_as_stl10
from twoviews.dataset.images import Indices
from twoviews.errors import DataError

IN_TURN = np.arange(50_000, dtype=np.int64) % 10  # made-up labels: 5,000 of each class
JPEG_COPIES = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10_train.npz"


def cut(labels: Indices) -> tuple[Indices, list[Indices]]:
    rows = labelled_rows(labels, CLASS_NAMES)
    return rows, fold_positions(rows, labels[rows])


def checksums(labels: Indices) -> tuple[str, str]:
    """Beginnings of the SHA-256 of the labelled rows and of the folds, as little-endian int64."""
    rows, folds = cut(labels)
    parts = (rows, np.stack(folds))
    rows_sum, folds_sum = (hashlib.sha256(part.astype("<i8").tobytes()).hexdigest()[:16] for part in parts)
    return rows_sum, folds_sum


def test_the_choice_is_the_same_on_every_machine() -> None:
    assert checksums(IN_TURN) == ("593720ce2abcf0db", "a06e17a16c22b58a")


@pytest.mark.skipif(not JPEG_COPIES.is_file(), reason="the JPEG copies of CIFAR-10 are not here")
def test_the_choice_among_the_jpeg_copies() -> None:
    with np.load(JPEG_COPIES, allow_pickle=False) as archive:
        labels = archive["labels"].astype(np.int64)
    assert checksums(labels) == ("45db43000ac176dd", "c3ce65a042f014b9")


def test_labels_and_folds_are_as_many_as_stl10_has() -> None:
    rows, folds = cut(IN_TURN)
    assert len(np.unique(rows)) == len(rows) == 5_000
    assert (np.diff(rows) > 0).all()
    assert np.bincount(IN_TURN[rows]).tolist() == [500] * 10
    assert [len(np.unique(fold)) for fold in folds] == [1_000] * 10
    assert all(np.bincount(IN_TURN[rows[fold]]).tolist() == [100] * 10 for fold in folds)
    within = np.zeros((10, 5_000), dtype=np.int64)
    for number, fold in enumerate(folds):
        within[number, fold] = 1
    assert within.sum(axis=0).min() == 1, "each labelled image is in a fold, as in STL-10"
    shared = (within @ within.T)[np.triu_indices(10, 1)]
    assert 120 < shared.min() <= shared.max() < 200, "STL-10's share 149 to 201"
    # A fold's own 500, and 500 of the other 4,500: shared by chance are 2·500/9 + 8·(500/9)²/500.
    assert abs(shared.mean() - 160.5) < 4


def test_the_rows_are_those_that_the_hash_puts_first() -> None:
    """SplitMix64's finaliser in plain whole numbers, as published, for one class of 600 images."""
    mask = 2**64 - 1

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
        return x ^ x >> 31

    def hashed(*keys: int) -> int:
        state = 0
        for key in keys:
            state = mix(((state ^ key) + 0x9E3779B97F4A7C15) & mask)
        return state - 2**64 if state >= 2**63 else state

    labels = np.zeros(600, dtype=np.int64)
    first = sorted(range(600), key=lambda row: hashed(KEY, 0, row))[:500]
    assert labelled_rows(labels, ["cat"]).tolist() == sorted(first)


def test_what_a_class_is_called_does_not_matter() -> None:
    renamed = (IN_TURN + 3) % 10
    assert np.array_equal(cut(IN_TURN)[0], cut(renamed)[0])
    assert np.array_equal(cut(IN_TURN)[1], cut(renamed)[1])


def small(monkeypatch: pytest.MonkeyPatch, labelled: int) -> None:
    for name, value in (("LABELLED_PER_CLASS", labelled), ("FOLDS", 2), ("FOLD_PER_CLASS", 3)):
        monkeypatch.setattr(cifar10_as_stl10, name, value)


def test_the_files_are_read_as_cifar10_and_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, 4)
    images, labels = write_set(tmp_path, each=20)  # 100 for training, 10 of each class
    source = load_cifar10_as_stl10(tmp_path, download=False)
    assert source.name == "cifar10_as_stl10"
    assert (len(source.train), len(source.unlabeled)) == (40, 60)
    assert sorted([*source.train.rows, *source.unlabeled.rows]) == list(range(100))
    assert source.unlabeled.labels is None
    assert source.unlabeled.pixels is source.train.pixels, "the same array, no copy"
    for position in (0, 17, 39):
        row = int(source.train.rows[position])
        assert np.array_equal(source.train.read(slice(position, position + 1))[0], images[row].transpose(2, 0, 1))
        assert source.train.name(position) == f"train/{row:05d}", "an image keeps its number in CIFAR-10"
    assert source.train.labels is not None
    assert source.train.labels.tolist() == [labels[row] for row in source.train.rows]
    assert source.folds is not None
    assert [np.bincount(source.train.labels[fold]).tolist() for fold in source.folds] == [[3] * 10] * 2
    assert source.test is not None
    assert len(source.test) == 20
    assert "40 of CIFAR-10's 100 training images have labels here, in 2 fixed folds of 30" in source.notes[-1]


def test_a_part_of_cifar10_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path)
    with pytest.raises(DataError) as caught:
        load_cifar10_as_stl10(tmp_path, download=False)
    assert "500 labelled images of each class" in str(caught.value)
    assert "airplane has 2: put the whole CIFAR-10 there" in str(caught.value)
    assert "\n" not in str(caught.value)
