"""CIFAR-10's binary version, written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twoviews.dataset.cifar10 import CLASS_NAMES, TEST_FILES, TRAIN_FILES, load_cifar10
from twoviews.errors import DataError


def write_set(root: Path, each: int = 4) -> tuple[np.ndarray, list[int]]:
    """Small batches; all images in file order (N×32×32×3) and their labels."""
    rng = np.random.default_rng(0)
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    images = rng.integers(0, 256, (6 * each, 32, 32, 3), dtype=np.uint8)
    labels = [i % 10 for i in range(6 * each)]
    for number, name in enumerate((*TRAIN_FILES, *TEST_FILES)):
        content = b""
        for i in range(number * each, (number + 1) * each):
            content += bytes([labels[i]]) + b"".join(images[i, :, :, channel].tobytes() for channel in range(3))
        (folder / name).write_bytes(content)
    (folder / "batches.meta.txt").write_text("\n".join(CLASS_NAMES) + "\n\n")
    return images, labels


def test_round_trip(tmp_path: Path) -> None:
    images, labels = write_set(tmp_path)
    source = load_cifar10(tmp_path, download=False)
    assert source.test is not None
    assert source.test.labels is not None
    assert source.train.labels is not None
    assert np.array_equal(source.train.pixels, images[:20].transpose(0, 3, 1, 2))
    assert np.array_equal(source.test.pixels, images[20:].transpose(0, 3, 1, 2))
    assert source.train.labels.dtype == np.int64
    assert list(source.train.labels) == labels[:20]
    assert list(source.test.labels) == labels[20:]
    assert source.class_names == CLASS_NAMES
    assert source.unlabeled.pixels is source.train.pixels
    assert source.unlabeled.labels is None
    assert len(source.notes) == 2


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("data_batch_3.bin", b"\0" * 3074, "3,074 bytes"),
        ("test_batch.bin", b"", "0 bytes"),
        ("test_batch.bin", b"\x0a" + b"\0" * 3072, "label 10 at position 0"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, file: str, content: bytes, expected: str) -> None:
    write_set(tmp_path)
    (tmp_path / "cifar-10-batches-bin" / file).write_bytes(content)
    with pytest.raises(DataError, match=expected):
        load_cifar10(tmp_path, download=False)


def test_missing_files_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz.*163 MB"):
        load_cifar10(tmp_path, download=False)
