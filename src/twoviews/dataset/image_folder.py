"""A folder of images as a source: ``unlabeled/``, ``train/<class>/``, ``test/<class>/``, ``val/<class>/``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twoviews.dataset.decode_cache import DecodedFolder, decoded_folder
from twoviews.dataset.folder_words import notes, nothing_in, refuse_many_bad, shown
from twoviews.dataset.images import ImageSet, Source
from twoviews.dataset.parts import LABELLED, PARTS, folder_name, require_any_part, require_folder, require_part
from twoviews.dataset.scan import Progress, Scan, is_inside, name_order, scan
from twoviews.errors import DataError


def load_folder(
    root: Path | None,
    *,
    unlabeled: Path | None = None,
    train: Path | None = None,
    val: Path | None = None,
    test: Path | None = None,
    image_size: int,
    cache: Path,
    workers: int | None = None,
    max_pixels: int = 128_000_000,
    max_bad: float = 0.05,
    follow_links: bool = False,
    require_labels: bool = True,
    progress: Progress | None = None,
) -> Source:
    """Decode the images of a folder once, and give them as memory maps of N×3×image_size×image_size uint8.

    How a file becomes pixels is said in ``twoviews.dataset.decode``. Order is by the bytes of names, whatever
    the file system. A class is a folder's name; classes are matched between parts by name. Without
    ``unlabeled/`` the training images serve, labels left out (the same rows of the same array). User files
    are only read.

    Args:
        root: folder that holds the parts, or None where all are named.
        unlabeled, train, val, test: folders that take the place of ``root``'s.
        image_size: height and width of the decoded images, in pixels.
        cache: folder for the decoded images.
        workers: decoding processes; None for one per processor, and none for few files.
        max_pixels: images with more pixels are left out before they are decoded.
        max_bad: the part of all files (0 to 1) that may be left out.
        follow_links: follow symbolic links that lead outside ``root`` (or outside a part named on its own).
        require_labels: a training part with two classes or more must be there.
        progress: called with files done, files in all (0 where unknown) and what is going on.

    Raises:
        DataError: a folder is missing or empty, too many files are bad, class folders don't match, there is
            nothing to classify, or folders overlap that must be apart.
        ResourceError: the cache can't be written.
    """
    folders = _folders(root, {"unlabeled": unlabeled, "train": train, "val": val, "test": test}, follow_links)
    if require_labels and "train" not in folders:
        raise DataError(
            f"No labelled training images: add {root / 'train' if root else 'a folder'} with a folder per "
            "class, or name it with --train DIR."
        )
    if not {"unlabeled", "train"} & set(folders):
        raise DataError("No images to train on: name a folder with --unlabeled DIR or --train DIR.")
    _refuse_overlaps(folders)

    found = {part: _scanned(part, folder, root, follow_links, progress) for part, folder in folders.items()}
    # Before the long work by the files that are there, and after it by those that could be decoded.
    reference = next((part for part in LABELLED if part in found), None)
    _match_classes(found, {p: {_class_of(f.path) for f in s.files} for p, s in found.items()}, reference)

    decoded = {
        part: decoded_folder(
            one,
            part,
            image_size=image_size,
            cache=cache,
            workers=workers,
            max_pixels=max_pixels,
            progress=progress,
        )
        for part, one in found.items()
    }
    skipped = [item for part in folders for item in (*found[part].skipped, *decoded[part].skipped)]
    refuse_many_bad(skipped, sum(len(one.files) for one in decoded.values()), max_bad)
    for part, folder in folders.items():
        if not decoded[part].files:
            raise DataError(nothing_in(folder, part))

    present = {part: {_class_of(file) for file in one.files} for part, one in decoded.items()}
    _match_classes(found, present, reference)
    classes = tuple(sorted(present[reference], key=name_order)) if reference else ()
    if require_labels and len(classes) < 2:
        raise DataError(
            f"Only one class ({shown(classes)}) in {folders['train']}: nothing to classify. "
            "Add a folder per class, or use `twoviews pretrain`, which needs no labels."
        )
    sets = {part: _image_set(part, one, classes) for part, one in decoded.items()}
    return Source(
        name=_source_name(root, folders),
        class_names=classes,
        unlabeled=sets["unlabeled"] if "unlabeled" in sets else sets["train"].without_labels(),
        train=sets["train"] if "train" in sets else _no_images(sets["unlabeled"]),
        val=sets.get("val"),
        test=sets.get("test"),
        notes=notes(found, decoded, present, classes),
        skipped=skipped,
        no_pictures=sum(one.no_pictures for one in found.values()),
    )


def _folders(root: Path | None, named: dict[str, Path | None], follow_links: bool) -> dict[str, Path]:
    """The folder of each part that is there."""
    if root is not None:
        require_folder(str(root))
    folders: dict[str, Path] = {}
    for part in PARTS:
        folder = named[part]
        if folder is not None:
            require_part(part, folder)
            folders[part] = folder
        elif root is not None and (root / part).is_dir():
            if not follow_links and not is_inside(root / part, root):
                raise DataError(f"{root / part} is a link that leads outside {root}: add --follow-links.")
            folders[part] = root / part
    if not folders:
        require_any_part(root)
    return folders


def _refuse_overlaps(folders: dict[str, Path]) -> None:
    """Held-out parts may share no folder with another; unlabeled may hold train."""
    for held_out in ("test", "val"):
        for part, folder in folders.items():
            if held_out not in folders or part == held_out:
                continue
            if is_inside(folders[held_out], folder) or is_inside(folder, folders[held_out]):
                raise DataError(
                    f"The {part} folder {folder} and the {held_out} folder {folders[held_out]} are the same "
                    f"or one holds the other, and {held_out} images may not be trained on: give each its own."
                )


def _scanned(part: str, folder: Path, root: Path | None, follow_links: bool, progress: Progress | None) -> Scan:
    """What a part's folder holds."""
    boundary = root if root is not None and folder == root / part else folder
    found = scan(folder, boundary=boundary, follow_links=follow_links, progress=progress)
    if part in LABELLED:
        _leave_out_unclassed(found)
    if not found.files and not found.skipped:
        raise DataError(nothing_in(folder, part))
    return found


