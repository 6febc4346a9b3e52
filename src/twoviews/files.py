"""The one place that writes files: whole or not at all, and on the disk when a call returns."""

from __future__ import annotations

import csv
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from twoviews.errors import ResourceError


def fsync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut (nothing to do on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file beside its final place, flush it to disk, then rename it into place.

    Raises:
        ResourceError: the disk is full, read-only or over quota; the old file, if any, is intact.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.tmp-")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise ResourceError(
            f"Could not write {path}: {error.strerror or error}. Free some space or choose another folder with --out."
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` as the whole file, atomically."""

    def write(stream: IO[bytes]) -> None:
        stream.write(content)

    write_atomically(path, write)


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


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Add one row to a .jsonl file and flush it to disk.

    Raises:
        ResourceError: the disk is full, read-only or over quota.
    """
    try:
        with open(path, "a", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(json.dumps(finite(row), ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ResourceError(f"Could not write {path}: {error.strerror or error}. Free some space.") from error


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
    if isinstance(value, str) and value[:1] in ("=", "+", "@", "\t", "\r"):
        return "'" + value
    return value


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
