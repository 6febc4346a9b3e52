"""Label budgets: nested, stratified, seeded, validation counted; folds as published."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from test_splits import image_set, make_source, random_images, rows

from twoviews.dataset.label_budget import label_counts, with_fold, with_label_fraction, with_labels_per_class
from twoviews.dataset.splits import Splits, make_splits
from twoviews.errors import SettingsError

VAL = 0.2


def splits_of(seed: int = 0, **changes: object) -> Splits:
    return make_splits(make_source(train=90, **changes), seed=seed, val_fraction=VAL)


def per_class(splits: Splits, count: int, seed: int = 0) -> Splits:
    return with_labels_per_class(splits, count, seed=seed, val_fraction=VAL)


def test_a_budget_counts_validation_and_is_stratified() -> None:
    splits = splits_of()
    for count, validates in ((2, 1), (4, 1), (10, 2), (18, 4), (30, 6)):
        limited = per_class(splits, count)
        assert list(label_counts(limited)) == [count] * 3
        assert limited.class_counts["val"] == [validates] * 3
        assert limited.counts["train"] == 3 * (count - validates)


@pytest.mark.parametrize("own_validation", [False, True])
def test_budgets_are_nested_and_no_image_changes_sides(own_validation: bool) -> None:
    own = {"val": image_set(random_images(12, 9), np.arange(12, dtype=np.int64) % 3, "val")} if own_validation else {}
    splits = splits_of(**own)
    budgets = [per_class(splits, count) for count in range(2, 35)]
    for small, large in pairwise([*budgets, splits]):
        assert set(rows(small.train)) <= set(rows(large.train))
        assert set(rows(small.val)) <= set(rows(large.val))
    sizes = [sum(label_counts(budget)) for budget in budgets]
    most = 3 * 34 if own_validation else 3 * 30
    assert sizes == [min(3 * count, most) for count in range(2, 35)]
    assert rows(budgets[-1].train) == rows(splits.train)
    assert rows(budgets[-1].val) == rows(splits.val)


def test_fractions_are_the_same_draw() -> None:
    splits = splits_of()
    third = with_label_fraction(splits, 1 / 3, seed=0, val_fraction=VAL)
    assert rows(third.train) == rows(per_class(splits, 10).train)
    least = with_label_fraction(splits, 0.001, seed=0, val_fraction=VAL)
    assert list(label_counts(least)) == [2, 2, 2]
    assert rows(with_label_fraction(splits, 1.0, seed=0, val_fraction=VAL).train) == rows(splits.train)


def test_the_draw_is_the_seeds() -> None:
    splits = splits_of()
    assert rows(per_class(splits, 5, 1).train) == rows(per_class(splits, 5, 1).train)
    assert len({tuple(rows(per_class(splits, 5, seed).train)) for seed in range(6)}) == 6


def test_all_else_stays_the_whole_studys() -> None:
    splits = splits_of()
    limited = per_class(splits, 4)
    assert limited.unlabeled is splits.unlabeled
    assert (limited.mean, limited.std) == (splits.mean, splits.std)
    assert limited.open_test() is splits.open_test()
    assert limited.fingerprint is not None
    assert splits.fingerprint is not None
    assert limited.fingerprint.content["images"] == splits.fingerprint.content["images"]
    assert limited.fingerprint.content["sets"] != splits.fingerprint.content["sets"]
    assert limited.fingerprint.content == per_class(splits, 4).fingerprint.content  # type: ignore[union-attr]
    assert limited.notes[-1] == "12 of 90 labels are used: 4 of each class."


def test_a_class_with_fewer_gives_all_it_has_and_a_note_says_so() -> None:
    labels = np.array([0] * 40 + [1] * 44 + [2] * 6, dtype=np.int64)
    source = make_source(train=90)
    source = replace(source, train=replace(source.train, labels=labels))
    limited = per_class(make_splits(source, seed=0, val_fraction=VAL), 20)
    assert list(label_counts(limited)) == [20, 20, 6]
    assert limited.notes[-1] == "Fewer than 20 labels were there, and all are used, of c."


@pytest.mark.parametrize("count", [1, 0, -3])
def test_one_label_can_not_train_and_validate(count: int) -> None:
    with pytest.raises(SettingsError, match="at least 2"):
        per_class(splits_of(), count)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_fractions_out_of_range_are_refused(fraction: float) -> None:
    with pytest.raises(SettingsError, match="above 0 and at most 1"):
        with_label_fraction(splits_of(), fraction, seed=0, val_fraction=VAL)


def test_a_fold_trains_whole_and_validation_lies_outside() -> None:
    fold = np.arange(0, 90, 2, dtype=np.int64)
    splits = splits_of(folds=[fold, np.arange(1, 90, 2, dtype=np.int64)])
    one = with_fold(splits, 0)
    assert rows(one.train) == list(fold)
    assert one.train.labels is not None
    assert list(one.train.labels) == [row % 3 for row in fold]
    assert set(rows(one.val)) == set(rows(splits.val)) - set(fold.tolist())
    assert rows(with_fold(splits, 1).train) == list(range(1, 90, 2))


def test_validation_of_a_fold_is_too_small_to_choose_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twoviews.dataset.label_budget.FOLD_VALIDATION", 5)
    splits = splits_of(folds=[np.arange(9, dtype=np.int64)])
    assert len(with_fold(splits, 0).val) == 5


def test_a_folds_image_that_was_a_copy_is_gone_and_said() -> None:
    source = make_source(train=90)
    pixels = source.train.pixels.copy()
    assert source.test is not None
    pixels[4] = source.test.pixels[0]
    source = replace(source, train=replace(source.train, pixels=pixels), folds=[np.arange(0, 90, 2, dtype=np.int64)])
    one = with_fold(make_splits(source, seed=0, val_fraction=VAL), 0)
    assert rows(one.train) == [row for row in range(0, 90, 2) if row != 4]
    assert "1 of the fold" in one.notes[-1]


def test_folds_that_are_not_there_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"--fold: .* has no official folds; stl10 and cifar10_as_stl10 have"):
        with_fold(splits_of(), 0)
    with pytest.raises(SettingsError, match="folds of stl10 is missing"):
        with_fold(replace(splits_of(), name="stl10"), 0)
    with pytest.raises(SettingsError, match="the folds 0 to 0"):
        with_fold(splits_of(folds=[np.arange(9, dtype=np.int64)]), 1)
