"""Fetch a published archive of images once: resumed, checked against its MD5, and unpacked without trust.

The archive goes to a name ending in ``.part`` until its checksum is right; its files go to a folder beside
their place until all of them are whole. So nothing half-done is ever taken for the data set.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock

from twoviews import disk
from twoviews.errors import DataError, ResourceError

Progress = Callable[[int, int, str], None]

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
_MAX_RATIO = 200
_MAX_UNPACKED_BYTES = 20_000_000_000


@dataclass(frozen=True)
class Archive:
    """A published .tar.gz that holds one folder of files.

    Attributes:
        title: what a person calls the data set.
        url: where it is published.
        md5: checksum of the archive as published.
        folder: the folder in the archive, and under the data root.
        files: names in that folder that are unpacked; anything else harmless stays in the archive.
        required: those without which the data set can't be read.
        download_size, disk_size: for people, for example "2.6 GB".
        unpacked_bytes: about how much the unpacked files take.
    """

    title: str
    url: str
    md5: str
    folder: str
    files: tuple[str, ...]
    required: tuple[str, ...]
    download_size: str
    disk_size: str
    unpacked_bytes: int

    @property
    def file_name(self) -> str:
        """Name of the archive itself."""
        return self.url.rsplit("/", 1)[-1]


def missing_files(archive: Archive, root: Path) -> list[str]:
    """Required files that aren't under ``root``."""
    return [name for name in archive.required if not (root / archive.folder / name).is_file()]


def ensure_archive(archive: Archive, root: Path, download: bool, progress: Progress | None = None) -> Path:
    """The folder that holds the archive's files, downloaded first where some are missing.

    Two processes that ask at once download once. ``progress`` is called with bytes done, bytes in all (0
    where unknown) and what is going on.

    Raises:
        DataError: the files are missing and can't be had, the checksum is wrong, or the archive is not safe.
        ResourceError: the disk is full or can't be written.
    """
    folder = root / archive.folder
    if not missing_files(archive, root):
        return folder
    if not download:
        raise DataError(_how_to_get(archive, root, "is not there"))
    try:
        disk.make_folder(root)
        with FileLock(root / f".{archive.folder}.lock"):
            if missing_files(archive, root):
                packed, ours = _obtain(archive, root, progress)
                unpack(archive, packed, root)
                if ours:
                    disk.remove_file(packed)
    except OSError as error:
        raise ResourceError(
            f"Could not write {archive.title} under {root}: {error.strerror or error}. "
            f"It needs {archive.download_size} for the download and {archive.disk_size} unpacked."
        ) from error
    return folder


def _how_to_get(archive: Archive, root: Path, why: str) -> str:
    return (
        f"{archive.title} {why}: get {archive.url} ({archive.download_size}, {archive.disk_size} unpacked) "
        f"and put its files ({', '.join(archive.required)}) into {root / archive.folder}/."
    )


def _obtain(archive: Archive, root: Path, progress: Progress | None) -> tuple[Path, bool]:
    """The verified archive and whether we downloaded it (one that a user put there stays there)."""
    packed = root / archive.file_name
    if packed.is_file():
        _verify(archive, packed, packed, progress)
        return packed, False
    needed = archive.unpacked_bytes * 2
    if (free := disk.room(root)) < needed:
        raise ResourceError(
            f"{archive.title} needs {needed / 1e9:.1f} GB free under {root} while it is unpacked, "
            f"{free / 1e9:.1f} GB are: free some space or choose another place with --data-root."
        )
    part = root / f"{archive.file_name}.part"
    try:
        _download(archive, part, progress)
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
        ssl.SSLError,
    ) as error:
        reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        why = f"is not in {root / archive.folder} and could not be downloaded ({' '.join(reason.split())})"
        raise DataError(_how_to_get(archive, root, why)) from error
    _verify(archive, part, packed, progress)
    disk.rename(part, packed)
    return packed, True


