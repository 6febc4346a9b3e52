"""List the files of a folder that may be images: in one order everywhere, whatever lies in the folder."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from twoviews.dataset.images import Skipped
from twoviews.dataset.reasons import reason_of

Progress = Callable[[int, int, str], None]

_JUNK = {"thumbs.db", "desktop.ini", "__macosx"}
# What lies beside pictures and is none by its name. Any other name may be a picture's: the content tells.
_NO_PICTURE = {
    *(".json", ".jsonl", ".xml", ".xmp", ".aae", ".txt", ".csv", ".tsv", ".md", ".yaml", ".yml", ".toml", ".ini"),
    *(".log", ".html", ".htm"),
}
_REPORT_EVERY = 10_000


@dataclass(frozen=True)
class FoundFile:
    """A regular file: its path below the folder ("/" between parts), bytes, and time of its last change."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Scan:
    """What a folder holds.

    Attributes:
        folder: the folder itself.
        files: regular, non-empty files in the order of their names' bytes.
        folders: first-level folders, in the same order; these are the classes of a labelled part.
        skipped: what can't be an image, with the reason.
        no_pictures: how many files are none by their names; they are not among the skipped.
    """

    folder: Path
    files: list[FoundFile] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    no_pictures: int = 0

    def skip(self, path: str, reason: str, size: int = 0) -> None:
        """Note that ``path`` (below the folder) is left out."""
        self.skipped.append(Skipped(os.path.join(self.folder, path), reason, size))


def name_order(path: str) -> tuple[bytes, bytes]:
    """Sort key: bytes of the name in Unicode's composed form, so that all file systems give one order."""
    return os.fsencode(unicodedata.normalize("NFC", path)), os.fsencode(path)


def is_inside(path: str | Path, folder: str | Path) -> bool:
    """Whether ``path`` is ``folder`` or below it, links resolved."""
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    return real == real_folder or real.startswith(real_folder.rstrip(os.sep) + os.sep)


def is_junk(name: str) -> bool:
    """Hidden files, and what desktops and archivers leave behind."""
    return name.startswith(".") or name.casefold() in _JUNK


def scan(folder: Path, *, boundary: Path, follow_links: bool, progress: Progress | None = None) -> Scan:
    """Walk ``folder``, all levels. Nothing is opened.

    A folder that is reached twice (a loop of links, or two links to one place) is read once, under its own
    name rather than a link's. Links that lead outside ``boundary`` are followed only with ``follow_links``.

    Args:
        folder: where to look.
        boundary: the folder that links may not leave.
        follow_links: follow links to anywhere.
        progress: called every 10,000 files with files so far, 0 (the total is not known) and a text.
    """
    found = Scan(folder)
    visited: set[tuple[int, int]] = set()
    folders = [""]
    links: list[str] = []
    while folders or links:
        if not folders:
            links.sort(key=name_order, reverse=True)
        below = folders.pop() if folders else links.pop()
        place = os.path.join(folder, below)
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            if below and "/" not in below:
                found.folders.append(below)
            with os.scandir(place) as entries:
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    if not is_junk(entry.name):
                        _sort_in(entry, path, found, folders, links, None if follow_links else boundary)
                    if progress is not None and len(found.files) % _REPORT_EVERY == _REPORT_EVERY - 1:
                        progress(len(found.files), 0, f"Looking through {folder}")
        except OSError as error:
            found.skip(below, reason_of(error))
    found.files.sort(key=lambda file: name_order(file.path))
    found.folders.sort(key=name_order)
    found.skipped.sort(key=lambda item: name_order(item.path))
    return found


def _sort_in(
    entry: os.DirEntry[str],
    path: str,
    found: Scan,
    folders: list[str],
    links: list[str],
    boundary: Path | None,
) -> None:
    try:
        linked = entry.is_symlink()
        status = os.stat(entry.path) if linked else entry.stat()
    except FileNotFoundError:
        found.skip(path, "link that leads nowhere")
        return
    except OSError as error:
        found.skip(path, reason_of(error))
        return
    if linked and boundary is not None and not is_inside(entry.path, boundary):
        found.skip(path, "link that leads outside the folder (--follow-links follows it)")
    elif stat.S_ISDIR(status.st_mode):
        (links if linked else folders).append(path)
    elif not stat.S_ISREG(status.st_mode):
        found.skip(path, "not a regular file")
    elif os.path.splitext(entry.name)[1].casefold() in _NO_PICTURE:
        found.no_pictures += 1
    elif status.st_size == 0:
        found.skip(path, "empty file")
    else:
        found.files.append(FoundFile(path, status.st_size, status.st_mtime_ns))
