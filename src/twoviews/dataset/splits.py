"""From a source to what training may see: validation split off, held-out images' copies out, test sealed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from twoviews.dataset.copies import Leak, copy_groups, find_leaks, first_names, image_digests
from twoviews.dataset.images import ImageSet, Indices, Skipped, Source
from twoviews.errors import DataError, SettingsError

__all__ = ["Leak", "Splits", "channel_statistics", "make_splits"]

MAX_STATISTICS_IMAGES = 10_000
_BLOCK = 256
_Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Splits:
    """The sets of a study.

    Attributes:
        name: the source's short name.
        class_names: name of each class number.
        unlabeled: images for pretraining.
        train: labelled training images, without validation.
        val: labelled validation images; empty where there are no labels.
        test_images: test images without their labels, or None.
        leaks: exact copies of held-out images, by the set they were left out of.
        mean, std: of each channel (R, G, B) over the unlabeled images, in [0, 1] units.
        folds: for each official fold, positions in ``train`` of its images that are still there, or None.
        notes: sentences a user should read.
        skipped: files that were left out.
    """

    name: str
    class_names: tuple[str, ...]
    unlabeled: ImageSet
    train: ImageSet
    val: ImageSet
    leaks: list[Leak]
    notes: list[str]
    skipped: list[Skipped]
    folds: list[Indices] | None
    mean: _Channels
    std: _Channels
    test_images: ImageSet | None
    _test: ImageSet | None = field(repr=False, default=None)

    def open_test(self) -> ImageSet:
        """Test images with their labels: the one door to them, for the test stage alone.

        Raises:
            DataError: there is no test part.
        """
        if self._test is None:
            raise DataError(f"{self.name} has no test part: add test/<class>/, or name one with --test DIR.")
        return self._test

    @property
    def counts(self) -> dict[str, int]:
        """Images in each set."""
        return {
            "unlabeled": len(self.unlabeled),
            "train": len(self.train),
            "val": len(self.val),
            "test": 0 if self.test_images is None else len(self.test_images),
        }


def make_splits(source: Source, *, seed: int, val_fraction: float = 0.1, keep_leaks: bool = False) -> Splits:
    """Split validation off, take copies of held-out images out of the training side, seal the test labels.

    In this order: copies of test images leave train and the source's own val; then ``val_fraction`` of each
    class becomes validation, where the source brings none; then copies of test and validation images leave
    unlabeled, and copies of validation images leave train. Copies are exact, by pixels. Where unlabeled and
    train are rows of one array, the validation rows leave unlabeled too: that is the split itself, no leak,
    and a note counts them.

    Args:
        source: what a loader gave.
        seed: decides which images validate; the same seed and source give the same split everywhere.
        val_fraction: part of the labelled training images of each class (between 0 and 1); at least one.
        keep_leaks: leave every image where the source put it, and only list the copies.

    Raises:
        SettingsError: ``val_fraction`` or ``seed`` is out of range.
        DataError: a class would have no image in train or val, or no unlabeled image is left.
    """
    if not 0.0 < val_fraction < 1.0:
        raise SettingsError(f"The validation fraction is {val_fraction}: it must lie between 0 and 1.")
    if seed < 0:
        raise SettingsError(f"The seed is {seed}; it must be 0 or more.")
    notes = list(source.notes)
    given = {"train": source.train, "val": source.val, "test": source.test, "unlabeled": source.unlabeled}
    sets = {part: images for part, images in given.items() if images is not None}
    digests = dict(zip(sets, image_digests(list(sets.values())), strict=True))
    test_names = {"test": first_names(sets["test"], digests["test"])} if "test" in sets else {}
    leaks: list[Leak] = []

    def leave_out(part: str, positions: Indices, held_out: dict[str, dict[bytes, str]]) -> Indices:
        """The positions of a part that stay, once copies of held-out images have left."""
        images = sets[part].take(positions)
        mask, found = find_leaks(part, images, [digests[part][i] for i in positions], held_out)
        leaks.extend(found)
        return positions if keep_leaks else positions[~mask]

    train = leave_out("train", _all(source.train), test_names)
    _note_conflicts(source, train, digests["train"], notes)
    if source.val is not None:
        val = leave_out("val", _all(source.val), test_names)
        val_set, val_digests = source.val.take(val), [digests["val"][i] for i in val]
    else:
        val = train[_stratified(source.train.take(train), source.class_names, seed, val_fraction)]
        train = np.setdiff1d(train, val)
        val_set, val_digests = source.train.take(val), [digests["train"][i] for i in val]
    val_names = {"val": first_names(val_set, val_digests)}
    train = leave_out("train", train, val_names)
    unlabeled = _without_validation_rows(source, val_set, keep_leaks, notes)
    unlabeled = leave_out("unlabeled", unlabeled, {**test_names, **val_names})
    if keep_leaks:
        unlabeled = _all(source.unlabeled)

    train_set = source.train.take(train)
    unlabeled_set = source.unlabeled.take(unlabeled)
    if source.class_names and len(source.train):
        _require_each_class(train_set, val_set, source.class_names)
    if len(unlabeled_set) == 0:
        raise DataError(
            f"{source.name} has no unlabeled image that is not a copy of a held-out one: add others, or use "
            "--keep-leaks."
        )
    notes += _leak_notes(leaks, {part: len(images) for part, images in sets.items()}, keep_leaks)
    mean, std = channel_statistics(unlabeled_set)
    return Splits(
        name=source.name,
        class_names=source.class_names,
        unlabeled=unlabeled_set,
        train=train_set,
        val=val_set,
        leaks=leaks,
        notes=notes,
        skipped=list(source.skipped),
        folds=None if source.folds is None else [_positions_of(fold, train) for fold in source.folds],
        mean=mean,
        std=std,
        test_images=None if source.test is None else source.test.without_labels(),
        _test=source.test,
    )


def _all(images: ImageSet) -> Indices:
    return np.arange(len(images), dtype=np.int64)


def _positions_of(wanted: Indices, positions: Indices) -> Indices:
    """Where the members of ``wanted`` stand in the ascending ``positions``, those that are there."""
    return np.searchsorted(positions, wanted[np.isin(wanted, positions)]).astype(np.int64)


def _stratified(images: ImageSet, class_names: tuple[str, ...], seed: int, fraction: float) -> Indices:
    """Ascending positions of the validation images: a part of each class, drawn from (seed, class) alone."""
    assert images.labels is not None
    chosen: list[Indices] = [np.empty(0, dtype=np.int64)]
    if len(images):
        counts = np.bincount(images.labels, minlength=len(class_names))
        if counts.min() < 2:
            few = ", ".join(f"{class_names[i]}: {counts[i]}" for i in np.flatnonzero(counts < 2)[:10])
            raise DataError(
                f"Each class needs at least 2 labelled images, one to train and one to validate; there are "
                f"{few}. Add images, leave the class out, or bring your own val/<class>/."
            )
        for number in range(len(class_names)):
            members = np.flatnonzero(images.labels == number)
            count = min(max(1, int(len(members) * fraction + 0.5)), len(members) - 1)
            order = np.random.Generator(np.random.PCG64([seed, number])).permutation(len(members))
            chosen.append(members[order[:count]])
    return np.sort(np.concatenate(chosen))


def _without_validation_rows(source: Source, val: ImageSet, keep_leaks: bool, notes: list[str]) -> Indices:
    """Positions in unlabeled of what isn't itself a validation image (the same row of the same array)."""
    positions = _all(source.unlabeled)
    if val.pixels is not source.unlabeled.pixels:
        return positions
    same = np.isin(source.unlabeled.rows, val.rows)
    if not same.any():
        return positions
    if keep_leaks:
        notes.append(f"{same.sum():,} validation images are also among the unlabeled ones (--keep-leaks).")
    else:
        notes.append(f"{same.sum():,} validation images were among the unlabeled ones too and left them.")
    return positions[~same]


