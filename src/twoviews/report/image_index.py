"""Which images a stage lists in its CSV files, their classes, and where they are on its maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twoviews.files import safe_cell


@dataclass(frozen=True)
class Index:
    """The images that an ``index.csv`` lists, each list with an entry for each.

    Attributes:
        ids: counted in each split anew.
        splits: ``test``, ``train`` or ``val``; empty where the file doesn't say.
        files: name of each.
        labels: names of classes as CSV files have them.
    """

    ids: list[str]
    splits: list[str]
    files: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_test(self) -> NDArray[np.bool_]:
        """Which of the images are test images."""
        return np.array([split == "test" for split in self.splits], dtype=bool)

    def part(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Index:
        """The same of these images alone, chosen by a mask or by their positions."""
        rows = np.arange(len(self))[chosen].tolist()
        return Index(*([each[i] for i in rows] for each in (self.ids, self.splits, self.files, self.labels)))


@dataclass(frozen=True)
class Maps:
    """Coordinates of images on several maps.

    Attributes:
        points: N×2 of each map.
        labels: class number of each image, −1 where unknown.
        class_names: as users wrote them.
        index: the images.
    """

    points: dict[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    class_names: list[str]
    index: Index

    def test_images(self) -> Maps:
        """The same of the test images alone."""
        chosen = self.index.is_test
        if chosen.all():
            return self
        points = {name: places[chosen] for name, places in self.points.items()}
        return Maps(points, self.labels[chosen], self.class_names, self.index.part(chosen))


def class_numbers(names: Sequence[str]) -> dict[str, int]:
    """The number of each class by its name as CSV files have it."""
    return {safe_cell(name): i for i, name in enumerate(names)}


def numbered(cells: Iterable[str | None], names: Sequence[str]) -> NDArray[np.int64]:
    """The class number of each of a CSV file's cells, −1 for one that is no class."""
    numbers = class_numbers(names)
    return np.array([numbers.get(cell or "", -1) for cell in cells], dtype=np.int64)


def fraction(cell: str | None) -> float:
    """A probability from a CSV file; NaN where there is none."""
    try:
        found = float(cell or "nan")
    except ValueError:
        return float("nan")
    return found if 0 <= found <= 1 else float("nan")
