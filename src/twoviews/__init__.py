"""twoviews: does self-supervised pretraining help on your images, by how much, and how sure is it?

Public are ``info_nce``, ``load_backbone``, ``study`` and ``TwoviewsError``; everything else may change.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twoviews.errors import TwoviewsError

if TYPE_CHECKING:
    from twoviews.loss_functions.info_nce import info_nce
    from twoviews.stages.models import load_backbone

__version__ = "0.1.0"
__all__ = ["TwoviewsError", "info_nce", "load_backbone", "study"]


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
        # Loaded when asked for, so that `import twoviews` and `twoviews --help` need not wait for torch.
        if name == "info_nce":
            from twoviews.loss_functions.info_nce import info_nce

            return info_nce
        if name == "load_backbone":
            from twoviews.stages.models import load_backbone

            return load_backbone
        raise AttributeError(f"module 'twoviews' has no attribute {name!r}")
