"""What the page's templates need of the explorer: a few words, and the data that its scripts read."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twoviews.report.data import ReportData
from twoviews.report.explore.align import flipped, on_a_square, turned
from twoviews.report.explore.gather import CLASSIFIERS, REFERENCE, Backbone, Images
from twoviews.report.explore.neighbours import NEIGHBOURS, nearest
from twoviews.report.map_kinds import MAP_NAMES, NEARNESS
from twoviews.report.model_names import backbone_name, short_name
from twoviews.report.number_words import count, decimal, percent
from twoviews.report.run import Run
from twoviews.report.style import PALETTE, showable
from twoviews.report.values import dig, number
from twoviews.spacing import evenly_spaced

MOST_IMAGES = 20_000
"""Images beyond this are left out, evenly."""

MOST_BYTES = 18_000_000
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
        tested, labelled: how many of these are test images, and images of training and validation.
        kind_names: the maps on which only nearness means something, in words.
        reference: whose map the others are turned to match.
        sampled: which of the images are shown, where it isn't all.
        shown: which seed is shown, where there are several.
        neighbours: nearest images of each; 0 where they are not known.
        data: what the scripts read, for JSON.
    """

    images: int
    tested: int
    labelled: int
    kind_names: str
    reference: str
    sampled: str
    shown: str
    neighbours: int
    data: dict[str, Any]


def explore_section(
    data: ReportData, most_images: int = MOST_IMAGES, most_bytes: int = MOST_BYTES
) -> ExploreSection | None:
    """The linked maps of a run's test images, and of training and validation images where it has drawn these too.

    None where the run has no maps.

    Args:
        data: of the run.
        most_images: more are sampled evenly, and the section says so.
        most_bytes: of the data; beyond it images are left out in the same way.
    """
    images, run = data.drawn, data.run
    if images is None:
        return None
    drawn = len(images.files)
    images = _at_most(images, most_images, most_bytes)
    content = _data(images, run)
    return ExploreSection(
        images=len(images.files),
        tested=len(images.test_rows),
        labelled=len(images.files) - len(images.test_rows),
        kind_names=" or ".join(name for kind, name in content["kinds"].items() if kind in NEARNESS),
        reference=backbone_name(_reference(images.backbones).name),
        sampled=_sampled(images, drawn),
        shown=run.shown,
        neighbours=NEIGHBOURS if any(model["neighbours"] for model in content["models"]) else 0,
        data=content,
    )


def _at_most(images: Images, most_images: int, most_bytes: int) -> Images:
    """Evenly spaced images, so many that number and bytes stay within their limits."""
    wanted = min(len(images.files), most_images)
    while True:
        if wanted < len(images.files):
            images = images.part(evenly_spaced(len(images.files), wanted))
        size = _bytes(images)
        if size <= most_bytes or wanted <= 1:
            return images
        # A little fewer than the share that would fit, since pictures differ in size.
        wanted = max(1, min(wanted - 1, int(0.97 * wanted * most_bytes / size)))


def _bytes(images: Images) -> int:
    """About how many bytes the data of these images is."""
    pictures = 4 * len(images.sheet.webp) // 3 if images.sheet else 0
    maps = sum(len(backbone.maps) for backbone in images.backbones)
    numbers = 4 * (5 + 4 * maps + len(images.backbones) * (5 + 2 * NEIGHBOURS)) // 3
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
        "splits": None if images.index.is_test.all() else _base64(_split_numbers(images)),
        "kinds": {kind: name for kind, name in MAP_NAMES.items() if any(kind in one.maps for one in images.backbones)},
        "models": [_model(backbone, reference, images.test_rows, run) for backbone in images.backbones],
        "palette": {"light": list(PALETTE), "dark": list(DARK_PALETTE)},
        "sheet": sheet
        and {
            "webp": base64.b64encode(sheet.webp).decode(),
            "size": sheet.size,
            "columns": sheet.columns,
            "places": _wholes(sheet.places),
        },
    }


def _split_numbers(images: Images) -> NDArray[np.uint8]:
    """0 for a test image, 1 for one of training, 2 of validation."""
    return np.array([{"test": 0, "val": 2}.get(split, 1) for split in images.index.splits], dtype=np.uint8)


def _model(backbone: Backbone, reference: Backbone, tests: NDArray[np.int64], run: Run) -> dict[str, Any]:
    maps = {}
    for kind, points in backbone.maps.items():
        onto = reference.maps.get(kind)
        align = turned if kind in NEARNESS else flipped
        maps[kind] = _wholes(on_a_square(points if onto is None or backbone is reference else align(points, onto)))
    confidence = backbone.confidence
    return {
        "name": backbone_name(backbone.name),
        "key": backbone.name,
        "classifier": short_name(CLASSIFIERS[backbone.name].removeprefix("random_init_")),
        "maps": maps,
        "quality": {kind: _quality(run, backbone.name, kind) for kind in maps},
        "neighbours": _neighbours(backbone.features, tests),
        "predicted": None if backbone.predicted is None else _wholes(backbone.predicted),
        "clusters": None if backbone.clusters is None else _wholes(backbone.clusters),
        # In units of 1/250; 255: unknown.
        "confidence": None
        if confidence is None
        else _base64(np.where(np.isfinite(confidence), np.clip(confidence, 0, 1) * 250, 255).round().astype(np.uint8)),
    }


def _neighbours(features: NDArray[Any] | None, tests: NDArray[np.int64]) -> str | None:
    """Each image's nearest test images, whatever else is shown; None where a test image has no features."""
    if features is None or len(tests) < 2 or not np.isfinite(features[tests]).all():
        return None
    known = np.isfinite(features).all(axis=1)
    found = nearest(np.where(known[:, None], features, 0), among=tests).astype(np.int64)
    return _wholes(np.where(known[:, None], found, -1))


def _reference(backbones: list[Backbone]) -> Backbone:
    """The one whose map the others are turned to match: SimCLR's, or the first."""
    return next((one for one in backbones if one.name == REFERENCE), backbones[0])


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


def _sampled(images: Images, drawn: int) -> str:
    """Which of the images are shown, where it isn't all of them; ``drawn``: how many the run has drawn."""
    shown = len(images.files)
    if shown == images.tested + images.labelled:
        return ""
    tests = len(images.test_rows)
    said = f"{count(tests)} of {count(images.tested)} test images"
    if shown > tests:
        said += f" and {count(shown - tests)} of {count(images.labelled)} of training and validation"
    why = " to keep this page small enough to send" if shown < drawn else ""
    return f"{said} are shown, evenly spaced{why}."


def _wholes(numbers: NDArray[Any]) -> str:
    """Numbers below 65,536 as base64 of 16 bits each; −1 becomes 65,535."""
    return _base64(np.asarray(numbers).astype(np.int64).astype("<u2"))


def _base64(numbers: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
