"""What is wrong with a command's settings and shows at once: before images are read and libraries loaded.

torch, timm and scikit-learn take seconds to load; a path with a slip in it should not wait for them.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from twoviews.dataset.parts import (
    NAMED,
    PARTS,
    WITH_FOLDS,
    named_parts,
    require_any_part,
    require_folder,
    require_part,
    without_folds,
    without_test,
)
from twoviews.errors import CheckpointError, DataError, SettingsError
from twoviews.settings import BenchCommand, DataSettings, ExportCommand, ExportMapCommand, PredictCommand, StudyCommand

COMMON_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet18_w16", "resnet18_w32")


def first_look(settings: Any) -> Any:
    """The settings as they are, unless something that they name can't be.

    Raises:
        SettingsError: DATA is empty or has no folds, a backbone or a device is not there, ``--out`` is a file.
        DataError: a folder of images is not there.
        CheckpointError: a run or a weights file is not there.
    """
    if isinstance(settings, DataSettings):
        _require_data(settings)
    if isinstance(settings, BenchCommand) and settings.unlabeled is not None:
        require_part("unlabeled", settings.unlabeled)
    run = getattr(settings, "run", None)
    if run is not None and not run.exists():
        raise CheckpointError(f"{run} is not there: name a run folder, or a weights file.")
    if isinstance(settings, PredictCommand):
        _require_pictures(settings.folder)
    if isinstance(settings, ExportCommand) and settings.out is not None and settings.out.is_file():
        raise SettingsError(f"--out {settings.out} is a file; name a folder.")
    init = getattr(settings, "init", None)
    if init is not None and init != "timm" and not Path(init).is_file():
        raise CheckpointError(f"--init {init}: no such weights file.")
    if getattr(settings, "device", None) in ("cuda", "mps"):
        from twoviews.trainers.device import choose_device

        choose_device(settings.device)
    backbone = getattr(settings, "backbone", None)
    if backbone is not None and not isinstance(settings, ExportMapCommand):  # which has a choice of models by that name
        require_backbone(backbone)
    return settings


def _require_data(settings: DataSettings) -> None:
    parts = named_parts(settings)
    for part, folder in parts.items():
        require_part(part, folder)
    root = None if settings.data in NAMED else Path(settings.data)
    if root is not None:
        require_folder(settings.data)
    _require_folds(settings, named=bool(parts))
    there = {*parts, *(part for part in PARTS if root is not None and (root / part).is_dir())}
    if root is not None and not there:
        require_any_part(root)
    if isinstance(settings, StudyCommand) and there and "test" not in there:
        raise without_test(str(root or next(iter(parts.values()))))


def _require_folds(settings: DataSettings, *, named: bool) -> None:
    """Refuse folds of data that has none; ``named``: parts are, so that it is a folder's whatever DATA says."""
    flag = "--folds" if getattr(settings, "folds", False) else "--fold"
    if flag == "--fold" and getattr(settings, "fold", None) is None:
        return
    if named or settings.data not in WITH_FOLDS:
        name = "a folder" if named and settings.data in NAMED else settings.data
        raise without_folds(name, flag)


def _require_pictures(folder: Path) -> None:
    if folder.is_file():
        raise DataError(f"{folder} is not a folder but a file: name the folder that it lies in.")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name one with images in it.")


def require_backbone(name: str) -> None:
    """Refuse a name that timm does not know; what is near it among the common ones is said first.

    Raises:
        SettingsError: there is no such model.
    """
    if name in COMMON_BACKBONES:
        return
    from twoviews.model.resnet50 import require_name

    try:
        require_name(name)
    except SettingsError as error:
        near = difflib.get_close_matches(name, COMMON_BACKBONES, n=3, cutoff=0.7)
        if not near:
            raise
        others = [word for word in str(error).partition("did you mean ")[2].rstrip("?").split(" or ") if word]
        names = [*near, *(other for other in others if other not in near)][:3]
        raise SettingsError(f"--backbone {name}: timm has no such model; did you mean {' or '.join(names)}?") from None
