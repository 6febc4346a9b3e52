"""k-means clusters of the test images against their classes: a table, and the pictures that show what clusters hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twoviews.report.clusters.rows import Cluster, by_distance, cluster_rows, purity
from twoviews.report.data import ReportData
from twoviews.report.explore.gather import Backbone, Images
from twoviews.report.model_names import backbone_name
from twoviews.report.number_words import count, percent
from twoviews.report.picture_atlas import Atlas, atlas
from twoviews.report.style import short, short_names

NEAREST, ODD, FARTHEST = 8, 6, 12
FOLDED_NEAREST, FOLDED_ODD = 6, 4
MOST_CLASSES = 20
"""With more, a cluster's row names its commonest classes in place of a column for each."""

MOST_WITH_PICTURES = 20
"""Clusters of a backbone that are shown with pictures, the largest."""

MOST_BYTES = 150_000
"""Of all pictures together."""

_NAMED_CLASSES, _NAMED_WITHOUT, _LONGEST_NAME = 3, 6, 60


@dataclass(frozen=True)
class Shot:
    """One picture: what it shows, whether it is of its cluster's commonest class, and its place in the atlas."""

    file: str
    label: str
    is_alike: bool
    place: tuple[int, int]


@dataclass(frozen=True)
class ClusterRow:
    """One cluster as the page shows it.

    Attributes:
        title: its number and its commonest class.
        images: how many.
        cells: of each class the count and the share of the row, in [0, 1].
        classes: its commonest classes in words.
        purity: as a percentage.
        nearest, odd: pictures; none where there are none to show.
    """

    title: str
    images: str
    cells: list[tuple[int, float]]
    classes: str
    purity: str
    nearest: list[Shot]
    odd: list[Shot]


@dataclass(frozen=True)
class BackboneClusters:
    """The clusters of one backbone.

    Attributes:
        name: whose features they are clusters of.
        says: what follows from the table.
        classes: heads of the columns; none where there would be too many.
        rows: the clusters.
        far: pictures of the images farthest from every centre.
        more: clusters that are in the table and have no pictures.
    """

    name: str
    says: str
    classes: list[str]
    rows: list[ClusterRow]
    far: list[Shot]
    more: int


@dataclass(frozen=True)
class ClusterSection:
    """What the template shows: one backbone's clusters, the others' folded in, and the one sheet of their pictures."""

    first: BackboneClusters
    others: list[BackboneClusters]
    atlas: Atlas | None
    shown: str


def cluster_section(data: ReportData) -> ClusterSection | None:
    """The clusters of a run's test images; None where its test stage left none.

    Args:
        data: of the run; what can't be read is noted in its problems.
    """
    images, run = data.images, data.run
    if images is None:
        return None
    clustered = [one for one in images.backbones if one.clusters is not None and (one.clusters >= 0).any()]
    clustered.sort(key=lambda one: one.name != "pretrained")
    if not clustered:
        return None
    found = {one.name: _clusters(one, images, one is clustered[0]) for one in clustered}
    far = {one.name: _farthest(one) for one in clustered}
    sheet = _sheet(images, found, far, run.problems)
    groups = [_group(name, found, far[name], images, sheet) for name in found]
    return ClusterSection(groups[0], groups[1:], sheet, run.shown)


def _clusters(backbone: Backbone, images: Images, is_first: bool) -> list[Cluster]:
    assert backbone.clusters is not None
    many = (NEAREST, ODD) if is_first else (FOLDED_NEAREST, FOLDED_ODD)
    return cluster_rows(backbone.clusters, backbone.distances, images.labels, len(images.class_names), *many)


def _farthest(backbone: Backbone) -> list[int]:
    """The images farthest from every centre: an image is in the cluster whose centre is nearest to it."""
    assert backbone.clusters is not None
    rows = by_distance(np.flatnonzero(backbone.clusters >= 0), backbone.distances, farthest_first=True)
    return [int(row) for row in rows[:FARTHEST]]


def _with_pictures(clusters: Sequence[Cluster]) -> set[int]:
    largest = sorted(clusters, key=lambda one: (-one.images, one.number))
    return {one.number for one in largest[:MOST_WITH_PICTURES]}


