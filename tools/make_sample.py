"""Cut the bundled sample from CIFAR-10: 10,000 unlabeled, 1,000 train (100 a class) and 2,000 test images.

    python tools/make_sample.py FOLDER

FOLDER holds cifar10_train.npz and cifar10_test.npz, CIFAR-10 with each image as one JPEG: ``jpeg`` (uint8, all
files joined), ``offsets`` (int64, N+1), ``labels`` and ``class_names``. Unlabeled and train images are disjoint
draws from CIFAR-10's training set, test images a draw from its test set, 200 a class. The JPEG bytes are copied as
they are. ``--development`` writes another draw for tuning instead: the sample's unlabeled and train images beside
5,000 test images from the rest of CIFAR-10's training set, so that no choice ever sees the sample's test set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

SEED = 2002_05709  # arXiv number of the SimCLR paper
UNLABELED, TRAIN_PER_CLASS, TEST_PER_CLASS, DEVELOPMENT_PER_CLASS = 10_000, 100, 200, 500
SAMPLE = Path(__file__).parent.parent / "src/twoviews/sample/cifar10_sample.npz"


def per_class(labels: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` of the candidate rows of each class, shuffled together."""
    chosen = [rng.permutation(candidates[labels[candidates] == c])[:count] for c in range(labels.max() + 1)]
    return rng.permutation(np.concatenate(chosen))


def cut(source: dict[str, np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """The JPEG files of these rows."""
    return [source["jpeg"][source["offsets"][r] : source["offsets"][r + 1]] for r in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--development", type=Path, help="write the tuning draw to this file instead")
    arguments = parser.parse_args()
    train_source = dict(np.load(arguments.folder / "cifar10_train.npz", allow_pickle=False))
    test_source = dict(np.load(arguments.folder / "cifar10_test.npz", allow_pickle=False))
    train_labels = train_source["labels"].astype(np.int64)
    test_labels = test_source["labels"].astype(np.int64)

    rng = np.random.Generator(np.random.PCG64(SEED))
    order = rng.permutation(len(train_labels))
    unlabeled, rest = order[:UNLABELED], order[UNLABELED:]
    train = per_class(train_labels, rest, TRAIN_PER_CLASS, rng)
    test = per_class(test_labels, np.arange(len(test_labels)), TEST_PER_CLASS, rng)
    test_files, test_rows, out = test_source, test, arguments.development or SAMPLE
    if arguments.development:
        rest = rest[~np.isin(rest, train)]
        test_rows = per_class(train_labels, rest, DEVELOPMENT_PER_CLASS, rng)
        test_files, test_labels = train_source, train_labels

    files = [*cut(train_source, unlabeled), *cut(train_source, train), *cut(test_files, test_rows)]
    np.savez(
        out,
        jpeg=np.concatenate(files),
        offsets=np.concatenate([[0], np.cumsum([len(f) for f in files])]).astype(np.int64),
        train_labels=train_labels[train].astype(np.uint8),
        test_labels=test_labels[test_rows].astype(np.uint8),
        class_names=train_source["class_names"],
        cifar10_rows=np.concatenate([unlabeled, train, test_rows]).astype(np.int32),
    )
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {len(files)} images")


if __name__ == "__main__":
    main()
