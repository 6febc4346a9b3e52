"""Augmented views: images beside the pairs of views that pretraining draws of them, and how strong they are."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from twoviews.files import read_json
from twoviews.report.number_words import count, joined, percent
from twoviews.report.pictures import Picture, data_uri, embed_file
from twoviews.report.run import Run
from twoviews.report.style import short
from twoviews.report.values import dig, number, pair

PIXELATED = 64
"""Pictures with fewer pixels a side are shown with their pixels as squares, not blurred by the browser."""

_LOSSLESS, _QUALITY = 64, 88
_LONGEST_NAME = 48
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")


@dataclass(frozen=True)
class Viewed:
    """One image and its views, as data URIs.

    Attributes:
        file: its full name.
        name: the name, shortened to fit.
        original: the image.
        views: first epoch first, the two views of an epoch behind each other.
    """

    file: str
    name: str
    original: str
    views: list[str]


@dataclass(frozen=True)
class ViewSection:
    """What the template shows.

    Attributes:
        images: none for runs that left only a strip.
        strip: the strip, where there is nothing better.
        strength: how strong the augmentation is, in words; empty where it isn't known.
        read: how to read the pictures.
        said: what the views of one image are, for those who can't see them.
        is_small: whether their pixels are shown as squares.
        shown: which of several seeds they are of.
    """

    images: list[Viewed]
    strip: Picture | None
    strength: str
    read: str
    said: str
    is_small: bool
    shown: str


def view_section(run: Run) -> ViewSection | None:
    """The views that a run's pretraining left; None where there are none.

    Args:
        run: as `twoviews.report.run.load` read it; what can't be read is noted in its problems.
    """
    stage = run.stages.get("pretrain")
    if stage is None:
        return None
    try:
        about = read_json(stage.folder / "views.json")
        images, sizes = _cut(stage.folder / "views.webp", about)
    except FileNotFoundError:
        return _strip(run, stage.folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Image.DecompressionBombError) as error:
        run.problems.append(f"pretrain/views.webp and views.json can't be read ({error})")
        return _strip(run, stage.folder)
    epochs = sorted({epoch for one in about["views"] if (epoch := int(one["epoch"]))})
    many = _NUMBERS[len(epochs)] if len(epochs) < len(_NUMBERS) else count(len(epochs))
    return ViewSection(
        images=images,
        strip=None,
        strength=strength(about),
        read=_read(about, many, len(epochs)),
        said=f"{len(images[0].views)} views: two for each of {many} epochs",
        is_small=max(sizes) < PIXELATED,
        shown=run.shown,
    )


def _cut(path: Path, about: Any) -> tuple[list[Viewed], list[int]]:
    """The sheet's pictures one by one, and the size of each column's."""
    cell, sizes = int(about["cell"]), [int(size) for size in about["sizes"]]
    files = [str(name) for name in about["files"]]
    with Image.open(path, formats=["WEBP"]) as image:
        sheet = image.convert("RGB")
    if not files or len(sizes) < 2 or min(sizes) < 1 or max(sizes) > cell:
        raise ValueError("no sizes of pictures")
    if len(about["views"]) != len(sizes) - 1 or sheet.size != (cell * len(sizes), cell * len(files)):
        raise ValueError("they don't fit together")
    found = []
    for line, name in enumerate(files):
        cut = [
            _uri(sheet.crop((x * cell, line * cell, x * cell + size, line * cell + size)))
            for x, size in enumerate(sizes)
        ]
        found.append(Viewed(name, short(name, _LONGEST_NAME), cut[0], cut[1:]))
    return found, sizes


def _uri(picture: Image.Image) -> str:
    stream = io.BytesIO()
    if picture.width <= _LOSSLESS:
        picture.save(stream, "WEBP", lossless=True)
    else:
        picture.save(stream, "WEBP", quality=_QUALITY)
    return data_uri(stream.getvalue(), "webp")


def _strip(run: Run, folder: Path) -> ViewSection | None:
    """What older runs left."""
    strip = embed_file(
        folder / "logs" / "views.png", "A strip of images and the augmented views made of them.", run.problems
    )
    if strip is None:
        return None
    return ViewSection(images=[], strip=strip, strength="", read="", said="", is_small=False, shown=run.shown)


def _read(about: Mapping[str, Any], many: str, epochs: int) -> str:
    text = (
        "Left the image; right of it its views. The two above each other are a pair that the network learns to find"
        f" again, one pair for each of the first {many} epochs: the pixels that training draws from the seed, rounded"
        " to 8 bits."
    )
    trained = number(about.get("trained_epochs"))
    if trained is not None and trained < epochs:
        had = "one epoch" if trained == 1 else f"{trained:.0f} epochs"
        text += f" This training has {had}; the pairs beyond are drawn as further epochs would draw them."
    image, shown = number(about.get("image_size")), max(number(size) or 0 for size in about["sizes"])
    largest = max([image or 0, *(number(dig(one, "view_size")) or 0 for one in about["views"])])
    if largest > shown:
        text += f" Larger pictures are shown at {shown:.0f} pixels."
    return text


def strength(about: Mapping[str, Any]) -> str:
    """How strong the augmentation is, in words that follow from its parameters.

    Args:
        about: views.json, with ``augmentation`` as `twoviews.dataset.augmentations.Augmentation` has it.
    """
    found = dig(about, "augmentation")
    crop = pair(dig(found, "crop_scale"))
    if crop is None:
        return ""
    sentences = [_crop(found, crop, about), _colour(found)]
    return " ".join(sentence for sentence in sentences if sentence)


def _crop(found: Any, crop: tuple[float, float], about: Mapping[str, Any]) -> str:
    share = percent(crop[0], 0) if crop[0] == crop[1] else f"{100 * crop[0]:.0f} to {percent(crop[1], 0)}"
    text = f"A crop keeps {share} of the image’s area"
    first, last = number(dig(found, "view_size")), number(about.get("last_view_size"))
    if first:
        text += f", and is resized to {first:.0f} pixels"
        text += f" in the first epoch, {last:.0f} in the last" if last and last != first else ""
    flip = number(dig(found, "flip"))
    return text + (f"; {percent(flip, 0)} are mirrored." if flip else ".")


def _colour(found: Any) -> str:
    chance = {name: number(dig(found, name)) or 0.0 for name in ("jitter", "grayscale", "blur")}
    parts = []
    moves = [
        f"{joined(names)} by up to {percent(value, 0)}"
        for value, names in _grouped(found, ("brightness", "contrast", "saturation"))
    ]
    hue = number(dig(found, "hue"))
    if hue:
        moves.append(f"hue by up to {360 * hue:.0f}° of the colour circle")
    if chance["jitter"] and moves:
        parts.append(f"{percent(chance['jitter'], 0)} have their colours moved ({joined(moves)})")
    if chance["grayscale"]:
        parts.append(f"{percent(chance['grayscale'], 0)} lose their colour")
    sigma = pair(dig(found, "blur_sigma"))
    if chance["blur"] and sigma:
        parts.append(f"{percent(chance['blur'], 0)} are blurred (sigma {sigma[0]:g} to {sigma[1]:g} pixels)")
    return f"Of the views {joined(parts)}." if parts else "Colours and sharpness stay as they are."


def _grouped(found: Any, names: Sequence[str]) -> list[tuple[float, list[str]]]:
    """The names by their strength, those that change nothing left out."""
    groups: dict[float, list[str]] = {}
    for name in names:
        value = number(dig(found, name))
        if value:
            groups.setdefault(value, []).append(name)
    return list(groups.items())
