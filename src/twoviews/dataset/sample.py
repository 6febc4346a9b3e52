"""The bundled sample: a small draw from CIFAR-10 (JPEG copies), cut by ``tools/make_sample.py``."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from twoviews.dataset.images import ImageSet, Pixels, Source
from twoviews.errors import DataError

SAMPLE_FILE = Path(__file__).parent.parent / "sample" / "cifar10_sample.npz"


def load_sample(file: Path = SAMPLE_FILE) -> Source:
    """Decode the bundled images: 32×32 pixels, 10 classes, 10,000 unlabeled, 1,000 train, 2,000 test.

    Raises:
        DataError: the bundled file is missing or damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            parts = {key: archive[key] for key in archive.files}
    except (OSError, ValueError) as error:
        raise DataError(f"The bundled sample {file} can't be read ({error}); install twoviews again.") from error
    pixels = _decode(parts["jpeg"].tobytes(), parts["offsets"])
    train_labels = parts["train_labels"].astype(np.int64)
    test_labels = parts["test_labels"].astype(np.int64)
    unlabeled_count = len(pixels) - len(train_labels) - len(test_labels)
    train_end = unlabeled_count + len(train_labels)
    names = [
        *(f"unlabeled/{i:05d}" for i in range(unlabeled_count)),
        *(f"train/{i:05d}" for i in range(len(train_labels))),
        *(f"test/{i:05d}" for i in range(len(test_labels))),
    ]
    rows = np.arange(len(pixels), dtype=np.int64)
    return Source(
        name="sample",
        class_names=tuple(str(name) for name in parts["class_names"]),
        unlabeled=ImageSet(pixels, rows[:unlabeled_count], None, names),
        train=ImageSet(pixels, rows[unlabeled_count:train_end], train_labels, names),
        test=ImageSet(pixels, rows[train_end:], test_labels, names),
    )


def _decode(joined: bytes, offsets: np.ndarray) -> Pixels:
    """JPEG files joined in one string → N×3×H×W uint8."""
    images = []
    for start, end in itertools.pairwise(offsets):
        with Image.open(io.BytesIO(joined[start:end]), formats=["JPEG"]) as image:
            images.append(np.asarray(image.convert("RGB")))
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
