"""DATA, as a user names it, to a source of images."""

from __future__ import annotations

from pathlib import Path

from twoviews.dataset.cifar10 import load_cifar10
from twoviews.dataset.image_folder import load_folder
from twoviews.dataset.images import Source
from twoviews.dataset.sample import load_sample
from twoviews.dataset.scan import Progress
from twoviews.dataset.stl10_loader import load_stl10

NAMED = ("sample", "stl10", "cifar10")


def short_name(data: str) -> str:
    """What run folders are called after: the data set's name, or the folder's own."""
    return data if data in NAMED else Path(data).resolve().name


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
    """The images of ``sample``, ``stl10``, ``cifar10`` or a folder; parts named one by one need no folder.

    Raises:
        DataError: what the source's own loader raises.
    """
    named = any(part is not None for part in (unlabeled, train, val, test))
    if data == "sample" and not named:
        return load_sample()
    if data == "stl10" and not named:
        return load_stl10(data_root, progress=progress)
    if data == "cifar10" and not named:
        return load_cifar10(data_root, progress=progress)
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
