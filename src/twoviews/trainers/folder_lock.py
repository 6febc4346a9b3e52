"""A run folder is one process's at a time, and says whose."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from filelock import FileLock, Timeout

from twoviews import disk
from twoviews.errors import ResourceError
from twoviews.files import read_json, write_json
from twoviews.trainers.environment import command_line, now

LOCK, HOLDER = ".lock", ".lock-info.json"


class FolderLock:
    """The lock of one folder, which is made where it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None

    def take(self) -> None:
        """Keep other processes out.

        Raises:
            ResourceError: another process works on it, or it can't be written.
        """
        holder = self.path / HOLDER
        try:
            disk.make_folder(self.path)
            self._lock = FileLock(self.path / LOCK)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            self._lock = None
            raise ResourceError(
                f"{self.path} is in use by another twoviews process{_holder(holder)}; wait for it, or start beside it "
                "with --new."
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise ResourceError(f"{self.path} can't be written ({reason}); name another folder with --out.") from error
        # What a process that was killed left here is overwritten: its lock died with it.
        info = {"pid": os.getpid(), "host": platform.node(), "since": now(), "command": command_line()}
        try:
            write_json(holder, info)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let other processes have the folder."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        holder = self.path / HOLDER
        try:
            disk.retried(lambda: disk.remove_file(holder), holder)
        finally:
            lock.release()


def _holder(path: Path) -> str:
    """Who holds the lock, as far as its info file says."""
    try:
        info = read_json(path)
        return f" (pid {info['pid']} on {info['host']} since {info['since']})"
    except (OSError, ValueError, LookupError, TypeError):
        return ""  # between its taking the lock and its writing who it is
