"""The decoded images of a folder, as one memory-mapped file that is made once and used until a file changes.

``<name>.npy`` holds N×3×size×size uint8, ``<name>.json`` which files these are and which were left out. The
name carries a key over everything that decides the pixels. The .json is written last: without it, the .npy is
nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock

from twoviews import disk
from twoviews.dataset.decode import RULES_VERSION
from twoviews.dataset.decode_workers import decode_all
from twoviews.dataset.images import Pixels, Skipped
from twoviews.dataset.scan import FoundFile, Progress, Scan
from twoviews.errors import ResourceError
from twoviews.files import read_json, write_atomically, write_json

_ENDS_BYTES = 2048
_REPORT_EVERY = 64


@dataclass(frozen=True)
class DecodedFolder:
    """Decoded images of one folder.

    Attributes:
        pixels: N×3×size×size uint8, memory-mapped, read-only.
        files: (N,) path of each image below the folder.
        skipped: files that could not be decoded.
        stretched: how many images had their range rescaled to 0..255.
    """

    pixels: Pixels
    files: list[str]
    skipped: list[Skipped]
    stretched: int


def decoded_folder(
    found: Scan,
    part: str,
    *,
    image_size: int,
    cache: Path,
    workers: int | None,
    max_pixels: int,
    progress: Progress | None,
) -> DecodedFolder:
    """The images of ``found``, from the cache or decoded into it.

    Args:
        part: what the folder is ("train"); begins the cache file's name.
        cache: folder of the cache files; made when missing.

    Raises:
        DataError: a file kills its decoder.
        ResourceError: the cache can't be written.
    """
    folder = os.path.realpath(found.folder)
    key = _key(found, folder, image_size, max_pixels)
    place = hashlib.blake2b(os.fsencode(folder), digest_size=4).hexdigest()
    family = f"{part}-{place}-{image_size}px-"
    index, array = cache / f"{family}{key}.json", cache / f"{family}{key}.npy"
    try:
        disk.make_folder(cache)
        lock = FileLock(cache / f".{family}lock")
        lock.acquire()
    except OSError as error:
        raise ResourceError(_cant_write(cache, error.strerror or str(error))) from error
    try:
        stored = _load(index, array, found.folder, image_size)
        if stored is None:
            for old in (*cache.glob(f"{family}*"), *cache.glob(f".{family}*.tmp-*")):
                with suppress(OSError):  # on Windows, a file that another run still maps stays
                    disk.remove_file(old)
            _build(
                found,
                part,
                index,
                array,
                image_size=image_size,
                workers=workers,
                max_pixels=max_pixels,
                progress=progress,
            )
            stored = _load(index, array, found.folder, image_size)
    finally:
        lock.release()
    if stored is None:
        raise ResourceError(f"The cache {array} can't be read back: check the disk, or use another --cache.")
    return stored


def _cant_write(cache: Path, reason: str) -> str:
    return f"Could not write decoded images to {cache} ({reason}): free some space or use another --cache."


def _key(found: Scan, folder: str, image_size: int, max_pixels: int) -> str:
    digest = hashlib.blake2b(digest_size=12)
    rules = {"rules": RULES_VERSION, "size": image_size, "max_pixels": max_pixels, "folder": folder}
    digest.update(json.dumps(rules, sort_keys=True).encode())
    for file, ends in zip(found.files, _ends(folder, found.files), strict=True):
        digest.update(json.dumps([file.path, file.size, file.mtime_ns, ends]).encode())
    return digest.hexdigest()


def _ends(folder: str, files: Sequence[FoundFile]) -> Iterator[str]:
    """A hash of each file's first and last bytes: an edit that keeps size and time rarely keeps both."""

    def of(file: FoundFile) -> str:
        try:
            handle = os.open(
                os.path.join(folder, file.path),
                os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0),
            )
            with open(handle, "rb") as stream:
                content = stream.read(_ENDS_BYTES)
                stream.seek(max(0, file.size - _ENDS_BYTES))
                content += stream.read(_ENDS_BYTES)
        except OSError:
            return "unreadable"  # so that the cache is rebuilt once permissions are put right
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(files), 4096):  # map() would hold a future for each of a million files
            yield from pool.map(of, files[start : start + 4096])


def _build(
    found: Scan,
    part: str,
    index: Path,
    array: Path,
    *,
    image_size: int,
    workers: int | None,
    max_pixels: int,
    progress: Progress | None,
) -> None:
    needed = len(found.files) * 3 * image_size**2
    if (free := disk.room(array.parent)) < needed:
        raise ResourceError(_cant_write(array.parent, f"{needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free"))
    kept: list[str] = []
    skipped: list[list[Any]] = []
    stretched = 0

    def write(stream: IO[bytes]) -> None:
        nonlocal stretched
        kept.clear()  # a write is tried again where a disk error may pass
        skipped.clear()
        stretched = 0
        room = _write_header(stream, len(found.files), image_size)
        results = decode_all(str(found.folder), found.files, image_size, max_pixels, workers)
        for done, (file, result) in enumerate(zip(found.files, results, strict=True), 1):
            if result.pixels is None:
                skipped.append([file.path, result.reason, file.size])
            else:
                kept.append(file.path)
                stretched += result.stretched
                stream.write(result.pixels.tobytes())
            if progress is not None and (done % _REPORT_EVERY == 0 or done == len(found.files)):
                progress(done, len(found.files), f"Decoding {part}")
        stream.seek(0)
        # NumPy pads headers so that the count can change in place.
        assert _write_header(stream, len(kept), image_size) == room
        stream.seek(0, os.SEEK_END)

    try:
        write_atomically(array, write)
        write_json(index, {"files": kept, "skipped": skipped, "stretched": stretched})
    except ResourceError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError):
            raise  # it was not the disk
        raise ResourceError(_cant_write(array.parent, cause.strerror or str(cause))) from error


def _write_header(stream: IO[bytes], count: int, image_size: int) -> int:
    shape = (count, 3, image_size, image_size)
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.tell()


def _load(index: Path, array: Path, folder: Path, image_size: int) -> DecodedFolder | None:
    """What the cache holds, or None where it is missing, cut short or not ours."""
    try:
        content = read_json(index)
        files = [str(name) for name in content["files"]]
        skipped = [Skipped(os.path.join(folder, path), reason, size) for path, reason, size in content["skipped"]]
        shape = (len(files), 3, image_size, image_size)
        pixels = np.load(array, mmap_mode="r", allow_pickle=False) if files else np.empty(shape, np.uint8)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            return None
        return DecodedFolder(pixels, files, skipped, int(content["stretched"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
