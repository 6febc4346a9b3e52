"""Disks that are not Linux's own: macOS's flush, Windows' held files, drives that flush no folders and know no modes.

Played on Linux: what those systems answer is put in the place of the calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from twoviews import disk
from twoviews.errors import ResourceError
from twoviews.files import write_bytes

FULL_FLUSH = 51  # macOS's number


def on_macos(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[str]:
    """What was asked for, in order; ``answer`` to the full flush."""
    asked: list[str] = []

    def control(handle: int, what: int) -> None:
        assert what == FULL_FLUSH
        assert stat.S_ISREG(os.fstat(handle).st_mode)
        asked.append("full")
        if answer is not None:
            raise answer

    def flush(handle: int) -> None:
        asked.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL_FLUSH, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", flush)
    return asked


def test_on_macos_a_file_leaves_the_drive_s_own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = on_macos(monkeypatch, None)
    write_bytes(tmp_path / "a", b"1")
    assert asked == ["full", "folder"]


def test_a_network_drive_without_that_is_flushed_as_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = on_macos(monkeypatch, OSError(errno.ENOTSUP, "Operation not supported"))
    write_bytes(tmp_path / "a", b"1")
    assert asked == ["full", "file", "folder"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_drive_that_flushes_no_folders_can_be_written(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flush(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(disk, "pause", lambda seconds: None)
    if code == errno.EIO:  # a failure, and no answer of a drive that can't
        with pytest.raises(ResourceError, match="Could not write"):
            write_bytes(tmp_path / "a", b"1")
    else:
        write_bytes(tmp_path / "a", b"1")
        assert (tmp_path / "a").read_bytes() == b"1"


def test_a_drive_without_permissions_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    write_bytes(tmp_path / "a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("code", [5, 32])
def test_on_windows_a_file_that_is_held_for_a_moment_is_waited_for(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    replace = os.replace

    def held(source: Any, target: Any) -> None:
        if len(waited) < 2:
            error = PermissionError(errno.EACCES, "Permission denied")
            error.winerror = code  # type: ignore[attr-defined]
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr(disk, "pause", waited.append)
    write_bytes(tmp_path / "a", b"1")
    assert len(waited) == 2
    assert (tmp_path / "a").read_bytes() == b"1"
