"""Adds to a fixture study what its maps need to be explored: features, and pictures that tell which image they are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from twoviews.files import write_json

SIDE = 16
BACKBONES = {"random_init": 4.0, "pretrained": 1.2, "finetuned": 0.9, "supervised": 1.4}


def colour_of(image: int) -> tuple[int, int, int]:
    """The one colour of an image's picture."""
    return image % 256, image // 256, 77


def add_explorable(folder: Path) -> Path:
    """Features and thumbnails for the test stage in ``folder``, a study's or a seed's."""
    test = folder / "test"
    rows = read_index(folder)
    names = sorted({row["label"] for row in rows})
    labels = np.array([names.index(row["label"]) for row in rows])
    random = np.random.default_rng(3)
    centres = random.normal(size=(len(names), 12))
    for name, spread in BACKBONES.items():
        features = centres[labels] + spread * random.normal(size=(len(rows), 12))
        np.save(test / f"features-{name}.npy", features.astype(np.float16))
    columns = round(len(rows) ** 0.5)
    places = np.zeros((-(-len(rows) // columns) * columns, 3), dtype=np.uint8)
    places[: len(rows)] = [colour_of(i) for i in range(len(rows))]
    pixels = places.reshape(-1, columns, 3).repeat(SIDE, 0).repeat(SIDE, 1)
    Image.fromarray(pixels).save(test / "thumbnails.webp", lossless=True)
    about = {"size": SIDE, "columns": columns, "ids": list(range(len(rows))), "order": "row by row"}
    write_json(test / "thumbnails.json", about)
    return folder


def read_index(folder: Path) -> list[dict[str, str]]:
    """Rows of the test stage's index.csv."""
    with open(folder / "test" / "index.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
