"""A checkpoint's manifest: the size and SHA-256 of each of its files, and whether they are still that."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_BLOCK = 1 << 22


def manifest(files: dict[str, bytes]) -> bytes:
    """Content of the manifest of files with these names and contents."""
    entries = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    return _as_text(entries)


def verify(path: Path, *, from_disk: bool = False) -> str | None:
    """What is wrong with a checkpoint folder, or None.

    Args:
        path: the checkpoint.
        from_disk: read what the disk holds, not what the system still has in memory of it (where it can be asked to).
    """
    try:
        text = (path / MANIFEST).read_bytes()
        expected = json.loads(text)["files"]
        if _as_text(expected) != text:
            return f"{path.name}: {MANIFEST} has changed since it was saved"
        actual = {p.name for p in path.iterdir()} - {MANIFEST}
        for name, entry in expected.items():
            if name not in actual:
                return f"{path.name}: {name} is missing"
            if _entry_of(path / name, from_disk) != entry:
                return f"{path.name}: {name} has changed since it was saved"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{path.name}: {MANIFEST} can't be read ({type(error).__name__})"
    if extra := actual - expected.keys():
        return f"{path.name}: {min(extra)} is not in its manifest"
    return None


def _as_text(entries: dict[str, Any]) -> bytes:
    return json.dumps({"files": entries}, indent=2).encode()


def _entry_of(file: Path, from_disk: bool) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        if from_disk and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := stream.read(_BLOCK):
            digest.update(block)
        return {"bytes": stream.tell(), "sha256": digest.hexdigest()}
