"""How many images two folds share, and in how many folds an image is.

    python benchmarks/fold_overlap.py data/stl10_binary/fold_indices.txt
    python benchmarks/fold_overlap.py --cifar10 DATA

The first counts in STL-10's file of one fold a line; the second in the folds of ``cifar10_as_stl10``, made from the
CIFAR-10 under DATA. One JSON line: least, mean and most.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from machine import machine

from twoviews.dataset.cifar10_as_stl10 import load_cifar10_as_stl10

LABELLED = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("file", type=Path, nargs="?")
    which.add_argument("--cifar10", type=Path, help="the folder that --data-root names")
    arguments = parser.parse_args()
    if arguments.file:
        folds = list(np.loadtxt(arguments.file, dtype=np.int64, ndmin=2))
    else:
        folds = load_cifar10_as_stl10(arguments.cifar10, download=False).folds or []
    within = np.zeros((len(folds), LABELLED), dtype=np.int64)
    for number, fold in enumerate(folds):
        within[number, fold] = 1
    shared, times = (within @ within.T)[np.triu_indices(len(folds), 1)], within.sum(axis=0)
    found = {
        "folds": len(folds),
        "images": int(within[0].sum()),
        "two_share": _ends(shared),
        "image_is_in": _ends(times),
    }
    print(json.dumps(found))
    print(json.dumps(machine("numpy")))


def _ends(counts: np.ndarray) -> list[float]:
    return [int(counts.min()), round(float(counts.mean()), 1), int(counts.max())]


if __name__ == "__main__":
    main()
