"""Names: of images that have no file of their own, and of classes as the official archives list them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from twoviews.errors import DataError


class NumberedNames(Sequence[str]):
    """``prefix/00000, prefix/00001, …``, made when asked for, so that 100,000 names take no memory."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix = prefix
        self._length = count

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        position = index + self._length if index < 0 else index
        if not 0 <= position < self._length:
            raise IndexError(f"{self._prefix} has {self._length} images, none at {index}")
        return f"{self._prefix}/{position:05d}"


def unreadable(file: Path, error: OSError) -> DataError:
    """What to say of a file that is there and can't be read."""
    return DataError(f"{file} can't be read: {error.strerror or error}. Check its permissions.")


def read_class_names(file: Path, official: tuple[str, ...], notes: list[str]) -> tuple[str, ...]:
    """Class names, one a line; where the file is missing the official ones, with a note.

    Raises:
        DataError: the file can't be read, is empty, or names a class twice.
    """
    if not file.is_file():
        notes.append(f"{file.name} is missing; the official class names serve.")
        return official
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise unreadable(file, error) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise DataError(f"{file} should hold one different class name a line; delete it to use the official ones.")
    return names