def _download(archive: Archive, part: Path, progress: Progress | None) -> None:
    """Bring ``part`` to its whole length, going on where an earlier download stopped."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "twoviews", **({"Range": f"bytes={done}-"} if done else {})}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(archive.url, headers=headers), timeout=_TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        return  # nothing is left to send; the checksum decides
    with response:
        if done and response.status != 206:
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else 0
        if not done:
            disk.remove_file(part)
        with disk.open_to_append(part) as stream:
            while block := response.read(_BLOCK):
                stream.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total, f"Downloading {archive.title}")
    if total and done < total:
        raise http.client.HTTPException(
            f"the connection closed after {done:,} of {total:,} bytes; the same command goes on from there"
        )


def _verify(archive: Archive, file: Path, final: Path, progress: Progress | None) -> None:
    """Compare the MD5; a wrong file is kept as ``.bad`` so that it is never taken for the archive."""
    digest = hashlib.md5(usedforsecurity=False)
    total, done = file.stat().st_size, 0
    with open(file, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, total, f"Checking {archive.title}")
    if digest.hexdigest() != archive.md5:
        bad = final.with_name(f"{final.name}.bad")
        disk.rename(file, bad)
        raise DataError(
            f"{final.name} has MD5 {digest.hexdigest()}, expected {archive.md5}; it is kept as {bad}: "
            "run the same command again to download afresh."
        )


def unpack(archive: Archive, packed: Path, root: Path) -> None:
    """Unpack the files of ``archive`` into ``root/archive.folder``; those that are there already stay.

    Raises:
        DataError: a member is not a plain file inside the folder, comes twice, or the whole is too large;
            then nothing of the archive stays on disk.
    """
    target = root / archive.folder
    beside = disk.temporary_folder(target)
    try:
        try:
            with tarfile.open(packed, "r|gz") as members:
                _unpack_members(archive, members, packed, beside)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise DataError(f"{packed} can't be unpacked ({error}); delete it and try again.") from error
        left = [name for name in archive.required if not (beside / name).is_file()]
        if left:
            raise DataError(f"{packed} holds no {', '.join(left)}; delete it and download {archive.url} again.")
        disk.flush_folder(beside)
        disk.make_folder(target)
        for file in sorted(beside.iterdir()):
            if not (target / file.name).exists():
                disk.rename(file, target / file.name)
        disk.flush_folder(target)
    finally:
        with suppress(OSError):
            disk.remove_folder(beside)


def _unpack_members(archive: Archive, members: tarfile.TarFile, packed: Path, beside: Path) -> None:
    budget = min(_MAX_UNPACKED_BYTES, _MAX_RATIO * packed.stat().st_size)
    seen: set[str] = set()
    for member in members:
        path = PurePosixPath(member.name)
        inside = path.parts[:1] == (archive.folder,) and ".." not in path.parts and "\\" not in member.name
        if not inside or not (member.isdir() or member.isreg()):
            kind = "leads outside its folder" if not inside else "is neither a file nor a folder"
            raise DataError(f"{packed} is refused: its member {member.name!r} {kind}. Get it from {archive.url}.")
        if member.isdir():
            continue
        # Two names that one file system may take for the same file could replace a checked one.
        if member.name.casefold() in seen:
            raise DataError(f"{packed} is refused: its member {member.name!r} comes twice. Get it from {archive.url}.")
        seen.add(member.name.casefold())
        budget -= member.size
        if budget < 0:
            raise DataError(
                f"{packed} is refused: unpacked it would take more than {_MAX_RATIO} times its size or "
                f"{_MAX_UNPACKED_BYTES / 1e9:.0f} GB. Get it from {archive.url}."
            )
        if len(path.parts) == 2 and path.name in archive.files:
            source = members.extractfile(member)
            assert source is not None
            _copy(source, beside / path.name)


def _copy(source: IO[bytes], file: Path) -> None:
    with disk.open_to_append(file) as stream:
        shutil.copyfileobj(source, stream, _BLOCK)
        disk.flush(stream, file)
