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
from twoviews.report.explore.image_features import in_order, labelled_features, tested_features
from twoviews.report.explore.sheet import Sheet, picture_id, read_sheet
from twoviews.report.image_index import Index, fraction
from twoviews.report.run import load

# SimCLR's first: what is asked about.
BACKBONES = ("pretrained", "finetuned", "supervised", "random_init", "imagenet_finetuned")


@dataclass(frozen=True)
class MapTable:
    """Images on maps, N of them; every array and list has a row for each.

    Attributes:
        folder: of the test stage.
        backbones: whose features or maps there are, SimCLR's first.
        index: as ``index.csv`` has them.
        labels: the class name of each as the user wrote it.
        predictions: of each model the class names, "" where it made none.
        confidences: of each model the probability of the predicted class, NaN where unknown.
        points: ``<backbone>_<kind>`` → N×2 float32.
        clusters: backbone → N cluster numbers, −1 where unknown.
        sheet: pictures, or None.
    """

    folder: Path
    backbones: list[str]
    index: Index
    labels: list[str]
    predictions: dict[str, list[str]]
    confidences: dict[str, npt.NDArray[np.float32]]
    points: dict[str, npt.NDArray[np.float32]]
    clusters: dict[str, npt.NDArray[np.int16]]
    sheet: Sheet | None

    def __len__(self) -> int:
        return len(self.index)

    def features(self, backbone: str) -> npt.NDArray[Any] | None:
        """N×D of any float type; None where the run holds none.

        Raises:
            DataError: a file is damaged, holds a number that isn't finite, or does not fit the index.
        """
        path, labelled = self.folder / f"features-{backbone}.npy", None
        try:
            tested = _finite(tested_features(path, self.index))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        if not self.index.is_test.all():
            path = self.folder / f"train_features-{backbone}.npy"
            try:
                labelled = _finite(labelled_features(path, self.index, tested.shape[1]))
            except (OSError, ValueError) as error:
                raise _damaged(path, error) from error
        return in_order(self.index, tested, labelled)


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
    index = found.index("test")
    if not len(index):
        raise DataError(f"{folder}/index.csv lists no images: the test is not finished, or was run with --no-maps.")
    points = _arrays(folder / "maps.npz", (len(index), 2))
    there = {name.rpartition("_")[0] for name in points}
    there |= {path.stem.removeprefix("features-") for path in folder.glob("features-*.npy")}
    backbones = [name for name in BACKBONES if name in there and backbone in (name, "all")]
    if not backbones:
        raise DataError(f"{folder} holds neither maps nor features of {backbone}; it has {_listed(there)}.")
    clusters = _arrays(folder / "clusters.npz", (len(index),))
    names = {str(safe_cell(name)): name for name in found.class_names}
    predictions, confidences = _predictions(found.table(folder / "predictions.csv"), index, names)
    return MapTable(
        folder=folder,
        backbones=backbones,
        index=index,
        labels=[names.get(label, label) for label in index.labels],
        predictions=predictions,
        confidences=confidences,
        points={
            name: places.astype(np.float32)
            for one in backbones
            for name, places in points.items()
            if name.rpartition("_")[0] == one
        },
        clusters={name: clusters[name].astype(np.int16) for name in backbones if name in clusters},
        sheet=read_sheet(folder, [str(picture_id(*one)) for one in zip(index.splits, index.ids, strict=True)], []),
    )


def _predictions(
    rows: list[dict[str, str]], index: Index, names: dict[str, str]
) -> tuple[dict[str, list[str]], dict[str, npt.NDArray[np.float32]]]:
    """Of each model of ``predictions.csv``, what it says of the images of the index; only test images have that."""
    by_id = {row.get("id"): row for row in rows}
    mine = [by_id.get(one, {}) if is_test else {} for one, is_test in zip(index.ids, index.is_test, strict=True)]
    models = [key for key in (rows[0] if rows else {}) if f"{key}_confidence" in rows[0]]
    said = {model: [names.get(cell := row.get(model) or "", cell) for row in mine] for model in models}
    sure = {model: np.array([fraction(row.get(f"{model}_confidence")) for row in mine], np.float32) for model in models}
    return said, sure


def _finite(found: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not np.isfinite(found).all():
        raise ValueError("a number in it is not finite")
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


def whole_text(text: str) -> str:
    """Text that any program reads: bytes of a file's name that are no text as �."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _listed(names: set[str]) -> str:
    return ", ".join(name for name in BACKBONES if name in names) or "none at all"
