"""STL-10: the official layout, pixel for pixel, and what is said of files that don't fit together."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twoviews.dataset.stl10_loader import ARCHIVE, CLASS_NAMES, IMAGE_BYTES, load_stl10
from twoviews.errors import DataError

OFFICIAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "stl10_official"


def column_major(image: np.ndarray) -> bytes:
    """96×96×3 → the bytes STL-10 stores, spelled out: channel by channel, column by column."""
    return b"".join(bytes(image[:, column, channel]) for channel in range(3) for column in range(96))


def write_set(root: Path, *, train: int = 20, test: int = 10, unlabeled: int = 5) -> dict[str, np.ndarray]:
    """A small well-formed set; the images as written, N×96×96×3."""
    rng = np.random.default_rng(0)
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    images = {}
    for part, count in (("train", train), ("test", test), ("unlabeled", unlabeled)):
        images[part] = rng.integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
        (folder / f"{part}_X.bin").write_bytes(b"".join(column_major(image) for image in images[part]))
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes(bytes(i % 10 + 1 for i in range(count)))
    (folder / "class_names.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    (folder / "fold_indices.txt").write_text("0 5 19\n1 2 3\n")
    return images


def test_small_set_is_read_pixel_for_pixel_without_a_copy(tmp_path: Path) -> None:
    images = write_set(tmp_path)
    source = load_stl10(tmp_path, download=False)
    for part in ("train", "test", "unlabeled"):
        pixels = getattr(source, part).pixels
        assert np.array_equal(pixels, images[part].transpose(0, 3, 1, 2))
        assert isinstance(pixels, np.memmap)
        assert not pixels.flags.writeable
    assert source.train.labels is not None
    assert source.train.labels.dtype == np.int64
    assert list(source.train.labels[:11]) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert source.unlabeled.labels is None
    assert source.class_names == CLASS_NAMES
    assert source.folds is not None
    assert [list(fold) for fold in source.folds] == [[0, 5, 19], [1, 2, 3]]
    assert source.train.name(12) == "train/00012"
    assert len(source.notes) == 3
    assert "20 images; the official STL-10 has 5,000" in " ".join(source.notes)


def test_class_names_and_folds_may_be_missing(tmp_path: Path) -> None:
    write_set(tmp_path)
    for name in ("class_names.txt", "fold_indices.txt"):
        (tmp_path / "stl10_binary" / name).unlink()
    source = load_stl10(tmp_path, download=False)
    assert source.class_names == CLASS_NAMES
    assert source.folds is None
    assert any("fold_indices.txt is missing" in note for note in source.notes)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("train_X.bin", b"\0" * (IMAGE_BYTES * 20 + 7), r"552,967 bytes.*27,648"),
        ("train_X.bin", b"", r"0 bytes"),
        ("train_y.bin", b"\1" * 19, r"20 images and train_y.bin 19 labels"),
        ("test_y.bin", b"\1" * 11, r"10 images and test_y.bin 11 labels"),
        ("test_y.bin", b"\1" * 9 + b"\0", r"label 0 at position 9"),
        ("test_y.bin", b"\1" * 9 + b"\x0b", r"label 11 at position 9"),
        ("fold_indices.txt", b"0 1\n2 20\n", r"line 2, names image 20.*0\.\.19"),
        ("fold_indices.txt", b"0 -1\n", r"names image -1"),
        ("fold_indices.txt", b"0 1 0\n", r"an image twice"),
        ("fold_indices.txt", b"0 one\n", r"not a list of numbers"),
        ("class_names.txt", b"cat\ncat\n", r"different class name"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, file: str, content: bytes, expected: str) -> None:
    write_set(tmp_path)
    (tmp_path / "stl10_binary" / file).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_stl10(tmp_path, download=False)
    assert re.search(expected, str(caught.value))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_folds_are_wider_than_a_byte(tmp_path: Path) -> None:
    write_set(tmp_path, train=300)
    (tmp_path / "stl10_binary" / "fold_indices.txt").write_text("299 256 0\n")
    folds = load_stl10(tmp_path, download=False).folds
    assert folds is not None
    assert list(folds[0]) == [299, 256, 0]


def test_missing_files_are_asked_for_with_address_size_and_place(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_stl10(tmp_path / "nowhere", download=False)
    message = str(caught.value)
    assert ARCHIVE.url in message
    assert "about 2.6 GB" in message
    assert str(tmp_path / "nowhere" / "stl10_binary") in message
    assert not (tmp_path / "nowhere").exists()


def test_address_and_checksum_are_those_that_torchvision_publishes() -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    assert datasets.STL10.url == ARCHIVE.url
    assert datasets.STL10.tgz_md5 == ARCHIVE.md5
    assert datasets.STL10.base_folder == ARCHIVE.folder


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official images and labels are not here")
def test_official_images_labels_and_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name in ("train_y.bin", "test_y.bin", "class_names.txt", "fold_indices.txt"):
        (folder / name).write_bytes((OFFICIAL / name).read_bytes())
    assert hashlib.md5((folder / "train_y.bin").read_bytes()).hexdigest() == datasets.STL10.train_list[1][1]

    def read(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))

    unlabeled = [read(file) for file in sorted((OFFICIAL / "unlabeled_png").glob("*.png"))]
    placed = {file: int(file.stem.rsplit("_", 1)[1]) for file in (OFFICIAL / "test_png").glob("*.png")}
    assert len(unlabeled) == 246
    assert len(placed) == 10
    for name in ("unlabeled_X.bin", "train_X.bin"):
        (folder / name).write_bytes(b"".join(column_major(image) for image in unlabeled))
    with open(folder / "train_X.bin", "ab") as stream:
        stream.truncate(5_000 * IMAGE_BYTES)
    with open(folder / "test_X.bin", "wb") as stream:
        stream.truncate(8_000 * IMAGE_BYTES)
        for file, index in placed.items():
            stream.seek(index * IMAGE_BYTES)
            stream.write(column_major(read(file)))

    source = load_stl10(tmp_path, download=False)
    assert source.test is not None
    assert source.test.labels is not None
    assert source.train.labels is not None
    for position, image in enumerate(unlabeled):
        assert np.array_equal(source.unlabeled.pixels[position], image.transpose(2, 0, 1))
    for file, index in placed.items():
        assert np.array_equal(source.test.pixels[index], read(file).transpose(2, 0, 1))
        assert source.class_names[source.test.labels[index]] == file.stem.rsplit("_", 1)[0]
    assert list(np.bincount(source.train.labels)) == [500] * 10
    assert list(np.bincount(source.test.labels)) == [800] * 10
    assert source.folds is not None
    assert [len(np.unique(fold)) for fold in source.folds] == [1000] * 10
    assert max(int(fold.max()) for fold in source.folds) <= 4999
    assert list(source.folds[0][:3]) == [39, 4948, 2964]

    def with_md5(listed: list[list[str]]) -> list[list[str]]:
        return [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name, _ in listed]

    monkeypatch.setattr(datasets.STL10, "train_list", with_md5(datasets.STL10.train_list))
    monkeypatch.setattr(datasets.STL10, "test_list", with_md5(datasets.STL10.test_list))
    for part in ("test", "unlabeled"):
        theirs = datasets.STL10(str(tmp_path), split=part)
        ours = getattr(source, part)
        assert np.array_equal(ours.pixels, theirs.data)
        if ours.labels is not None:
            assert np.array_equal(ours.labels, theirs.labels)
    theirs = datasets.STL10(str(tmp_path), split="train", folds=3)
    ours = source.train.take(source.folds[3])
    assert np.array_equal(ours.read(slice(None)), theirs.data)
    assert np.array_equal(ours.labels, theirs.labels)
