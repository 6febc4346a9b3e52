"""CIFAR-10 cut as STL-10 is: few labels with official folds, many images without, the whole test set.

STL-10 has 5,000 labelled training images (500 a class), 100,000 without labels, and ten official folds of 1,000 of the
labelled ones, 100 a class each. The folds overlap: two share 175 images on average (149 to 201), and each image is in
one to seven of them. Here the same is cut from CIFAR-10's 50,000 training images, once and for all: the choice depends
on an image's place in the official files and its class, and on no setting. Unlike STL-10's, the images without labels
are of the ten classes and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from twoviews.dataset.cifar10 import load_cifar10
from twoviews.dataset.download import Progress
from twoviews.dataset.images import Indices, Source
from twoviews.dataset.random_numbers import random_bits
from twoviews.errors import DataError

NAME = "cifar10_as_stl10"
KEY = 2011  # of all choices here: the year of STL-10's paper (Coates, Ng and Lee, AISTATS 2011)
LABELLED_PER_CLASS = 500
FOLDS = 10
FOLD_PER_CLASS = 100


def load_cifar10_as_stl10(root: Path, download: bool = True, progress: Progress | None = None) -> Source:
    """CIFAR-10's 5,000 labelled, 45,000 unlabeled and 10,000 test images, and ten folds of 1,000 labelled ones.

    Args and errors are those of ``load_cifar10``, whose pixels and names are shared: an image keeps its number.

    Raises:
        DataError: also where a class has too few training images, as in a part of CIFAR-10.
    """
    whole = load_cifar10(root, download, progress)
    assert whole.train.labels is not None
    labelled = labelled_rows(whole.train.labels, whole.class_names)
    rest = np.setdiff1d(np.arange(len(whole.train), dtype=np.int64), labelled)
    train = whole.train.take(labelled)
    note = (
        f"{len(train):,} of CIFAR-10's {len(whole.train):,} training images have labels here, in {FOLDS} fixed folds "
        f"of {FOLD_PER_CLASS * len(whole.class_names):,}; the other {len(rest):,} are without."
    )
    return replace(
        whole,
        name=NAME,
        unlabeled=whole.train.take(rest).without_labels(),
        train=train,
        folds=fold_positions(labelled, whole.train.labels[labelled]),
        notes=[*whole.notes, note],
    )


def labelled_rows(labels: Indices, class_names: Sequence[str]) -> Indices:
    """Ascending rows of the images that keep their labels: of each class those that the hash puts first.

    Args:
        labels: (N,) class numbers of CIFAR-10's training images, in the order of the official files.
        class_names: of each number.

    Raises:
        DataError: a class has not more images than are to have labels.
    """
    chosen = []
    for number, name in enumerate(class_names):
        members = np.flatnonzero(labels == number).astype(np.int64)
        if len(members) <= LABELLED_PER_CLASS:
            raise DataError(
                f"{NAME} takes {LABELLED_PER_CLASS} labelled images of each class from CIFAR-10's training images and "
                f"leaves others without labels, but {name} has {len(members):,}: put the whole CIFAR-10 there."
            )
        chosen.append(_shuffled(members, 0)[:LABELLED_PER_CLASS])
    return np.sort(np.concatenate(chosen))


def fold_positions(rows: Indices, labels: Indices) -> list[Indices]:
    """For each fold, ascending positions in ``rows``: 100 of each class.

    One shuffle of a class deals its 500 images out to the ten folds, so that each image is in a fold; each fold then
    draws as many again from the class's other 450. Two folds share about 160 images.

    Args:
        rows: (N,) the labelled images' rows.
        labels: (N,) their class numbers.
    """
    own = LABELLED_PER_CLASS // FOLDS
    folds = []
    for fold in range(FOLDS):
        chosen = []
        for number in np.unique(labels):
            members = rows[labels == number]
            dealt = _shuffled(members, 1)[fold * own : (fold + 1) * own]
            drawn = _shuffled(np.setdiff1d(members, dealt), 2, fold)[: FOLD_PER_CLASS - own]
            chosen += [dealt, drawn]
        folds.append(np.searchsorted(rows, np.sort(np.concatenate(chosen))).astype(np.int64))
    return folds


def _shuffled(rows: Indices, *stream: int) -> Indices:
    """The rows in the order of their hashes, which no library's random numbers can change."""
    order: Indices = torch.argsort(random_bits(KEY, *stream, torch.from_numpy(rows)), stable=True).numpy()
    return rows[order]
