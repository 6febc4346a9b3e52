"""What a finished test stage knows of each image on its maps, read back from its folder for other viewers."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.errors import DataError
from twoviews.files import safe_cell
from twoviews.report.explore.sheet import Sheet, picture_id, read_sheet
from twoviews.report.source import load

# SimCLR's first: what is asked about.
BACKBONES = ("pretrained", "finetuned", "supervised", "random_init", "imagenet_finetuned")


@dataclass(frozen=True)
class MapTable:
    """Images on maps, N of them; every array and list has a row for each.

    Attributes:
        folder: of the test stage.
        backbones: whose features or maps there are, SimCLR's first.
        ids, splits, files, labels: as in ``index.csv``; a label is the class name as the user wrote it.
        predictions: of each model the class names, "" where it made none.
        confidences: of each model the probability of the predicted class, NaN where unknown.
        points: ``<backbone>_<kind>`` → N×2 float32.
        clusters: backbone → N cluster numbers, −1 where unknown.
        sheet: pictures, or None.
    """

    folder: Path
    backbones: list[str]
    ids: list[str]
    splits: list[str]
    files: list[str]
    labels: list[str]
    predictions: dict[str, list[str]]
    confidences: dict[str, npt.NDArray[np.float32]]
    points: dict[str, npt.NDArray[np.float32]]
    clusters: dict[str, npt.NDArray[np.int16]]
    sheet: Sheet | None

    def __len__(self) -> int:
        return len(self.ids)

    def features(self, backbone: str) -> npt.NDArray[Any] | None:
        """N×D of any float type; None where the run holds none.

        Raises:
            DataError: a file is damaged, holds a number that isn't finite, or does not fit the index.
        """
        path = self.folder / f"features-{backbone}.npy"
        if not path.exists():
            return None
        tested = [one for one, split in zip(self.ids, self.splits, strict=True) if split == "test"]
        found = _matrix(path)
        if len(found) != len(tested):
            # The file may hold all test images, which their ids count, where the maps show a part of them.
            rows = [int(one) if one.isdecimal() else -1 for one in tested]
            if min(rows, default=0) < 0 or max(rows, default=0) >= len(found):
                raise _damaged(path, f"it has {len(found):,} rows for {len(tested):,} test images of index.csv")
            found = found[rows]
        if len(tested) == len(self):
            return found
        # Training and validation images have a file of their own, in the order of the index.
        path = self.folder / f"train_features-{backbone}.npy"
        more = _matrix(path)
        if more.shape != (len(self) - len(tested), found.shape[1]):
            raise _damaged(path, "it does not fit index.csv")
        whole = np.empty((len(self), found.shape[1]), dtype=found.dtype)
        is_test = np.array(self.splits) == "test"
        whole[is_test], whole[~is_test] = found, more
        return whole


def read_map_table(run: Path, backbone: str = "all") -> MapTable:
    """Everything there is of the images on a run's maps; of several seeds, those of the first.

    Args:
        run: a study, finished or not, a seed's folder, or a test run.
        backbone: one of ``BACKBONES``, or "all".

    Raises:
        DataError: no run, no maps in it, damaged files, or nothing of this backbone.
    """
    found = load(run)
    stage = found.stages.get("test")
    if stage is None:
        raise DataError(f"{run} has no test stage, which draws the maps: name a study or a test run that is finished.")
    folder = stage.folder
    index = found.table(folder / "index.csv")
    if not index:
        raise DataError(f"{folder}/index.csv lists no images: the test is not finished, or was run with --no-maps.")
    points = _arrays(folder / "maps.npz", (len(index), 2))
    there = {name.rpartition("_")[0] for name in points}
    there |= {path.stem.removeprefix("features-") for path in folder.glob("features-*.npy")}
    backbones = [name for name in BACKBONES if name in there and backbone in (name, "all")]
    if not backbones:
        raise DataError(f"{folder} holds neither maps nor features of {backbone}; it has {_listed(there)}.")
    clusters = _arrays(folder / "clusters.npz", (len(index),))
    ids = [row.get("id") or "" for row in index]
    splits = [row.get("split") or "test" for row in index]
    names = {str(safe_cell(name)): name for name in found.class_names}
    predictions, confidences = _predictions(found.table(folder / "predictions.csv"), ids, splits, names)
    return MapTable(
        folder=folder,
        backbones=backbones,
        ids=ids,
        splits=splits,
        files=[row.get("file") or "" for row in index],
        labels=[names.get(label := row.get("label") or "", label) for row in index],
        predictions=predictions,
        confidences=confidences,
        points={
            name: places.astype(np.float32)
            for one in backbones
            for name, places in points.items()
            if name.rpartition("_")[0] == one
        },
        clusters={name: clusters[name].astype(np.int16) for name in backbones if name in clusters},
        sheet=read_sheet(folder, [str(picture_id(*one)) for one in zip(splits, ids, strict=True)], []),
    )


def _predictions(
    rows: list[dict[str, str]], ids: list[str], splits: list[str], names: dict[str, str]
) -> tuple[dict[str, list[str]], dict[str, npt.NDArray[np.float32]]]:
    """Of each model of ``predictions.csv``, what it says of the images of the index; only test images have that."""
    by_id = {row.get("id"): row for row in rows}
    mine = [by_id.get(one, {}) if split == "test" else {} for one, split in zip(ids, splits, strict=True)]
    models = [key for key in (rows[0] if rows else {}) if f"{key}_confidence" in rows[0]]
    said = {model: [names.get(cell := row.get(model) or "", cell) for row in mine] for model in models}
    sure = {model: np.array([_number(row.get(f"{model}_confidence")) for row in mine], np.float32) for model in models}
    return said, sure


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _matrix(path: Path) -> npt.NDArray[Any]:
    """Rows of finite floating numbers."""
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if found.ndim != 2 or found.dtype.kind != "f":
        raise _damaged(path, "it holds no features")
    if not np.isfinite(found).all():
        raise _damaged(path, "a number in it is not finite")
    return found


def _arrays(path: Path, shape: tuple[int, ...]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of this shape in a file, which may be missing; others are not rows of the index."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
    if found and not any(array.shape == shape for array in found.values()):
        raise _damaged(path, f"its rows don't fit the {shape[0]:,} images of index.csv")
    return {name: array for name, array in found.items() if array.shape == shape and array.dtype.kind in "fiu"}


def _damaged(path: Path, why: object) -> DataError:
    said = " ".join(str(why).split())
    return DataError(f"{path} can't be used ({said}): test the run again, `twoviews test RUN --new`.")


def _listed(names: set[str]) -> str:
    return ", ".join(name for name in BACKBONES if name in names) or "none at all"
