"""The names of data sets and of a folder's parts, and what can be known of DATA before anything is read."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from twoviews.errors import DataError, SettingsError

NAMED = ("sample", "stl10", "cifar10", "cifar10_as_stl10")
WITH_FOLDS = ("stl10", "cifar10_as_stl10")
PARTS = ("unlabeled", "train", "val", "test")
LABELLED = ("train", "val", "test")

_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
_LAYOUT = "unlabeled/, train/<class>/, test/<class>/"


def named_parts(settings: object) -> dict[str, Path]:
    """The parts that a command's settings name one by one, with their folders."""
    return {part: folder for part in PARTS if (folder := getattr(settings, part)) is not None}


def is_folder(data: str, parts: Iterable[object]) -> bool:
    """Whether images come from a folder, and not from a data set with a name: wherever a part is named on its own."""
    return data not in NAMED or any(part is not None for part in parts)


def folder_name(folder: Path) -> str:
    """What data is called after: the folder's own name, that of the folder above it for train/ and the like."""
    place = folder.resolve()
    return (place.parent.name if place.name in PARTS else place.name) or "folder"


def require_folder(data: str) -> None:
    """Refuse DATA that is no folder, with what it may have been meant for.

    Raises:
        SettingsError: it is empty, as where a script's variable was.
        DataError: it is a file, or not there.
    """
    if not data:
        raise SettingsError(f"DATA is empty: name {', '.join(NAMED)} or a folder.")
    if os.path.isdir(data):
        return
    if os.path.exists(data):
        raise DataError(f"{data} is not a folder but a file: name the folder that holds {_LAYOUT}.")
    near = difflib.get_close_matches(data.lower(), NAMED, n=1)
    if near:
        raise DataError(
            f"{data} is not a folder, nor one of {', '.join(NAMED)}: did you mean {near[0]}? A folder of images holds "
            f"{_LAYOUT}."
        )
    raise DataError(f"{data} is not a folder: name one that holds {_LAYOUT}.")


def require_part(part: str, folder: Path) -> None:
    """Refuse a part named on its own that is no folder.

    Raises:
        DataError: it is a file, or not there.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder{' but a file' if folder.exists() else ''}: check --{part}.")


def require_any_part(root: Path | None) -> None:
    """Say how to name the parts where ``root`` has none of them: that of class folders alone is the usual case.

    Raises:
        DataError: always.
    """
    if root is None:
        raise DataError("No folder of images is named: name the parts with --unlabeled DIR, --train DIR, --test DIR.")
    none = f"{root} holds none of unlabeled/, train/<class>/, val/<class>/, test/<class>/"
    quoted = shlex.quote(str(root))
    classes = [entry.name for entry in os.scandir(root) if entry.is_dir() and _has_pictures(entry.path)]
    if classes:
        raise DataError(
            f"{none}, but {len(classes):,} {'folder' if len(classes) == 1 else 'folders'} of images: if they are its "
            f"classes, add --train {quoted} (and --test DIR, --unlabeled DIR for the others)."
        )
    if _has_pictures(str(root)):
        raise DataError(
            f"{none}, but images: add --unlabeled {quoted} (and --train DIR, --test DIR, with a folder per class)."
        )
    raise DataError(f"{none}: arrange the images so, or name the parts with --unlabeled DIR, --train DIR, --test DIR.")


def without_test(name: str) -> DataError:
    """What is raised where there are no test images; how to get some."""
    return DataError(
        f"{name} has no test part: move some images of each class to test/<class>/, or name a folder with --test DIR. "
        "`twoviews pretrain` and `twoviews supervised` need none."
    )


def without_folds(name: str, flag: str) -> SettingsError:
    """What is raised where ``flag`` asks for folds of data that has none, or has lost the file that lists them."""
    if name in WITH_FOLDS:
        return SettingsError(
            f"{flag}: the file that lists the folds of {name} is missing; put it back, or leave {flag} out."
        )
    return SettingsError(f"{flag}: {name} has no official folds; {' and '.join(WITH_FOLDS)} have.")


def _has_pictures(folder: str) -> bool:
    """Whether a folder holds a file that is a picture by its name."""
    try:
        with os.scandir(folder) as entries:
            return any(os.path.splitext(entry.name)[1].casefold() in _PICTURES for entry in entries)
    except OSError:
        return False
