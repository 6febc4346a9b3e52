"""Every call that changes the disk, in one place: a test can fail any one of them, and sees that none goes past it."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

from twoviews.errors import ResourceError

T = TypeVar("T")

# What may be over in a moment: a network drive that lost its server, a disk that reports an error once. A full disk
# gets one more try: something else may just have freed space.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY}
_FULL = {errno.ENOSPC, errno.EDQUOT}
# What network and user-space file systems answer that flush files but no folders.
_NO_FOLDERS = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}
# On Windows a virus scanner or an indexer holds a file for a moment after it was written: access denied, shared.
_HELD = {5, 32}


def _nothing(call: str, path: Path) -> None:
    """What happens before a call outside tests."""


before: Callable[[str, Path], None] = _nothing  # a test puts a function here that raises, or kills the process
pause: Callable[[float], None] = time.sleep


def make_folder(path: Path) -> None:
    """Make a folder and those above it; nothing where it is there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    before("make_folder", path)
    path.mkdir(exist_ok=True)
    flush_folder(path.parent)


def temporary_file(path: Path) -> tuple[IO[bytes], Path]:
    """A new file beside ``path``: renaming it to ``path`` stays on one file system."""
    before("create", path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.tmp-")
    return os.fdopen(handle, "wb"), Path(name)


def temporary_folder(path: Path) -> Path:
    """A new folder beside ``path``."""
    before("create", path)
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.tmp-"))


def open_to_append(path: Path) -> IO[bytes]:
    """A file to add to, made where it is missing."""
    before("create", path)
    return open(path, "ab")


def write(stream: IO[bytes], path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Let ``fill`` write the file."""
    before("write", path)
    fill(stream)


def flush(stream: IO[bytes], path: Path) -> None:
    """What was written is on the disk when this returns."""
    before("flush", path)
    stream.flush()
    if sys.platform == "darwin":  # there fsync leaves it in the drive's own memory, which a power cut empties: fsync(2)
        import fcntl

        with suppress(OSError):  # a network drive may not know how
            fcntl.fcntl(stream.fileno(), fcntl.F_FULLFSYNC)
            return
    os.fsync(stream.fileno())


def append(path: Path, content: bytes) -> None:
    """Add to a file and flush; a failure takes back what it added."""
    before("append", path)
    with open(path, "ab") as stream:
        length = stream.tell()
        try:
            write(stream, path, lambda opened: opened.write(content))
            flush(stream, path)
        except OSError:
            with suppress(OSError):
                os.truncate(path, length)
            raise


def usual_mode(path: Path, folder: bool = False) -> None:
    """Give a temporary file the permissions that any new file gets."""
    before("chmod", path)
    with suppress(OSError):  # FAT and some network drives refuse: they know no permissions
        os.chmod(path, (0o777 if folder else 0o666) & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def rename(source: Path, target: Path) -> None:
    """Put a file or folder in its final place, at once."""
    before("rename", target)
    os.replace(source, target)


def flush_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut (nothing to do on Windows)."""
    if os.name == "nt":
        return
    before("flush_folder", folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise
    finally:
        os.close(handle)


def remove_file(path: Path) -> None:
    """Delete a file that may be there."""
    before("remove", path)
    path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Delete a folder and what is in it, where it is there."""
    before("remove", path)
    if path.exists():
        shutil.rmtree(path)


def room(path: Path) -> int:
    """Bytes that can still be written where ``path`` is or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def retried(attempt: Callable[[], T], path: Path, *, size: int | None = None, advice: str = "") -> T:
    """Do what writes ``path``; what may pass is tried again.

    Args:
        attempt: leaves nothing half-done when it raises.
        path: for the message.
        size: bytes that it needs, if known.
        advice: the end of the message: how to go on.

    Raises:
        ResourceError: the disk is full, over quota, read-only or broken, and stayed so.
    """
    waits: list[float] | None = None
    while True:
        try:
            return attempt()
        except OSError as error:
            if waits is None:
                waits = _waits(error)
            if not waits:
                raise ResourceError(_failed(path, error, size, advice)) from error
            pause(waits.pop(0))


def _waits(error: OSError) -> list[float]:
    """Seconds to wait before each new try."""
    if error.errno in _FULL:
        return [1.0]
    return [0.1, 0.5, 2.0] if error.errno in _PASSING or getattr(error, "winerror", None) in _HELD else []


def _failed(path: Path, error: OSError, size: int | None, advice: str) -> str:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        with suppress(OSError):
            needed = "" if size is None else f"{in_bytes(size)} needed, "
            reason += f" ({needed}{in_bytes(room(path))} free)"
    return f"Could not write {path}: {reason}. {advice or 'Free some space or choose another folder with --out.'}"


def in_bytes(count: int) -> str:
    """Bytes as a person reads them: 812 bytes, 1.4 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
