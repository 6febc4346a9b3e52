"""Adds to a fixture study what its maps need to be explored: features, and pictures that tell which image they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from twoviews.files import write_csv, write_json

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
    _write_pictures(test, list(range(len(rows))))
    return folder


def read_index(folder: Path) -> list[dict[str, str]]:
    """Rows of the test stage's index.csv."""
    with open(folder / "test" / "index.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def add_clusters(folder: Path, clusters: int = 5) -> dict[str, np.ndarray]:
    """clusters.npz of the test stage, of all rows that index.csv has now: mostly the class, now and then any."""
    test, rows = folder / "test", read_index(folder)
    names = sorted({row["label"] for row in rows})
    labels = np.array([names.index(row["label"]) for row in rows])
    random = np.random.default_rng(4)
    arrays: dict[str, np.ndarray] = {}
    for name in BACKBONES:
        order = random.permutation(clusters)
        found = np.where(random.random(len(rows)) < 0.7, labels % clusters, random.integers(0, clusters, len(rows)))
        arrays[name] = order[found].astype(np.int16)
        arrays[f"{name}_distance"] = random.random(len(rows)).astype(np.float32)
    np.savez(test / "clusters.npz", **arrays)
    return arrays


def add_labelled(folder: Path, train: int, val: int) -> Path:
    """Images of training and validation beside the test images on the maps, as with ``--map-splits train,test``.

    Their ids are counted from 0 again; image i of index.csv keeps the picture of `colour_of(i)`.
    """
    test, rows = folder / "test", read_index(folder)
    tests, more = len(rows), train + val
    names = sorted({row["label"] for row in rows})
    parts = [("train", i) for i in range(train)] + [("val", i) for i in range(val)]
    rows += [
        {"id": str(i), "split": split, "file": f"{split}/{i:05d}", "label": names[i % len(names)], "prediction": ""}
        for split, i in parts
    ]
    header = ["id", "split", "file", "label", "prediction"]
    write_csv(test / "index.csv", header, [[row[key] for key in header] for row in rows])
    random = np.random.default_rng(5)
    with np.load(test / "maps.npz") as archive:
        maps = {name: np.concatenate([p, p[random.integers(0, tests, more)] + 0.3]) for name, p in archive.items()}
    np.savez(test / "maps.npz", **maps)
    labels = np.array([i % len(names) for _, i in parts])
    for name in BACKBONES:
        tested = np.load(test / f"features-{name}.npy")
        centres = np.stack([tested[[row["label"] == one for row in rows[:tests]]].mean(0) for one in names])
        found = centres[labels] + 0.5 * random.normal(size=(more, tested.shape[1]))
        np.save(test / f"train_features-{name}.npy", found.astype(np.float16))
    _write_pictures(test, [*range(tests), *(f"{split}/{i}" for split, i in parts)])
    results = json.loads((test / "results.json").read_text())
    counts = {"test": tests, "train": train, "val": val}
    write_json(test / "results.json", {**results, "maps": {"drawn": counts, "images": counts, "clusters": len(names)}})
    return folder


def _write_pictures(test: Path, ids: list[int | str]) -> None:
    """The sprite sheet of so many images."""
    columns = round(len(ids) ** 0.5)
    places = np.zeros((-(-len(ids) // columns) * columns, 3), dtype=np.uint8)
    places[: len(ids)] = [colour_of(i) for i in range(len(ids))]
    pixels = places.reshape(-1, columns, 3).repeat(SIDE, 0).repeat(SIDE, 1)
    Image.fromarray(pixels).save(test / "thumbnails.webp", lossless=True)
    about = {"size": SIDE, "columns": columns, "ids": ids, "order": "row by row"}
    write_json(test / "thumbnails.json", about)


def add_rich_pictures(folder: Path, size: int = 48) -> Path:
    """Pictures as large in bytes as photographs: noise with a photograph's spectrum (amplitude 1/f), a few kinds."""
    test = folder / "test"
    about = json.loads((test / "thumbnails.json").read_text())
    random = np.random.default_rng(6)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    noise = np.fft.fft2(random.normal(size=(100, 3, size, size))) / np.maximum(frequency, 1 / size)
    kinds = np.fft.ifft2(noise).real
    kinds = (128 + 20 * kinds / kinds.std(axis=(2, 3), keepdims=True)).clip(0, 255).astype(np.uint8)
    columns, count = about["columns"], len(about["ids"])
    lines = -(-count // columns)
    tiles = kinds[random.integers(0, len(kinds), lines * columns)].reshape(lines, columns, 3, size, size)
    pixels = tiles.transpose(0, 3, 1, 4, 2).reshape(lines * size, columns * size, 3)
    Image.fromarray(pixels).save(test / "thumbnails.webp", quality=80, method=0)
    write_json(test / "thumbnails.json", {**about, "size": size})
    return folder
