"""From a source to what training may see: validation split off, held-out images' copies out, test sealed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from twoviews.dataset.conflicts import Conflict, conflict_notes, find_conflicts
from twoviews.dataset.copies import Leak
from twoviews.dataset.fingerprint import Fingerprint
from twoviews.dataset.images import ImageSet, Indices, Pixels, Skipped, Source
from twoviews.dataset.leaks import Hashed, LeakSearch
from twoviews.dataset.parts import without_test
from twoviews.dataset.statistics import Channels, channel_statistics
from twoviews.dataset.validation import class_counts, draw_validation, require_each_class
from twoviews.errors import DataError, SettingsError


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The sets of a study.

    Attributes:
        name: the source's short name.
        class_names: name of each class number.
        unlabeled: images for pretraining.
        train: labelled training images, without validation.
        val: labelled validation images; empty where there are no labels.
        test_images: test images without their labels, or None.
        mean, std: of each channel (R, G, B) over the unlabeled images, in [0, 1] units.
        folds: for each official fold, rows of its images in the arrays of ``train`` and ``val``, or None.
        leaks: copies of held-out images on the training side, exact and near, whether they were left out or not.
        conflicts: pictures that are there under two labels.
        blank: how many unlabeled images are of (nearly) one colour.
        class_counts: images of each class, by split; of the test images only where they were looked at.
        notes: sentences a user should read.
        skipped: files that were left out.
        fingerprint: of all of it, to notice when a run that goes on finds other images; None for made-up images.
    """

    name: str
    class_names: tuple[str, ...]
    unlabeled: ImageSet
    train: ImageSet
    val: ImageSet
    test_images: ImageSet | None = None
    _test: ImageSet | None = field(repr=False, default=None)
    mean: Channels
    std: Channels
    folds: list[Indices] | None = None
    leaks: list[Leak] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    blank: int = 0
    class_counts: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    fingerprint: Fingerprint | None = field(repr=False, default=None)

    def open_test(self) -> ImageSet:
        """Test images with their labels: the one door to them, for the test stage alone.

        Raises:
            DataError: there is no test part.
        """
        if self._test is None:
            raise without_test(self.name)
        return self._test

    def pixels_of(self, split: str) -> Pixels:
        """The array that holds a split's images, those that were left out among them; a leak's rows are its rows."""
        images = {"unlabeled": self.unlabeled, "train": self.train, "val": self.val, "test": self.test_images}[split]
        assert images is not None
        return images.pixels

    @property
    def counts(self) -> dict[str, int]:
        """Images in each set."""
        return {
            "unlabeled": len(self.unlabeled),
            "train": len(self.train),
            "val": len(self.val),
            "test": 0 if self.test_images is None else len(self.test_images),
        }


