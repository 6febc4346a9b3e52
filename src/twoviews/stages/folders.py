"""Finding runs that are there already."""

from __future__ import annotations

from pathlib import Path

from twoviews.errors import SettingsError

OUTPUT = Path("output")


def newest_run(pattern: str, what: str, *, up: int = 0, root: Path = OUTPUT) -> Path:
    """The run folder under ``root`` whose file ``pattern`` (such as ``models/backbone.safetensors``) is newest.

    Args:
        what: name of what is sought, for the error.
        up: how many folders above that run folder is the one wanted.

    Raises:
        SettingsError: there is none.
    """
    found = [path for path in root.glob(f"**/{pattern}") if path.is_file()]
    if not found:
        raise SettingsError(f"There is no {what} under {root}/: name one, or run it first.")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return newest.parents[pattern.count("/") + up]
