"""Label conflicts: one picture, as exact or near copies, under two labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twoviews.dataset.copies import Kind, copy_groups, first_positions
from twoviews.dataset.images import ImageSet
from twoviews.dataset.near_copies import find_near_copies
from twoviews.dataset.picture_hash import PictureHashes


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Two images that show the same picture and have different labels.

    Attributes:
        split, file, label: the one; its class by name.
        other_split, other_file, other_label: the other.
        kind: "exact" or "near".
        similarity: 1 for exact copies.
    """

    split: str
    file: str
    label: str
    other_split: str
    other_file: str
    other_label: str
    kind: Kind
    similarity: float


def find_conflicts(
    parts: Mapping[str, ImageSet],
    digests: Mapping[str, Sequence[bytes]],
    hashes: Mapping[str, PictureHashes],
    class_names: Sequence[str],
) -> list[Conflict]:
    """Every exact or near copy, within and between labelled parts, whose label is another.

    Of a picture that is there more than twice, each image is named with the first of another label.

    Args:
        parts: labelled sets by the names of their splits.
        digests: of each set, from ``image_digests``.
        hashes: of each set, from ``picture_hashes``.
        class_names: name of each class number.
    """
    places = [(part, position) for part, images in parts.items() for position in range(len(images))]
    labels = [int(label) for images in parts.values() for label in _labels(images)]
    joined = [digest for part in parts for digest in digests[part]]

    def conflict(one: int, other: int, kind: Kind, similarity: float) -> Conflict:
        (split, position), (other_split, other_position) = places[one], places[other]
        return Conflict(
            split=split,
            file=parts[split].name(position),
            label=class_names[labels[one]],
            other_split=other_split,
            other_file=parts[other_split].name(other_position),
            other_label=class_names[labels[other]],
            kind=kind,
            similarity=similarity,
        )

    found: dict[tuple[int, int], Conflict] = {}
    for group in copy_groups(joined):
        for one in group:
            other = next((member for member in group if labels[member] != labels[one]), None)
            if other is not None:
                pair = min(one, other), max(one, other)
                found[pair] = conflict(*pair, "exact", 1.0)
    # Exact copies were dealt with; the first of them stands for all.
    first = sorted(first_positions(joined).values())
    for one, other, similarity in _near_pairs(parts, hashes, places, first):
        if labels[one] != labels[other]:
            found[one, other] = conflict(one, other, "near", similarity)
    return [found[pair] for pair in sorted(found)]


def _labels(images: ImageSet) -> np.ndarray:
    assert images.labels is not None
    return images.labels


def _near_pairs(
    parts: Mapping[str, ImageSet],
    hashes: Mapping[str, PictureHashes],
    places: Sequence[tuple[str, int]],
    chosen: Sequence[int],
) -> list[tuple[int, int, float]]:
    """Near copies among the chosen places, within each part and between each two of them."""
    by_part = {part: [place for place in chosen if places[place][0] == part] for part in parts}
    kept = {
        part: np.array([places[place][1] for place in members], dtype=np.int64) for part, members in by_part.items()
    }
    names = list(parts)
    pairs = []
    for number, part in enumerate(names):
        for other in names[number:]:
            near = find_near_copies(
                parts[part].take(kept[part]),
                hashes[part].take(kept[part]),
                parts[other].take(kept[other]),
                hashes[other].take(kept[other]),
                within=part == other,
            )
            pairs += [
                (by_part[part][one], by_part[other][two], float(similarity))
                for one, two, similarity in zip(*near, strict=True)
            ]
    return pairs


def conflict_notes(conflicts: Sequence[Conflict]) -> list[str]:
    """How many there are and the first of them, in a sentence; nothing where there are none."""
    if not conflicts:
        return []
    pairs = "; ".join(f"{x.file} ({x.label}) and {x.other_file} ({x.other_label})" for x in conflicts[:3])
    what = "One picture is there" if len(conflicts) == 1 else f"{len(conflicts):,} pairs of images show one picture"
    return [f"{what} under two labels: {pairs}{' …' if len(conflicts) > 3 else ''}."]
