"""Tables and pictures that the test stage leaves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from twoviews.dataset.images import ImageSet
from twoviews.evaluation.classification import confusion_rates
from twoviews.files import write_atomically, write_bytes, write_csv, write_json
from twoviews.report.confusion import confusion_difference, confusion_matrix
from twoviews.report.style import save
from twoviews.report.words import model_name
from twoviews.trainers.run_folder import RunFolder

THUMBNAIL = 48  # pixels, at most
SHEET_SIDE = 16_383  # pixels, the most WebP can hold


def write_tables(
    folder: Path,
    test: ImageSet,
    names: list[str],
    probabilities: dict[str, npt.NDArray[np.float32]],
    correct: dict[str, npt.NDArray[np.bool_]],
) -> None:
    """predictions.csv, and correct.npz: of each model, whether it was right, to be compared over seeds."""
    assert test.labels is not None
    header = ["id", "file", "label"]
    for model in probabilities:
        header += [model, f"{model}_confidence"]
    predicted = {model: p.argmax(axis=1) for model, p in probabilities.items()}
    rows = []
    for i in range(len(test)):
        row: list[Any] = [i, test.name(i), names[test.labels[i]]]
        for model, p in probabilities.items():
            row += [names[predicted[model][i]], f"{p[i].max():.4f}"]
        rows.append(row)
    write_csv(folder / "predictions.csv", header, rows)
    right: dict[str, Any] = dict(correct)
    write_atomically(folder / "correct.npz", lambda stream: np.savez_compressed(stream, **right))


def write_index(
    folder: Path,
    test: ImageSet,
    names: list[str],
    shown: npt.NDArray[np.int64],
    drawn: npt.NDArray[np.int64],
) -> None:
    """index.csv and thumbnails of the ``drawn`` images, which are in the maps; ``shown``: predictions of all."""
    assert test.labels is not None
    write_csv(
        folder / "index.csv",
        ["id", "split", "file", "label", "prediction"],
        [(i, "test", test.name(i), names[test.labels[i]], names[shown[i]]) for i in drawn],
    )
    _write_thumbnails(folder, test, drawn)


def _write_thumbnails(folder: Path, test: ImageSet, drawn: npt.NDArray[np.int64]) -> None:
    """One sprite sheet, row by row, and where each image is in it."""
    side = min(THUMBNAIL, test.image_size)
    columns = min(max(1, round(len(drawn) ** 0.5)), SHEET_SIDE // side)
    lines = -(-len(drawn) // columns)
    sheet = Image.new("RGB", (columns * side, lines * side))
    for place, i in enumerate(drawn):
        picture = Image.fromarray(test.read(slice(i, i + 1))[0].transpose(1, 2, 0))
        if picture.width != side:
            picture = picture.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(picture, (place % columns * side, place // columns * side))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=80)
    write_bytes(folder / "thumbnails.webp", stream.getvalue())
    write_json(
        folder / "thumbnails.json",
        {"size": side, "columns": columns, "ids": [int(i) for i in drawn], "order": "row by row"},
    )


def write_pictures(run: RunFolder, test: ImageSet, models: dict[str, Any], names: list[str]) -> None:
    """Confusion matrices as counts and rates, in pictures and CSV; their difference; per-class scores."""
    per_class = []
    for model, figures in models.items():
        counts = np.array(figures["confusion"], dtype=np.int64)
        title = model_name(model)
        save(confusion_matrix(counts, names, title), run.logs / f"confusion_matrix_{model}.png")
        save(confusion_matrix(counts, names, title, rates=True), run.logs / f"confusion_rates_{model}.png")
        header = ["true class", *names]
        write_csv(
            run.path / f"confusion-{model}.csv",
            header,
            [[name, *row] for name, row in zip(names, counts.tolist(), strict=True)],
        )
        rates = [[f"{x:.4f}" for x in row] for row in confusion_rates(counts)]
        write_csv(
            run.path / f"confusion_rates-{model}.csv",
            header,
            [[name, *row] for name, row in zip(names, rates, strict=True)],
        )
        for row in figures["per_class"]:
            scores = [f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
            per_class.append([model, row["class"], *scores, row["images"]])
    write_csv(run.path / "per_class.csv", ["model", "class", "precision", "recall", "f1", "images"], per_class)
    if "supervised" in models and "finetuned" in models:
        save(
            confusion_difference(models["supervised"]["confusion"], models["finetuned"]["confusion"], names),
            run.logs / "confusion_difference.png",
        )
