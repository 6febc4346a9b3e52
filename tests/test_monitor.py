"""Pretraining's monitor: leave-one-out kNN of all labelled images, beside one computed the long way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from twoviews.dataset.images import ImageSet
from twoviews.dataset.splits import Splits
from twoviews.settings import PretrainCommand, RunSettings
from twoviews.spacing import evenly_spaced_parts
from twoviews.stages import pretrain
from twoviews.stages.pretrain import MONITOR_K, MONITOR_TEMPERATURE
from twoviews.stages.setup import Shared
from twoviews.trainers.engine import Engine
from twoviews.trainers.steps import augmentation_of

SIZE, CLASSES = 8, 3


def images(count: int, seed: int, labelled: bool = True) -> ImageSet:
    """An array of its own, in which the rows of the set are every second one, last first."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pixels = rng.integers(0, 120, (2 * count, 3, SIZE, SIZE), dtype=np.uint8)
    rows = np.arange(2 * count - 1, 0, -2)
    pixels[rows, 0] += (40 * labels)[:, None, None].astype(np.uint8)
    return ImageSet(pixels, rows, labels if labelled else None, [str(i) for i in range(len(pixels))])


def shared(train: int, val: int, classes: int = CLASSES) -> Shared:
    splits = Splits(
        name="made",
        class_names=tuple("abc"[:classes]),
        unlabeled=images(20, 3, labelled=False),
        train=images(train, 1),
        val=images(val, 2),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
    )
    return Shared(Engine(RunSettings(device="cpu", precision="float32", threads=1)), splits)


def look(on: Shared, **changes: Any) -> dict[str, float]:
    settings = PretrainCommand(data="sample", epochs=4, monitor_epochs=2, **changes)
    backbone = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    found = pretrain._monitor(settings, on, backbone, augmentation_of(settings, SIZE), pretrain._labelled(on))
    assert found(1) == {}
    return found(2)


@pytest.mark.parametrize(("train", "val"), [(40, 9), (40, 0), (5, 3)])
def test_each_labelled_image_is_classified_by_all_the_others(train: int, val: int) -> None:
    on = shared(train, val)
    sets = [on.splits.train, on.splits.val]
    pixels = torch.cat([torch.from_numpy(part.pixels[part.rows]) for part in sets]).float() / 255
    labels = np.concatenate([part.labels for part in sets if part.labels is not None])
    mean, std = (torch.tensor(values)[:, None, None] for values in (on.splits.mean, on.splits.std))
    pooled = ((pixels - mean) / std).reshape(-1, 3, 2, SIZE // 2, 2, SIZE // 2).mean(dim=(3, 5)).flatten(1).double()
    unit = (pooled / pooled.norm(dim=1, keepdim=True)).numpy()
    right = 0
    for i in range(len(unit)):
        others = np.delete(np.arange(len(unit)), i)
        similar = unit[others] @ unit[i]
        near = np.argsort(-similar)[:MONITOR_K]
        votes = np.exp((similar[near] - similar.max()) / MONITOR_TEMPERATURE)
        right += np.bincount(labels[others[near]], votes, CLASSES).argmax() == labels[i]
    assert look(on)["knn_top1"] == pytest.approx(right / len(unit))


def test_without_labels_or_with_one_class_there_is_no_accuracy() -> None:
    for on in (shared(0, 0), shared(12, 3, classes=1)):
        assert set(look(on)) == {"alignment", "uniformity", "effective_rank"}


def test_of_more_labelled_images_evenly_spaced_ones_are_classified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "MONITOR_IMAGES", 10)
    on = shared(30, 10)
    train, val = pretrain._labelled(on)
    assert list(train.rows) == list(on.splits.train.rows[::4])
    assert list(val.rows) == list(on.splits.val.rows[2::4])


@pytest.mark.parametrize("lengths", [(7, 3), (0, 5), (5, 0), (0, 0), (2, 3, 4)])
@pytest.mark.parametrize("most", [1, 4, 100])
def test_parts_are_those_of_one_row(lengths: tuple[int, ...], most: int) -> None:
    parts = evenly_spaced_parts(lengths, most)
    begins = np.cumsum([0, *lengths])
    row = np.concatenate([part + begin for part, begin in zip(parts, begins, strict=False)])
    (whole,) = evenly_spaced_parts([sum(lengths)], most)
    assert list(row) == list(whole)
    assert len(row) == min(most, sum(lengths))
    assert all(((part >= 0) & (part < length)).all() for part, length in zip(parts, lengths, strict=True))
