"""The one place that writes files: whole or not at all, and on the disk when a call returns."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from twoviews import disk
from twoviews.errors import CheckpointError


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], size: int | None = None) -> None:
    """Write a file beside its final place, flush it to disk, then rename it into place.

    Args:
        path: the file; its folder is made where it is missing.
        write: writes the content; called again where a disk error may pass.
        size: bytes of the content, if known: for the message of a full disk.

    Raises:
        ResourceError: the disk is full, read-only or over quota; the old file, if any, is intact.
    """

    def attempt() -> None:
        disk.make_folder(path.parent)
        stream, temporary = disk.temporary_file(path)
        try:
            with stream:
                disk.write(stream, path, write)
                disk.flush(stream, path)
            disk.usual_mode(temporary)
            disk.rename(temporary, path)
            disk.flush_folder(path.parent)
        except BaseException:
            with suppress(OSError):  # what made the write fail is on its way to the caller
                disk.remove_file(temporary)
            raise

    disk.retried(attempt, path, size=size)


def sweep(folder: Path) -> None:
    """Delete what writes that were killed left in ``folder`` (not in those below it)."""
    for leftover in folder.glob(".*.tmp-*"):
        (disk.remove_folder if leftover.is_dir() else disk.remove_file)(leftover)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` as the whole file, atomically."""
    write_atomically(path, lambda stream: stream.write(content), len(content))


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text as the whole file, atomically; file names that aren't UTF-8 survive."""
    write_bytes(path, content.encode("utf-8", errors="surrogateescape"))


def finite(value: Any) -> Any:
    """The same JSON value with NaN and infinities as None, which JSON can carry."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, atomically; NaN and infinities become null."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))


def read_record(path: Path, advice: str, part: str | None = None) -> dict[str, Any]:
    """A JSON file of a run.

    Args:
        path: the file.
        advice: what to do where it is damaged.
        part: the name of a mapping that must be in it.

    Raises:
        CheckpointError: it can't be read, holds nothing, or lacks the part.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict) or not content:
            raise ValueError("it holds nothing")
        if part is not None and not isinstance(content.get(part), dict):
            raise ValueError("not a record of a run")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read ({' '.join(str(error).split())}): {advice}.") from error
    return content


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Add one row to a .jsonl file and flush it to disk; a line that a crash cut short stays a line of its own.

    Raises:
        ResourceError: the disk is full, read-only or over quota; the file is as it was.
    """
    line = (json.dumps(finite(row), ensure_ascii=False) + "\n").encode("utf-8", errors="surrogateescape")

    def attempt() -> None:
        disk.append(path, line if _ends_a_line(path) else b"\n" + line)

    disk.retried(attempt, path, size=len(line))


def _ends_a_line(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return True
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl file; an unfinished last line (a crash while writing) is left out."""
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def safe_cell(value: Any) -> Any:
    """A CSV cell that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    if value.startswith(("=", "+", "@", "\t", "\r")) or (value.startswith("-") and not _is_number(value)):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, atomically; cells that a spreadsheet would run as a formula are quoted with '."""

    def write(stream: IO[bytes]) -> None:
        import io

        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([safe_cell(cell) for cell in header])
        writer.writerows([safe_cell(cell) for cell in row] for row in rows)
        text.flush()
        text.detach()

    write_atomically(path, write)
