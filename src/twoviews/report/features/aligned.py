"""The maps as the page draws them still: each turned to match SimCLR's, as on the maps that answer to the hand."""

from __future__ import annotations

from dataclasses import replace

from twoviews.report.explore.align import flipped, turned
from twoviews.report.explore.gather import CLASSIFIERS, REFERENCE
from twoviews.report.image_index import Maps
from twoviews.report.map_kinds import MAP_NAMES, NEARNESS


def aligned(found: Maps) -> Maps:
    """The same images with t-SNE and UMAP turned, mirrored and sized to match SimCLR's, and PCA mirrored.

    Where there is no map of SimCLR the first backbone's takes its place, in the order of the maps above.
    """
    names = [one for one in (REFERENCE, *CLASSIFIERS) if any(f"{one}_{kind}" in found.points for kind in MAP_NAMES)]
    points = dict(found.points)
    for name, places in found.points.items():
        kind = name.rpartition("_")[2]
        onto = found.points.get(f"{names[0]}_{kind}") if names else None
        if kind in MAP_NAMES and onto is not None and onto is not places:
            points[name] = (turned if kind in NEARNESS else flipped)(places, onto)
    return replace(found, points=points)