def _class_of(path: str) -> str:
    return path.partition("/")[0]


def _leave_out_unclassed(found: Scan) -> None:
    for file in found.files:
        if "/" not in file.path:
            found.skip(file.path, "not in a class folder", file.size)
    found.files = [file for file in found.files if "/" in file.path]


def _match_classes(found: dict[str, Scan], present: dict[str, set[str]], reference: str | None) -> None:
    """Refuse parts whose class folders differ from the reference's (train's, where there is one).

    A class folder without an image is a class without images, not a missing class, except in the reference.
    """
    for part in LABELLED:
        if part not in found or part == reference or reference is None:
            continue
        missing = present[reference] - set(found[part].folders)
        extra = present[part] - present[reference]
        if missing or extra:
            raise DataError(
                f"{reference} and {part} have different classes: only in {reference}: {shown(missing)}; "
                f"only in {part}: {shown(extra)}. Name the class folders of {found[reference].folder} and "
                f"{found[part].folder} alike."
            )


def _image_set(part: str, decoded: DecodedFolder, classes: tuple[str, ...]) -> ImageSet:
    names = [f"{part}/{file}" for file in decoded.files]
    if part == "unlabeled":
        return ImageSet.whole(decoded.pixels, None, names)
    number = {name: position for position, name in enumerate(classes)}
    labels = np.array([number[_class_of(file)] for file in decoded.files], dtype=np.int64)
    return ImageSet.whole(decoded.pixels, labels, names)


def _no_images(like: ImageSet) -> ImageSet:
    empty = np.empty(0, dtype=np.int64)
    return ImageSet(like.pixels, empty, empty, like.names)


def _source_name(root: Path | None, folders: dict[str, Path]) -> str:
    return root.resolve().name or "folder" if root is not None else folder_name(next(iter(folders.values())))
