"""The pictures of a few unlabeled images beside views of them, as the pretraining stage draws them for its training."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image

from twoviews.dataset.augmentations import Augmentation, views
from twoviews.dataset.images import ImageSet, Pixels
from twoviews.files import write_bytes, write_json
from twoviews.settings import PretrainCommand, PretrainSettings
from twoviews.settings.growth import progress_at
from twoviews.spacing import evenly_spaced
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.steps import augmentation_of

SHOWN_IMAGES = 8
SHOWN_EPOCHS = 4
VIEWS_PER_EPOCH = 2
MOST_SIDE = 160  # pixels of a picture in the sheet; larger ones are made smaller
LOSSLESS_SIDE = 64  # pixels up to which single ones will be looked at, so that none may change
PNG_SIDE = 96  # pixels that a picture has at least in logs/views.png, by whole multiples


@dataclass(frozen=True)
class Drawn:
    """Images and views of them.

    Attributes:
        files: name of each of the N images.
        originals: N×H×H×3 uint8.
        views: of each epoch, both views: N×2×S×S×3 uint8, where S may grow from epoch to epoch.
        augmentations: the distribution that each epoch's views are drawn from.
        trained_epochs: how many of these epochs the training has; those beyond it only draw as it would.
    """

    files: list[str]
    originals: Pixels
    views: list[Pixels]
    augmentations: list[Augmentation]
    trained_epochs: int


def draw_views(images: ImageSet, settings: PretrainSettings, seed: int) -> Drawn:
    """Evenly spaced images with the two views that each of the first epochs draws of them.

    Views are pure functions of seed, epoch, image and view number (`twoviews.dataset.augmentations.draw`), so these are
    the training's own, up to the rounding to 8 bits, and drawing them here leaves no trace in the training.

    Args:
        images: the unlabeled images that the training goes through.
        settings: of the pretraining, its epochs as they will be trained.
        seed: of the training.
    """
    shown = images.take(evenly_spaced(len(images), SHOWN_IMAGES))
    pixels = torch.from_numpy(shown.read(slice(None)))
    rows = torch.from_numpy(shown.rows)
    augmentations = [
        augmentation_of(settings, images.image_size, progress_at(epoch, settings.epochs))
        for epoch in range(SHOWN_EPOCHS)
    ]
    drawn = []
    for epoch, augmentation in enumerate(augmentations):
        made = views(pixels, rows, augmentation, seed=seed, epoch=epoch, count=VIEWS_PER_EPOCH)
        pairs = made.unflatten(0, (VIEWS_PER_EPOCH, len(shown))).permute(1, 0, 3, 4, 2)
        drawn.append((pairs * 255).round().to(torch.uint8).contiguous().numpy())
    return Drawn(
        files=[shown.name(i) for i in range(len(shown))],
        originals=np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy()),
        views=drawn,
        augmentations=augmentations,
        trained_epochs=min(settings.epochs, SHOWN_EPOCHS),
    )


def write_views(run: RunFolder, images: ImageSet, settings: PretrainCommand) -> None:
    """views.webp, views.json and logs/views.png of a pretraining run, the same at each of its starts.

    Raises:
        ResourceError: the disk is full or read-only.
    """
    drawn = draw_views(images, settings, settings.seed)
    lines = [_line(drawn, i) for i in range(len(drawn.files))]
    sizes = [picture.width for picture in lines[0]]
    cell = max(sizes)
    stream = io.BytesIO()
    sheet = _sheet(lines, cell)
    # Exact colours too, since chroma at half the resolution would smear what is small.
    sheet.save(stream, "WEBP", lossless=True) if cell <= LOSSLESS_SIDE else sheet.save(stream, "WEBP", quality=90)
    write_bytes(run.path / "views.webp", stream.getvalue())
    pairs = [(epoch, view) for epoch in range(SHOWN_EPOCHS) for view in range(VIEWS_PER_EPOCH)]
    write_json(
        run.path / "views.json",
        {
            "order": "row by row: an image, then its views; each at the top left of its cell",
            "files": drawn.files,
            "columns": len(sizes),
            "cell": cell,
            "sizes": sizes,
            "image_size": images.image_size,
            "views": [
                {"epoch": epoch + 1, "view": view + 1, "view_size": drawn.augmentations[epoch].view_size}
                for epoch, view in pairs
            ],
            "trained_epochs": drawn.trained_epochs,
            "last_view_size": augmentation_of(settings, images.image_size).view_size,
            "augmentation": asdict(drawn.augmentations[0]),
        },
    )
    times = max(1, -(-PNG_SIDE // cell))
    big = [[_larger(picture, cell * times) for picture in line] for line in lines]
    stream = io.BytesIO()
    _sheet(big, cell * times, gap=6, apart=18, ground=(255, 255, 255)).save(stream, "PNG")
    write_bytes(run.logs / "views.png", stream.getvalue())


def _line(drawn: Drawn, i: int) -> list[Image.Image]:
    """One image and its views, first epoch first, made smaller where they are large."""
    found = [drawn.originals[i], *(view for epoch in drawn.views for view in epoch[i])]
    pictures = [Image.fromarray(one) for one in found]
    for picture in pictures:
        picture.thumbnail((MOST_SIDE, MOST_SIDE), Image.Resampling.LANCZOS)
    return pictures


def _larger(picture: Image.Image, side: int) -> Image.Image:
    return picture if picture.width == side else picture.resize((side, side), Image.Resampling.NEAREST)


def _sheet(
    lines: Sequence[Sequence[Image.Image]],
    cell: int,
    *,
    gap: int = 0,
    apart: int = 0,
    ground: tuple[int, int, int] = (0, 0, 0),
) -> Image.Image:
    """Square pictures of at most ``cell`` pixels, line by line; ``apart``: pixels more after the first of a line."""
    columns, step = len(lines[0]), cell + gap
    sheet = Image.new("RGB", (columns * step - gap + apart, len(lines) * step - gap), ground)
    for y, line in enumerate(lines):
        for x, picture in enumerate(line):
            sheet.paste(picture, (x * step + (apart if x else 0), y * step))
    return sheet
