"""What a run says about its images: lists where there is something to list, and a few pairs of pictures."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twoviews.dataset.images import ImageSet, Skipped, Source
from twoviews.dataset.splits import Splits, make_splits
from twoviews.stages.data_files import SHOWN_NEAR, SHOWN_PAIRS, data_results, write_data


def a_source(size: int = 12) -> Source:
    """40 unlabeled, 20 train and 40 test images."""
    rng = np.random.default_rng(0)
    parts = {
        part: rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
        for part, count in (("unlabeled", 40), ("train", 20), ("test", 40))
    }
    labels = {"train": np.arange(20) % 2, "test": np.arange(40) % 2, "unlabeled": None}
    sets = {p: ImageSet.whole(x, labels[p], [f"{p}/{i:02d}" for i in range(len(x))]) for p, x in parts.items()}
    return Source(name="toys", class_names=("a", "=b"), **sets)


def with_copies(source: Source, exact: int, near: int) -> Splits:
    """The first unlabeled images become copies of the first test images."""
    assert source.test is not None
    pixels = source.unlabeled.pixels.copy()
    pixels[: exact + near] = source.test.pixels[: exact + near]
    pixels[exact : exact + near, 0, 0] //= 2
    return make_splits(replace(source, unlabeled=replace(source.unlabeled, pixels=pixels)), seed=0)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_clean_data_leaves_no_empty_lists(tmp_path: Path) -> None:
    splits = make_splits(a_source(), seed=0)
    write_data(tmp_path, splits)
    assert names(tmp_path) == {"data.json"}
    results = data_results(splits, keep_leaks=False, drop_near=False)
    assert [results[k] for k in ("leaks_removed", "near_copies", "label_conflicts", "skipped")] == [0, 0, 0, 0]


def test_lists_hold_everything_and_the_sheet_a_few_pairs(tmp_path: Path) -> None:
    splits = with_copies(a_source(), exact=15, near=20)
    splits = replace(splits, skipped=[Skipped("unlabeled/x.jpg", "empty file", 0)])
    write_data(tmp_path, splits)
    assert names(tmp_path) == {"data.json", "leaks.csv", "leaks.webp", "skipped.csv"}
    with open(tmp_path / "leaks.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 35
    assert [row["kind"] for row in rows] == ["exact"] * 15 + ["near"] * 20
    assert all(0.9 <= float(row["similarity"]) <= 1 for row in rows)
    data = json.loads((tmp_path / "data.json").read_text())
    assert [list(leak) for leak in data["leaks"]] == [list(row) for row in rows]
    shown, size = data["leak_pictures"]["leaks"], data["leak_pictures"]["size"]
    assert len(shown) == len(set(shown)) == SHOWN_PAIRS
    assert [data["leaks"][i]["kind"] for i in shown] == ["near"] * SHOWN_NEAR + ["exact"] * (SHOWN_PAIRS - SHOWN_NEAR)
    with Image.open(tmp_path / "leaks.webp") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape == (SHOWN_PAIRS * size, 2 * size, 3)
    assert splits.test_images is not None
    for row, place in enumerate(shown):
        leak = splits.leaks[place]
        right = pixels[row * size : (row + 1) * size, size:].transpose(2, 0, 1)
        assert np.array_equal(right, splits.test_images.pixels[int(leak.copy_of.split("/")[1])])
        left = pixels[row * size : (row + 1) * size, :size].transpose(2, 0, 1)
        assert np.array_equal(left, right) == (leak.kind == "exact")
    results = data_results(splits, keep_leaks=False, drop_near=False)
    assert [results[k] for k in ("leaks_removed", "near_copies", "near_copies_removed", "skipped")] == [15, 20, 0, 1]


@pytest.mark.parametrize(
    ("flags", "stayed"), [({}, 20), ({"drop_near": True}, 0), ({"keep_leaks": True}, 35)], ids=["", "near", "keep"]
)
def test_copies_of_test_images_that_pretraining_sees_are_counted(flags: dict[str, bool], stayed: int) -> None:
    splits = with_copies(a_source(), exact=15, near=20)
    assert {(leak.split, leak.copy_of_split) for leak in splits.leaks} == {("unlabeled", "test")}
    found = data_results(splits, **({"keep_leaks": False, "drop_near": False} | flags))
    assert found["test_copies_pretrained_on"] == stayed
    elsewhere = replace(splits, leaks=[replace(leak, split="train") for leak in splits.leaks])
    assert data_results(elsewhere, keep_leaks=True, drop_near=False)["test_copies_pretrained_on"] == 0


def test_large_pictures_are_made_small(tmp_path: Path) -> None:
    write_data(tmp_path, with_copies(a_source(size=200), exact=2, near=0))
    with Image.open(tmp_path / "leaks.webp") as sheet:
        assert sheet.size == (2 * 96, 2 * 96)
