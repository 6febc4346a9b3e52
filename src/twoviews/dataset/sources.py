"""DATA, as a user names it, to a source of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from twoviews.dataset.cifar10 import load_cifar10
from twoviews.dataset.cifar10_as_stl10 import load_cifar10_as_stl10
from twoviews.dataset.image_folder import load_folder
from twoviews.dataset.images import Source
from twoviews.dataset.parts import NAMED, folder_name, is_folder, require_folder
from twoviews.dataset.sample import load_sample
from twoviews.dataset.scan import Progress
from twoviews.dataset.stl10_loader import load_stl10
from twoviews.errors import SettingsError


@dataclass(frozen=True)
class _BuiltIn:
    """A data set with a name: its images' height and width in pixels, and what reads it from a data root."""

    image_size: int
    load: Callable[[Path, Progress | None], Source]


# The loaders are looked up when they are called, so that a script can put another in one's place.
_BUILT_IN = {
    "sample": _BuiltIn(32, lambda root, progress: load_sample()),
    "stl10": _BuiltIn(96, lambda root, progress: load_stl10(root, progress=progress)),
    "cifar10": _BuiltIn(32, lambda root, progress: load_cifar10(root, progress=progress)),
    "cifar10_as_stl10": _BuiltIn(32, lambda root, progress: load_cifar10_as_stl10(root, progress=progress)),
}


def short_name(data: str, parts: Iterable[Path | None] = ()) -> str:
    """What run folders are called after: the data set's name, or the folder's own; ``parts``: those named apart."""
    if not is_folder(data, parts):
        return data
    return folder_name(next(part for part in parts if part is not None)) if data in NAMED else Path(data).resolve().name


def load_source(
    data: str,
    *,
    unlabeled: Path | None,
    train: Path | None,
    val: Path | None,
    test: Path | None,
    image_size: int,
    data_root: Path,
    cache: Path,
    max_bad: float,
    max_pixels: int,
    follow_links: bool,
    require_labels: bool = True,
    progress: Progress | None = None,
) -> Source:
    """The images of a data set with a name (``NAMED``) or of a folder; parts named one by one need no folder.

    Raises:
        SettingsError: ``image_size`` is not that of the named data set, whose images stay as they are.
        DataError: DATA is no folder, or what the source's own loader raises.
    """
    if not is_folder(data, (unlabeled, train, val, test)):
        _require_size(data, image_size)
        return _BUILT_IN[data].load(data_root, progress)
    if data not in _BUILT_IN:
        require_folder(data)
    return load_folder(
        None if data in NAMED else Path(data),
        unlabeled=unlabeled,
        train=train,
        val=val,
        test=test,
        image_size=image_size,
        cache=cache,
        max_bad=max_bad,
        max_pixels=max_pixels,
        follow_links=follow_links,
        require_labels=require_labels,
        progress=progress,
    )


def _require_size(data: str, image_size: int) -> None:
    size = _BUILT_IN[data].image_size
    if image_size != size:
        raise SettingsError(
            f"--image-size {image_size}: the images of {data} are {size} pixels and stay so; leave it out, or use "
            f"--image-size {size} where a recipe or config sets it (--view-size is the size that is trained on)."
        )
