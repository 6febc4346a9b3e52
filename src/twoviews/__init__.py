"""twoviews: does self-supervised pretraining help on your images, by how much, and how sure is it?

Public are the names in ``__all__``, described in docs/python.md; everything else may change.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twoviews.errors import TwoviewsError

if TYPE_CHECKING:
    from twoviews.dataset.augmentations import Augmentation, views
    from twoviews.loss_functions.info_nce import info_nce
    from twoviews.stages.models import load_backbone

__version__ = "0.1.0"
__all__ = ["Augmentation", "TwoviewsError", "info_nce", "load_backbone", "study", "views"]

# Loaded when asked for, so that `import twoviews` and `twoviews --help` need not wait for torch.
_HOMES = {
    "Augmentation": "twoviews.dataset.augmentations",
    "info_nce": "twoviews.loss_functions.info_nce",
    "load_backbone": "twoviews.stages.models",
    "views": "twoviews.dataset.augmentations",
}


def study(data: str | Path = "sample", **settings: Any) -> Path:
    """Run the whole comparison, as ``twoviews study DATA`` does; returns the run folder.

    Args:
        data: sample, stl10, cifar10, cifar10_as_stl10, or a folder with unlabeled/, train/<class>/ and test/<class>/.
        settings: any of the command's settings by name, stages as dicts, for example
            ``study("photos", seed=1, pretrain={"epochs": 20})``; the recipe of the data set holds for the rest.
            A flag that a message names is a setting too: ``--new`` is ``new=True``.

    Raises:
        TwoviewsError: a setting, the data, the disk, ...; its message says how to go on.
    """
    from twoviews.command_line import from_values
    from twoviews.run_study import run_study

    return run_study(
        from_values("study", "StudyCommand", {"data": str(data) if isinstance(data, Path) else data, **settings})
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'twoviews' has no attribute {name!r}")