def make_splits(
    source: Source,
    *,
    seed: int,
    val_fraction: float = 0.1,
    keep_leaks: bool = False,
    drop_near: bool = False,
    look_at_test: bool = False,
    hashed: Hashed | None = None,
) -> Splits:
    """Split validation off, take copies of held-out images out of the training side, seal the test labels.

    In this order: exact copies of test images leave train and the source's own val; then ``val_fraction`` of each
    class becomes validation, where the source brings none; then exact copies of test and validation images leave
    unlabeled, and those of validation images leave train. Near copies of either (``near_copies``) in train and
    unlabeled are listed last, and leave only with ``drop_near``: validation is the same with it and without. Where
    unlabeled and train are rows of one array, the validation rows leave unlabeled too: that is the split itself, no
    leak, and a note counts them.

    Args:
        source: what a loader gave.
        seed: decides which images validate; the same seed and source give the same split everywhere.
        val_fraction: part of the labelled training images of each class (between 0 and 1); at least one.
        keep_leaks: leave every image where the source put it, and only list the copies.
        drop_near: take near copies out of the training side as well.
        look_at_test: also count the test images of each class and compare their labels with those of copies. Only
            for a look at the data: with a training to come, test labels stay unread.
        hashed: the source's images as looked at before, for another seed; none: they are looked at now.

    Raises:
        SettingsError: ``val_fraction`` or ``seed`` is out of range, or ``keep_leaks`` and ``drop_near`` are both
            asked for.
        DataError: a class would have no image in train or val, or no unlabeled image is left.
    """
    if not 0.0 < val_fraction < 1.0:
        raise SettingsError(f"The validation fraction is {val_fraction}: it must lie between 0 and 1.")
    if seed < 0:
        raise SettingsError(f"The seed is {seed}; it must be 0 or more.")
    if keep_leaks and drop_near:
        raise SettingsError("--keep-leaks keeps every copy and --drop-near takes near ones out: leave one of them out.")
    search = LeakSearch(hashed or Hashed.of(source), keep_leaks=keep_leaks, drop_near=drop_near)
    train, val_set, unlabeled, notes = _divided(source, search, seed, val_fraction, keep_leaks)
    train_set = source.train.take(train)
    unlabeled_set = source.unlabeled.take(unlabeled)
    remedy = "leave --drop-near out" if drop_near else "use --keep-leaks"
    if source.class_names and len(source.train):
        require_each_class(train_set, val_set, source.class_names, remedy)
    if len(unlabeled_set) == 0:
        raise DataError(
            f"{source.name} has no unlabeled image that is not a copy of a held-out one: add others, or {remedy}."
        )
    labelled = [part for part in ("train", "val", "test") if part in search.sets and (part != "test" or look_at_test)]
    conflicts = find_conflicts(
        {part: search.sets[part] for part in labelled}, search.digests, search.hashes, source.class_names
    )
    blank = int(search.hashes["unlabeled"].blank[unlabeled].sum())
    mean, std = channel_statistics(unlabeled_set)
    counted = {"train": train_set, "val": val_set, **({"test": source.test} if look_at_test and source.test else {})}
    return Splits(
        name=source.name,
        class_names=source.class_names,
        unlabeled=unlabeled_set,
        train=train_set,
        val=val_set,
        test_images=None if source.test is None else source.test.without_labels(),
        _test=source.test,
        mean=mean,
        std=std,
        folds=None if source.folds is None else [source.train.rows[fold] for fold in source.folds],
        leaks=search.leaks,
        conflicts=conflicts,
        blank=blank,
        class_counts={part: class_counts(images, source.class_names) for part, images in counted.items()},
        notes=[
            *source.notes,
            *notes,
            *search.notes(),
            *conflict_notes(conflicts),
            *_blank_notes(blank, len(unlabeled_set)),
        ],
        skipped=list(source.skipped),
        fingerprint=Fingerprint(
            [(images, search.digests[part]) for part, images in search.sets.items()],
            [train_set, val_set, unlabeled_set, *([] if source.test is None else [source.test])],
        ),
    )


def _divided(
    source: Source, search: LeakSearch, seed: int, val_fraction: float, keep_leaks: bool
) -> tuple[Indices, ImageSet, Indices, list[str]]:
    """The sides of a split, in the order of steps that ``make_splits`` says.

    Returns:
        Positions in train, the validation images, positions in unlabeled, and what a user should read of it.
    """
    test = {} if source.test is None else {"test": search.held_out("test", _all(source.test))}
    train = search.without_exact("train", _all(source.train), test)
    if source.val is not None:
        val_part, val = "val", search.without_exact("val", _all(source.val), test)
        val_set = source.val.take(val)
    else:
        drawn = draw_validation(source.train.take(train), source.class_names, seed, val_fraction)
        val_part, val = "train", train[drawn]
        val_set = source.train.take(val)
        train = np.setdiff1d(train, val)
    held_out = {**test, "val": search.held_out(val_part, val)}
    train = search.without_exact("train", train, {"val": held_out["val"]})
    unlabeled, notes = _without_validation_rows(source, val_set, keep_leaks)
    unlabeled = search.without_exact("unlabeled", unlabeled, held_out)
    train = search.without_near("train", train, held_out)
    unlabeled = search.without_near("unlabeled", unlabeled, held_out)
    return train, val_set, _all(source.unlabeled) if keep_leaks else unlabeled, notes


def _all(images: ImageSet) -> Indices:
    return np.arange(len(images), dtype=np.int64)


def _without_validation_rows(source: Source, val: ImageSet, keep_leaks: bool) -> tuple[Indices, list[str]]:
    """Positions in unlabeled of what isn't itself a validation image (the same row of the same array), and a note."""
    positions = _all(source.unlabeled)
    if val.pixels is not source.unlabeled.pixels:
        return positions, []
    same = np.isin(source.unlabeled.rows, val.rows)
    if not same.any():
        return positions, []
    if keep_leaks:
        note = f"{same.sum():,} validation images are also among the unlabeled ones (--keep-leaks)."
    else:
        note = f"{same.sum():,} validation images were among the unlabeled ones too and left them."
    return positions[~same], [note]


def _blank_notes(blank: int, total: int) -> list[str]:
    if not blank:
        return []
    is_or_are = "is" if blank == 1 else "are"
    learns = f"SimCLR learns nothing from {'it' if blank == 1 else 'them'}"
    return [f"{blank:,} of {total:,} unlabeled images {is_or_are} of (nearly) one colour: {learns}."]