def _sheet(
    images: Images, found: dict[str, list[Cluster]], far: dict[str, list[int]], problems: list[str]
) -> Atlas | None:
    """All pictures; the first backbone's alone where all are too much, and none where even they are."""
    if images.sheet is None:
        return None
    wanted = {
        name: [
            *(row for one in clusters if one.number in _with_pictures(clusters) for row in one.nearest + one.odd),
            *far[name],
        ]
        for name, clusters in found.items()
    }
    try:
        every = atlas(images.sheet, [row for rows in wanted.values() for row in rows], MOST_BYTES)
        return every or atlas(images.sheet, wanted[next(iter(found))], MOST_BYTES)
    except (OSError, ValueError) as error:
        problems.append(f"test/thumbnails.webp can't be read ({error})")
        return None


def _group(
    name: str, found: dict[str, list[Cluster]], far: Sequence[int], images: Images, sheet: Atlas | None
) -> BackboneClusters:
    clusters, names = found[name], short_names(images.class_names, 24)

    def shots(rows: Sequence[int], commonest: int | None = None) -> list[Shot]:
        # All or none: a strip with holes would show another choice than it says.
        if sheet is None or not all(row in sheet.places for row in rows):
            return []
        labels = [int(images.labels[row]) for row in rows]
        return [
            Shot(
                short(images.files[row], _LONGEST_NAME),
                _class(names, label),
                commonest in (None, label),
                sheet.places[row],
            )
            for row, label in zip(rows, labels, strict=True)
        ]

    pictured = _with_pictures(clusters)
    rows = []
    for one in clusters:
        has_pictures = one.number in pictured
        nearest, odd = (shots(chosen, one.commonest) if has_pictures else [] for chosen in (one.nearest, one.odd))
        rows.append(_row(one, names, nearest, odd))
    return BackboneClusters(
        name=backbone_name(name),
        says=_says(name, found, images.labels, names),
        classes=short_names(images.class_names, 14) if len(names) <= MOST_CLASSES else [],
        rows=rows,
        far=shots(far),
        more=len(rows) - sum(bool(row.nearest) for row in rows),
    )


def _row(one: Cluster, names: Sequence[str], nearest: list[Shot], odd: list[Shot]) -> ClusterRow:
    total = max(int(one.counts.sum()), 1)
    order = [k for k in np.argsort(-one.counts, kind="stable")[:_NAMED_CLASSES].tolist() if one.counts[k]]
    mostly = f"mostly {_class(names, one.commonest)}" if one.commonest >= 0 else "no class known"
    return ClusterRow(
        title=f"{one.number} · {mostly}",
        images=count(one.images),
        cells=[(number, number / total) for number in one.counts.tolist()],
        classes=", ".join(f"{_class(names, k)} {percent(one.counts[k] / total, 0)}" for k in order),
        purity=percent(one.purity, 0),
        nearest=nearest,
        odd=odd,
    )


def _class(names: Sequence[str], label: int) -> str:
    return names[label] if label >= 0 else "unknown"


def _says(name: str, found: dict[str, list[Cluster]], labels: NDArray[np.int64], names: Sequence[str]) -> str:
    """How pure the clusters are, against what asks for no clusters and no training; which classes have none."""
    known = labels[labels >= 0]
    if not len(known):
        return ""
    text = f"{percent(purity(found[name]))} of the images are in a cluster whose commonest class is theirs (purity)"
    if name != "random_init" and "random_init" in found:
        text += f", in an untrained backbone’s clusters {percent(purity(found['random_init']))}"
    largest = np.bincount(known).max() / len(known)
    text += f"; in a single cluster of all it would be {percent(largest)}."
    without = sorted(set(known.tolist()) - {one.commonest for one in found[name]})
    if without and len(without) <= _NAMED_WITHOUT:
        *before, last = (_class(names, k) for k in without)
        text += f" No cluster is mostly {', '.join(before)}{' or ' if before else ''}{last}."
    elif without:
        text += f" {count(len(without))} classes are the commonest of no cluster."
    return text
