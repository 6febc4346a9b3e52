"""What the images of a run were, kept in its folder: a run that goes on must find the same ones."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.dataset.images import ImageSet

SHOWN = 3  # names of each kind of change
_LABEL_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no two labels below 2^64 change a digest alike


class Fingerprint:
    """Name, pixels and label of every image, and the sets they went to; cheap to make, worked out when asked for.

    Args:
        sources: the sets that a source gave, each with the digests of its images (from ``image_digests``).
        used: the sets that training, validation and test see.
    """

    def __init__(self, sources: Sequence[tuple[ImageSet, Sequence[bytes]]], used: Sequence[ImageSet]) -> None:
        # Labelled sets last: where one image is in two sets under one name, the one with a label counts.
        ordered = sorted(sources, key=lambda source: source[0].labels is not None)
        self._sources = [(images, _values(images, digests)) for images, digests in ordered]
        self._used = list(used)

    def of_sets(self, used: Sequence[ImageSet]) -> Fingerprint:
        """The fingerprint of the same images where training, validation and test see other sets of them."""
        other = Fingerprint([], used)
        other._sources = self._sources
        return other

    @cached_property
    def content(self) -> dict[str, Any]:
        """``images``: name → 16 hex digits of pixels and label; ``sets``: a digest of who is where, in which order."""
        images: dict[str, str] = {}
        for source, values in self._sources:
            images |= {source.name(i): f"{value:016x}" for i, value in enumerate(values.tolist())}
        sets = blake2b(digest_size=16)
        for used in self._used:
            sets.update(len(used).to_bytes(8, "little"))
            sets.update(used.rows.astype("<i8").tobytes())
            sets.update(b"" if used.labels is None else used.labels.astype("<i8").tobytes())
            names = "\0".join(used.name(i) for i in range(len(used)))
            sets.update(names.encode("utf-8", errors="surrogateescape"))
        return {"sets": sets.hexdigest(), "images": images}

    @cached_property
    def as_file(self) -> bytes:
        """The content as a file holds it: JSON, gzipped; about 16 bytes an image."""
        return gzip.compress(json.dumps(self.content).encode(), compresslevel=6, mtime=0)

    def changes_since(self, saved: bytes) -> str | None:
        """What is not as ``saved`` (an ``as_file``) has it, in words with the first names; None: nothing.

        Raises:
            ValueError: ``saved`` is damaged.
        """
        before, now = _read(saved), self.content
        if before == now:
            return None
        old, new = before["images"], now["images"]
        kinds = {
            "added": [name for name in new if name not in old],
            "removed": [name for name in old if name not in new],
            "with other pixels or another label": [n for n in new if n in old and old[n] != new[n]],
        }
        parts = [f"{len(names):,} {kind} ({_some(names)})" for kind, names in kinds.items() if names]
        return ", ".join(parts) or "the same images in another order or in other sets"


def _values(images: ImageSet, digests: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """(N,) one number for pixels and label of each image."""
    pixels = np.frombuffer(b"".join(digest[:8] for digest in digests), dtype="<u8").astype(np.uint64)
    if images.labels is None:
        return pixels
    marks: npt.NDArray[np.uint64] = (images.labels + 1).astype(np.uint64) * _LABEL_FACTOR
    mixed: npt.NDArray[np.uint64] = pixels ^ marks
    return mixed


def _read(saved: bytes) -> dict[str, Any]:
    try:
        content = json.loads(gzip.decompress(saved))
        assert isinstance(content["images"], dict)
        assert isinstance(content["sets"], str)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{type(error).__name__}") from error
    return {"sets": content["sets"], "images": content["images"]}


def _some(names: list[str]) -> str:
    shown = ", ".join(name.encode("utf-8", errors="backslashreplace").decode() for name in names[:SHOWN])
    return f"{shown}, ..." if len(names) > SHOWN else shown
