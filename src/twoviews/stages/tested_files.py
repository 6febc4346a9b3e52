"""Tables and pictures that the test stage leaves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from twoviews.dataset.images import ImageSet
from twoviews.evaluation.classification import confusion_rates
from twoviews.files import write_atomically, write_bytes, write_csv, write_json
from twoviews.report.confusion.figure import confusion_difference, confusion_matrix
from twoviews.report.explore.sheet import picture_id
from twoviews.report.figure_data import matrix_data
from twoviews.report.figure_files import write_figure
from twoviews.report.model_names import model_name
from twoviews.stages.map_images import DrawnSplit
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
    parts: Sequence[DrawnSplit],
    names: list[str],
    shown: npt.NDArray[np.int64],
) -> None:
    """index.csv and thumbnails of the images on the maps; ``shown``: predictions of all test images."""
    rows: list[tuple[Any, ...]] = []
    for part in parts:
        images, labels = part.images, part.images.labels
        assert labels is not None
        for i in part.drawn.tolist():
            predicted = names[shown[i]] if part.split == "test" else ""
            rows.append((i, part.split, images.name(i), names[labels[i]], predicted))
    write_csv(folder / "index.csv", ["id", "split", "file", "label", "prediction"], rows)
    _write_thumbnails(folder, parts)


def _write_thumbnails(folder: Path, parts: Sequence[DrawnSplit]) -> None:
    """One sprite sheet, row by row, and where each image is in it."""
    drawn = [(part, i) for part in parts for i in part.drawn.tolist()]
    side = min(THUMBNAIL, parts[0].images.image_size)
    columns = min(max(1, round(len(drawn) ** 0.5)), SHEET_SIDE // side)
    lines = -(-len(drawn) // columns)
    sheet = Image.new("RGB", (columns * side, lines * side))
    for place, (part, i) in enumerate(drawn):
        picture = Image.fromarray(part.images.read(slice(i, i + 1))[0].transpose(1, 2, 0))
        if picture.width != side:
            picture = picture.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(picture, (place % columns * side, place // columns * side))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=80)
    write_bytes(folder / "thumbnails.webp", stream.getvalue())
    write_json(
        folder / "thumbnails.json",
        {
            "size": side,
            "columns": columns,
            "ids": [picture_id(part.split, i) for part, i in drawn],
            "order": "row by row",
        },
    )


def write_pictures(run: RunFolder, models: dict[str, Any], names: list[str]) -> None:
    """Confusion matrices as counts and rates, in pictures and CSV; their difference; per-class scores."""
    per_class = []
    for model, figures in models.items():
        counts = np.array(figures["confusion"], dtype=np.int64)
        title = model_name(model)
        shown, rates = matrix_data(counts, names), matrix_data(confusion_rates(counts), names)
        write_figure(confusion_matrix(counts, names, title), shown, run.logs / f"confusion_matrix_{model}")
        write_figure(confusion_matrix(counts, names, title, rates=True), rates, run.logs / f"confusion_rates_{model}")
        write_csv(run.path / f"confusion-{model}.csv", *shown)
        write_csv(run.path / f"confusion_rates-{model}.csv", *rates)
        for row in figures["per_class"]:
            scores = ["" if row[key] is None else f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
            per_class.append([model, row["class"], *scores, row["images"]])
    write_csv(run.path / "per_class.csv", ["model", "class", "precision", "recall", "f1", "images"], per_class)
    if "supervised" in models and "finetuned" in models:
        before, after = (np.array(models[model]["confusion"], dtype=np.int64) for model in ("supervised", "finetuned"))
        changed = confusion_difference(before, after, names)
        write_figure(changed, matrix_data(after - before, names), run.logs / "confusion_difference")
