"""Write CIFAR-10 in its official binary layout from JPEG copies, for figures where the original is not at hand.

    python benchmarks/cifar10_binary.py FOLDER OUT
    twoviews study cifar10_as_stl10 --data-root OUT

FOLDER holds cifar10_train.npz and cifar10_test.npz as cifar10_npz.py writes them. OUT/cifar-10-batches-bin/ gets the
five training batches, the test batch and the class names, images in the order of FOLDER. JPEG changes pixels and the
order need not be the original's, so that cifar10_as_stl10 labels other images than it would there: such figures carry
the note "JPEG copy".
"""

from __future__ import annotations

import argparse
import io
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from twoviews.dataset.cifar10 import ARCHIVE, TEST_FILES, TRAIN_FILES


def records(file: Path) -> tuple[np.ndarray, list[str]]:
    """Official records of all images of a file, N×3,073 uint8 (label, then R, G and B by rows), and class names."""
    with np.load(file, allow_pickle=False) as archive:
        jpeg, offsets = archive["jpeg"].tobytes(), archive["offsets"]
        labels, names = archive["labels"], [str(name) for name in archive["class_names"]]
    written = np.empty((len(labels), 3073), dtype=np.uint8)
    written[:, 0] = labels
    for row, (start, end) in enumerate(itertools.pairwise(offsets)):
        with Image.open(io.BytesIO(jpeg[start:end]), formats=["JPEG"]) as image:
            written[row, 1:] = np.asarray(image.convert("RGB")).transpose(2, 0, 1).ravel()
    return written, names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    target: Path = arguments.out / ARCHIVE.folder
    if target.exists():
        parser.error(f"{target} is there already: name another OUT, so that no original is written over")
    train, names = records(arguments.folder / "cifar10_train.npz")
    test, _ = records(arguments.folder / "cifar10_test.npz")
    target.mkdir(parents=True)
    for name, batch in zip(TRAIN_FILES, np.array_split(train, len(TRAIN_FILES)), strict=True):
        batch.tofile(target / name)
    test.tofile(target / TEST_FILES[0])
    (target / "batches.meta.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    print(f"{target}: {len(train):,} training and {len(test):,} test images, JPEG copies")


if __name__ == "__main__":
    main()
