"""Write CIFAR-10 as JPEG files in two archives, as tools/make_sample.py, near_copies.py and cifar10_binary.py read it.

    python benchmarks/cifar10_npz.py DATA FOLDER

DATA holds (or gets, by a download) CIFAR-10's official binary version. FOLDER gets cifar10_train.npz and
cifar10_test.npz, images in the official order: ``jpeg`` (uint8, all files joined, each of quality 75), ``offsets``
(int64, N+1), ``labels`` and ``class_names``. A JPEG's bytes depend on the version of the library that writes it.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from twoviews.dataset.cifar10 import load_cifar10
from twoviews.dataset.images import ImageSet

QUALITY = 75


def write(file: Path, images: ImageSet, class_names: tuple[str, ...]) -> None:
    """One archive."""
    assert images.labels is not None
    files = []
    for pixels in images.read(slice(None)):
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(stream, "JPEG", quality=QUALITY)
        files.append(stream.getvalue())
    np.savez(
        file,
        jpeg=np.frombuffer(b"".join(files), dtype=np.uint8),
        offsets=np.cumsum([0, *map(len, files)], dtype=np.int64),
        labels=images.labels.astype(np.uint8),
        class_names=np.array(class_names),
    )
    print(f"{file}: {len(files):,} images, {file.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    source = load_cifar10(arguments.data)
    assert source.test is not None
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write(arguments.folder / "cifar10_train.npz", source.train, source.class_names)
    write(arguments.folder / "cifar10_test.npz", source.test, source.class_names)


if __name__ == "__main__":
    main()