def _require_each_class(train: ImageSet, val: ImageSet, class_names: tuple[str, ...]) -> None:
    for part, images in (("train", train), ("val", val)):
        assert images.labels is not None
        counts = np.bincount(images.labels, minlength=len(class_names))
        if counts.min() == 0:
            empty = ", ".join(class_names[i] for i in np.flatnonzero(counts == 0)[:10])
            raise DataError(
                f"No {part} image is left of {empty} (others have up to {counts.max()}), once copies of "
                "held-out images are out: add images, leave the class out, or use --keep-leaks."
            )


def _note_conflicts(source: Source, positions: Indices, digests: list[bytes], notes: list[str]) -> None:
    """Say which training pictures are there under two labels."""
    labels = source.train.labels
    assert labels is not None
    conflicts = []
    for group in copy_groups([digests[i] for i in positions]):
        members = positions[group]
        if len(np.unique(labels[members])) > 1:
            conflicts.append(" = ".join(source.train.name(int(i)) for i in members))
    if conflicts:
        notes.append(
            f"{len(conflicts):,} training pictures are there under two labels: {'; '.join(conflicts[:5])}"
            f"{' …' if len(conflicts) > 5 else ''}."
        )


def _leak_notes(leaks: list[Leak], totals: dict[str, int], keep_leaks: bool) -> list[str]:
    what = "were kept (--keep-leaks)" if keep_leaks else "were left out"
    counts = Counter((leak.split, leak.copy_of_split) for leak in leaks)
    return [
        f"{count:,} of {totals[split]:,} {split} images are exact copies of {of} images and {what}."
        for (split, of), count in counts.items()
    ]


def channel_statistics(images: ImageSet) -> tuple[_Channels, _Channels]:
    """Mean and standard deviation of each channel in [0, 1] units, over at most 10,000 evenly spaced images.

    Sums of whole numbers in float64 are exact here, so the result is the same bit for bit on every machine.
    The deviation is at least 1/255, so that constant images can be divided by it.
    """
    count = min(len(images), MAX_STATISTICS_IMAGES)
    positions = np.arange(count, dtype=np.int64) * len(images) // count
    total: npt.NDArray[np.float64] = np.zeros(3)
    squares: npt.NDArray[np.float64] = np.zeros(3)
    for start in range(0, count, _BLOCK):
        block = images.read(positions[start : start + _BLOCK]).astype(np.float64)
        total += block.sum(axis=(0, 2, 3))
        squares += np.einsum("nchw,nchw->c", block, block)
    pixels = count * images.pixels.shape[2] * images.pixels.shape[3]
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1.0))
    red, green, blue = (float(value) for value in mean / 255.0)
    red_std, green_std, blue_std = (float(value) for value in std / 255.0)
    return (red, green, blue), (red_std, green_std, blue_std)
