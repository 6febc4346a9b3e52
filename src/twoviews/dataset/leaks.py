"""Which images of the training side are copies, exact or near, of images held out for validation or test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twoviews.dataset.copies import Leak, find_leaks, first_positions, image_digests, leak_of, same_images
from twoviews.dataset.images import ImageSet, Indices, Source
from twoviews.dataset.near_copies import find_near_copies
from twoviews.dataset.picture_hash import PictureHashes, picture_hashes


@dataclass(frozen=True)
class HeldOut:
    """Images that training must not see, ready to be looked for; ``first`` is digest → position."""

    images: ImageSet
    digests: Sequence[bytes]
    hashes: PictureHashes
    first: Mapping[bytes, int]


@dataclass(frozen=True)
class Hashed:
    """A source's parts by name, and the digest and perceptual hash of each image: what every seed's split shares."""

    sets: Mapping[str, ImageSet]
    digests: Mapping[str, Sequence[bytes]]
    hashes: Mapping[str, PictureHashes]

    @classmethod
    def of(cls, source: Source) -> Hashed:
        """Look at every image of a source once."""
        given = {"train": source.train, "val": source.val, "test": source.test, "unlabeled": source.unlabeled}
        sets = {part: images for part, images in given.items() if images is not None}
        hashes: dict[str, PictureHashes] = {}
        for part, images in sets.items():
            twin = next((other for other in hashes if same_images(sets[other], images)), None)
            hashes[part] = picture_hashes(images) if twin is None else hashes[twin]
        return cls(sets, dict(zip(sets, image_digests(list(sets.values())), strict=True)), hashes)


class LeakSearch:
    """Looks through one part after the other for copies of held-out images, and keeps what was found.

    Attributes:
        sets: the source's parts by name.
        digests, hashes: of each image of each part.
        leaks: what was found so far.
    """

    def __init__(self, hashed: Hashed, *, keep_leaks: bool, drop_near: bool) -> None:
        self.sets, self.digests, self.hashes = hashed.sets, hashed.digests, hashed.hashes
        self.leaks: list[Leak] = []
        self._keep_leaks, self._drop_near = keep_leaks, drop_near
        self._copied: dict[tuple[str, str], int] = {}

    def held_out(self, part: str, positions: Indices) -> HeldOut:
        """These images of a part, as images that are held out."""
        digests = [self.digests[part][i] for i in positions]
        images, hashes = self.sets[part].take(positions), self.hashes[part].take(positions)
        return HeldOut(images, digests, hashes, first_positions(digests))

    def without_exact(self, part: str, positions: Indices, held_out: Mapping[str, HeldOut]) -> Indices:
        """The positions of a part that stay, once exact copies of held-out images have left."""
        digests = [self.digests[part][i] for i in positions]
        first = {split: (held.images, held.first) for split, held in held_out.items()}
        mask, found = find_leaks(part, self.sets[part].take(positions), digests, first)
        self.leaks += found
        copied: dict[str, set[bytes]] = {split: set() for split in held_out}
        for position, leak in zip(np.flatnonzero(mask), found, strict=True):
            copied[leak.copy_of_split].add(digests[position])
        for split, held in held_out.items():
            self._copied[part, split] = sum(digest in copied[split] for digest in held.digests)
        return positions if self._keep_leaks else positions[~mask]

    def without_near(self, part: str, positions: Indices, held_out: Mapping[str, HeldOut]) -> Indices:
        """The positions of a part that stay, where near copies leave: all of them, unless ``drop_near``.

        Each near copy is listed once, with the held-out image that it is most similar to; exact copies are not.
        """
        known = {digest for held in held_out.values() for digest in held.digests}
        rest = np.array([i for i in positions if self.digests[part][i] not in known], dtype=np.int64)
        images, hashes = self.sets[part].take(rest), self.hashes[part].take(rest)
        best: dict[int, Leak] = {}
        for split, held in held_out.items():
            for one, other, similarity in zip(*find_near_copies(images, hashes, held.images, held.hashes), strict=True):
                if one not in best or similarity > best[one].similarity:
                    best[one] = leak_of(
                        part, images, one, split, held.images, other, kind="near", similarity=float(similarity)
                    )
        self.leaks += [best[one] for one in sorted(best)]
        left = rest[sorted(best)] if self._drop_near else rest[:0]
        return positions[~np.isin(positions, left)]

    def notes(self) -> list[str]:
        """What was found, in sentences."""
        return [
            self._note(part, split, kind, count)
            for (part, split, kind), count in Counter((x.split, x.copy_of_split, x.kind) for x in self.leaks).items()
        ]

    def _note(self, part: str, split: str, kind: str, count: int) -> str:
        whose = {"test": "test", "val": "validation"}[split]
        one, were = count == 1, "was" if count == 1 else "were"
        if kind == "exact":
            copied = self._copied[part, split]
            several = f"exact copies of {copied:,} {whose} {'image' if copied == 1 else 'images'}"
            end = f"{were} kept (--keep-leaks)" if self._keep_leaks else f"{were} left out"
        else:
            several = f"near copies of {whose} images, by a perceptual hash,"
            stays = f"{'stays' if one else 'stay'} (--drop-near takes {'it' if one else 'them'} out)"
            end = f"{were} left out (--drop-near)" if self._drop_near else stays
        single = f"{'an exact' if kind == 'exact' else 'a near'} copy of a {whose} image"
        what = f"is {single}" if one else f"are {several}"
        return f"Of {len(self.sets[part]):,} {part} images {count:,} {what} and {end}."
