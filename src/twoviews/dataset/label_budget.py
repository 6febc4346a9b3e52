"""Fewer labels: the part of a study's labelled images that a smaller budget buys, and STL10's folds.

A budget counts validation images too: "10 labels a class" are ten in all. The images of pretraining, the
normalisation and the test images stay those of the whole study.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from twoviews.dataset.images import ImageSet, Indices
from twoviews.dataset.parts import without_folds
from twoviews.dataset.splits import Splits
from twoviews.dataset.validation import class_counts, validation_count
from twoviews.errors import SettingsError
from twoviews.spacing import evenly_spaced

SMALLEST = 2  # labels of a class: one trains, one validates
FOLD_VALIDATION = 999  # images at most: fewer than it takes to choose an epoch on them
_SALT = 0x1ABE1  # keeps the draw apart from that of the validation split, which has the same seed


def with_labels_per_class(splits: Splits, count: int, *, seed: int, val_fraction: float) -> Splits:
    """The splits with ``count`` labelled images of each class, validation among them.

    Subsets are nested: with more labels no image leaves. Within each class they are the first images of one order,
    drawn from (seed, class) alone, for training and validation apart, so that no image changes sides. A class with
    fewer images gives all it has, and a note says so.

    Args:
        count: images of each class, at least 2.
        seed: of the draw; as in ``make_splits``.
        val_fraction: part of them that validates, as far as validation has so many; at least one.

    Raises:
        SettingsError: ``count`` is below 2.
    """
    if count < SMALLEST:
        raise SettingsError(f"{count} labels a class: it takes at least {SMALLEST}, one to train and one to validate.")
    limited = _limited(splits, lambda have: min(count, have), seed, val_fraction, f"{count:,} of each class")
    have = zip(splits.class_names, label_counts(splits), strict=True)
    if few := [name for name, found in have if found < count]:
        limited.notes.append(f"Fewer than {count:,} labels were there, and all are used, of {', '.join(few[:10])}.")
    return limited


def with_label_fraction(splits: Splits, fraction: float, *, seed: int, val_fraction: float) -> Splits:
    """The splits with a part of the labelled images of each class, nested as in ``with_labels_per_class``.

    Args:
        fraction: above 0, at most 1; of each class at least 2 images stay.

    Raises:
        SettingsError: ``fraction`` is out of range.
    """
    if not 0 < fraction <= 1:
        raise SettingsError(f"A label fraction of {fraction}: it must be above 0 and at most 1.")
    return _limited(
        splits,
        lambda have: max(SMALLEST, int(have * fraction + 0.5)),
        seed,
        val_fraction,
        f"{fraction:.4g} of each class",
    )


def with_fold(splits: Splits, fold: int) -> Splits:
    """The splits with an official fold as training images: all of it, as published results have it.

    Validation is what validation images lie outside the fold, at most 999 of them: they are shown, and choose nothing.

    Args:
        fold: number of the fold, from 0.

    Raises:
        SettingsError: the data has no folds, or not so many.
    """
    if splits.folds is None:
        raise without_folds(splits.name, "--fold")
    if not 0 <= fold < len(splits.folds):
        raise SettingsError(f"--fold {fold}: {splits.name} has the folds 0 to {len(splits.folds) - 1}.")
    rows = splits.folds[fold]
    both = _joined(splits.train, splits.val)
    train = both.take(np.isin(both.rows, rows))
    outside = splits.val.take(~np.isin(splits.val.rows, rows))
    gone = len(np.unique(rows)) - len(train)
    note = f"Fold {fold} of {len(splits.folds)}: {len(train):,} labelled images train."
    if gone:
        note += f" {gone:,} of the fold were copies of held-out images and left."
    return _with(splits, train, outside.take(evenly_spaced(len(outside), FOLD_VALIDATION)), note)


def label_counts(splits: Splits) -> Indices:
    """(C,) labelled images of each class, validation among them."""
    counts: Indices = np.sum(
        [class_counts(images, splits.class_names) for images in (splits.train, splits.val)], axis=0
    )
    return counts


def _limited(splits: Splits, wanted: Callable[[int], int], seed: int, val_fraction: float, what: str) -> Splits:
    training, validating = [], []
    used = 0
    trains, validates = (class_counts(images, splits.class_names) for images in (splits.train, splits.val))
    for in_train, in_val in zip(trains, validates, strict=True):
        count = min(wanted(in_train + in_val), in_train + in_val)
        val = min(validation_count(count, val_fraction), in_val)
        # Where validation has more than its part, a large budget would ask for more training images than there are.
        train = min(count - val, in_train)
        training.append(train)
        validating.append(count - train)
        used += count
    limited = _first(splits.train, training, seed, 0), _first(splits.val, validating, seed, 1)
    return _with(splits, *limited, f"{used:,} of {sum(trains) + sum(validates):,} labels are used: {what}.")


def _first(images: ImageSet, counts: list[int], seed: int, part: int) -> ImageSet:
    """The first so many images of each class in its seeded order, in the set's own order."""
    assert images.labels is not None
    chosen: list[Indices] = [np.empty(0, dtype=np.int64)]
    for number, count in enumerate(counts):
        members = np.flatnonzero(images.labels == number)
        order = np.random.Generator(np.random.PCG64([seed, number, part, _SALT])).permutation(len(members))
        chosen.append(members[order[:count]])
    return images.take(np.sort(np.concatenate(chosen)))


def _joined(train: ImageSet, val: ImageSet) -> ImageSet:
    """Both sets as one, in the order of rows; they are parts of one array."""
    assert train.pixels is val.pixels, "folds are of one array"
    assert train.labels is not None
    assert val.labels is not None
    rows = np.concatenate([train.rows, val.rows])
    order = np.argsort(rows)
    return replace(train, rows=rows[order], labels=np.concatenate([train.labels, val.labels])[order])


def _with(splits: Splits, train: ImageSet, val: ImageSet, note: str) -> Splits:
    counts = {part: class_counts(images, splits.class_names) for part, images in (("train", train), ("val", val))}
    used = [train, val, splits.unlabeled, *([] if splits.test_images is None else [splits.test_images])]
    return replace(
        splits,
        train=train,
        val=val,
        notes=[*splits.notes, note],
        class_counts={**splits.class_counts, **counts},
        fingerprint=None if splits.fingerprint is None else splits.fingerprint.of_sets(used),
    )
