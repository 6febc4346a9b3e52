"""What the page's templates need of the explorer: a few words, and the data that its scripts read."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twoviews.report.explore.align import flipped, on_a_square, turned
from twoviews.report.explore.gather import CLASSIFIERS, KINDS, Backbone, Images, gather
from twoviews.report.explore.neighbours import NEIGHBOURS, nearest
from twoviews.report.source import Run
from twoviews.report.style import PALETTE, showable
from twoviews.report.words import backbone_name, count, decimal, dig, number, percent, short_name

MOST_IMAGES = 20_000
"""Images beyond this are left out, evenly."""

MOST_BYTES = 20_000_000
"""Of the section; a whole page is to stay below 25 MB."""

# The figures' ten colours, those that a dark ground would swallow made lighter.
DARK_PALETTE = (
    "#4fa3ee",
    "#ffb42e",
    "#e8593f",
    "#c6d3d1",
    "#b57be4",
    "#c98f7d",
    "#ff8a33",
    "#d0c684",
    "#8b909c",
    "#92dadd",
)


@dataclass(frozen=True)
class ExploreSection:
    """What the page puts in its place.

    Attributes:
        images: how many are shown.
        reference: whose map the others are turned to match.
        sampled: which of the images are shown, where it isn't all.
        shown: which seed is shown, where there are several.
        neighbours: nearest images of each; 0 where they are not known.
        data: what the scripts read, for JSON.
    """

    images: int
    reference: str
    sampled: str
    shown: str
    neighbours: int
    data: dict[str, Any]


def explore_section(run: Run, most_images: int = MOST_IMAGES, most_bytes: int = MOST_BYTES) -> ExploreSection | None:
    """The linked maps of a run's test images; None where the run has none.

    Args:
        run: as `twoviews.report.source.load` read it.
        most_images: more are sampled evenly, and the section says so.
        most_bytes: of the data; beyond it images are left out in the same way.
    """
    images = gather(run)
    if images is None:
        return None
    drawn = len(images.files)
    images = _at_most(images, most_images, most_bytes)
    data = _data(images, run)
    return ExploreSection(
        images=len(images.files),
        reference=backbone_name(_reference(images.backbones).name),
        sampled=_sampled(len(images.files), drawn, images.tested),
        shown=run.shown,
        neighbours=NEIGHBOURS if any(model["neighbours"] for model in data["models"]) else 0,
        data=data,
    )


def _at_most(images: Images, most_images: int, most_bytes: int) -> Images:
    """Evenly spaced images, so many that number and bytes stay within their limits."""
    wanted = min(len(images.files), most_images)
    while True:
        if wanted < len(images.files):
            images = images.part(np.linspace(0, len(images.files) - 1, wanted).round().astype(np.int64))
        size = _bytes(images)
        if size <= most_bytes or wanted <= 1:
            return images
        # A little fewer than the share that would fit, since pictures differ in size.
        wanted = max(1, min(wanted - 1, int(0.97 * wanted * most_bytes / size)))


def _bytes(images: Images) -> int:
    """About how many bytes the data of these images is."""
    pictures = 4 * len(images.sheet.webp) // 3 if images.sheet else 0
    maps = sum(len(backbone.maps) for backbone in images.backbones)
    numbers = 4 * (4 + 4 * maps + len(images.backbones) * (3 + 2 * NEIGHBOURS)) // 3
    return pictures + numbers * len(images.files) + sum(len(json.dumps(showable(name))) + 1 for name in images.files)


def _data(images: Images, run: Run) -> dict[str, Any]:
    """What the script reads; arrays are base64 of little-endian whole numbers."""
    sheet = images.sheet
    reference = _reference(images.backbones)
    return {
        "count": len(images.files),
        "classes": [showable(name) for name in images.class_names],
        "files": [showable(name) for name in images.files],
        "labels": _wholes(images.labels),
        "kinds": {kind: name for kind, name in KINDS.items() if any(kind in one.maps for one in images.backbones)},
        "models": [_model(backbone, reference, run) for backbone in images.backbones],
        "palette": {"light": list(PALETTE), "dark": list(DARK_PALETTE)},
        "sheet": sheet
        and {
            "webp": base64.b64encode(sheet.webp).decode(),
            "size": sheet.size,
            "columns": sheet.columns,
            "places": _wholes(sheet.places),
        },
    }


def _model(backbone: Backbone, reference: Backbone, run: Run) -> dict[str, Any]:
    maps = {}
    for kind, points in backbone.maps.items():
        onto = reference.maps.get(kind)
        align = turned if kind == "tsne" else flipped
        maps[kind] = _wholes(on_a_square(points if onto is None or backbone is reference else align(points, onto)))
    features, confidence = backbone.features, backbone.confidence
    usable = features is not None and len(features) > 1 and bool(np.isfinite(features).all())
    return {
        "name": backbone_name(backbone.name),
        "key": backbone.name,
        "classifier": short_name(CLASSIFIERS[backbone.name].removeprefix("random_init_")),
        "maps": maps,
        "quality": {kind: _quality(run, backbone.name, kind) for kind in maps},
        "neighbours": _wholes(nearest(features)) if usable and features is not None else None,
        "predicted": None if backbone.predicted is None else _wholes(backbone.predicted),
        # In units of 1/250; 255: unknown.
        "confidence": None
        if confidence is None
        else _base64(np.where(np.isfinite(confidence), np.clip(confidence, 0, 1) * 250, 255).round().astype(np.uint8)),
    }


def _reference(backbones: list[Backbone]) -> Backbone:
    """The one whose map the others are turned to match: SimCLR's, or the first."""
    return next((one for one in backbones if one.name == "pretrained"), backbones[0])


def _quality(run: Run, backbone: str, kind: str) -> str:
    """How far the map can be believed, in a few words; empty where it wasn't measured."""
    found = dig(run.results, "features", "test", "map_quality", backbone, kind)
    said = []
    for measure in ("trustworthiness", "continuity"):
        if number(dig(found, measure)) is not None:
            said.append(f"{measure} {decimal(dig(found, measure))}")
    if number(dig(found, "purity_features")) is not None:
        said.append(f"{percent(dig(found, 'purity_features'))} of neighbours share the class")
    return ", ".join(said).capitalize() if said else ""


def _sampled(shown: int, drawn: int, tested: int) -> str:
    """Which of the test images are shown, where it isn't all of them."""
    if shown == tested:
        return ""
    why = " to keep this page small enough to send" if shown < drawn else ""
    return f"{count(shown)} of {count(tested)} test images are shown, evenly spaced{why}."


def _wholes(numbers: NDArray[Any]) -> str:
    """Numbers below 65,536 as base64 of 16 bits each; −1 becomes 65,535."""
    return _base64(np.asarray(numbers).astype(np.int64).astype("<u2"))


def _base64(numbers: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
