"""Features of single images as files hold them: of test images, and in a file of their own of labelled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twoviews.report.image_index import Index


def read_features(path: Path) -> NDArray[Any]:
    """N×D floating numbers, mapped from the file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError: it is damaged, or holds something else.
    """
    found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if found.ndim != 2 or found.dtype.kind != "f":
        raise ValueError("it holds no features")
    return found


def tested_features(path: Path, index: Index) -> NDArray[Any]:
    """Features of the test images of a test stage's index, in its order.

    The file may hold those of all test images, which their ids count, where the maps show a part of them.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError: it is damaged, holds something else, or doesn't fit the index.
    """
    found = read_features(path)
    ids = [one for one, is_test in zip(index.ids, index.is_test, strict=True) if is_test]
    if len(found) == len(ids):
        return found
    rows = [int(one) if one.isdecimal() else -1 for one in ids]
    if min(rows, default=0) < 0 or max(rows, default=0) >= len(found):
        raise ValueError(f"it has {len(found):,} rows for {len(ids):,} test images of index.csv")
    return found[np.array(rows, dtype=np.int64)]


def labelled_features(path: Path, index: Index, width: int) -> NDArray[Any]:
    """Features of the images of training and validation of a test stage's index, which have a file of their own.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError: it is damaged, holds something else, or doesn't fit the index.
    """
    found = read_features(path)
    if found.shape != (int((~index.is_test).sum()), width):
        raise ValueError("it does not fit index.csv")
    return found


def in_order(index: Index, tested: NDArray[Any], labelled: NDArray[Any] | None) -> NDArray[Any]:
    """N×D features of every image of the index; not finite for those of training and validation without any."""
    is_test = index.is_test
    if is_test.all():
        return np.asarray(tested)
    found = np.full((len(index), tested.shape[1]), np.nan, dtype=tested.dtype)
    found[is_test] = tested
    if labelled is not None:
        found[~is_test] = labelled
    return found
