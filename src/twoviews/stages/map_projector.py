"""Files of TensorBoard's embedding projector: tensors, metadata, a sheet of pictures, and what says which is which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from twoviews.errors import DataError
from twoviews.files import write_atomically, write_text
from twoviews.stages.map_table import MapTable, whole_text

MOST_SIDE = 8192
"""Pixels; the projector refuses a larger sheet of pictures."""

# What would end a cell or a line, or show as nothing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def write_projector(table: MapTable, out: Path) -> None:
    """Write ``tensors-<backbone>.tsv``, ``metadata.tsv``, ``sprite.png`` and ``projector_config.pbtxt``.

    The projector works from features and makes maps of its own (PCA, t-SNE, UMAP), so it is the features that it is
    given. Numbers are written with five digits, which tell any two float16 apart. The configuration comes last: without
    it TensorBoard sees nothing.

    Raises:
        DataError: the run holds no features, or damaged ones.
    """
    features = {name: found for name in table.backbones if (found := table.features(name)) is not None}
    if not features:
        raise DataError(f"{table.folder} holds no features-<backbone>.npy of {', '.join(table.backbones)} to export.")
    for name, rows in features.items():
        write_atomically(out / f"tensors-{name}.tsv", lambda stream, rows=rows: _write_rows(stream, rows))  # type: ignore[misc]
    write_text(out / "metadata.tsv", "".join("\t".join(map(_cell, row)) + "\n" for row in _metadata(table)))
    side = _write_sprite(table, out / "sprite.png")
    sprite = (
        f'  sprite {{ image_path: "sprite.png" single_image_dim: {side} single_image_dim: {side} }}\n' if side else ""
    )
    shapes = {name: "".join(f" tensor_shape: {size}" for size in rows.shape) for name, rows in features.items()}
    blocks = [
        f'embeddings {{\n  tensor_name: "{name}"{shapes[name]}\n  tensor_path: "tensors-{name}.tsv"\n'
        f'  metadata_path: "metadata.tsv"\n{sprite}}}\n'
        for name in features
    ]
    write_text(out / "projector_config.pbtxt", "".join(blocks))


def _write_rows(stream: IO[bytes], rows: npt.NDArray[Any]) -> None:
    for row in rows:
        stream.write(("\t".join([f"{value:.5g}" for value in row.tolist()]) + "\n").encode())


def _metadata(table: MapTable) -> Iterator[list[object]]:
    """A header and a row for each image; the projector names points by the first column and colours by any."""
    models = list(table.predictions)
    header: list[object] = ["label", "file", "split", "id"]
    for model in models:
        header += [model, f"{model}_confidence", f"{model}_right"]
    yield [*header, *(f"{name}_cluster" for name in table.clusters)]
    for i, label in enumerate(table.labels):
        row: list[object] = [label, table.index.files[i], table.index.splits[i], table.index.ids[i]]
        for model in models:
            said, sure = table.predictions[model][i], table.confidences[model][i]
            right = "" if not said else "right" if said == label else "wrong"
            row += [said, f"{sure:.4f}" if np.isfinite(sure) else "", right]
        yield [*row, *(int(numbers[i]) for numbers in table.clusters.values())]


def _cell(value: object) -> str:
    """Text that stays in its cell: control characters as their escapes."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], whole_text(str(value)))


def _write_sprite(table: MapTable, path: Path) -> int:
    """All pictures in one square, row by row, smaller where they would not fit; returns their side, 0 without any."""
    if table.sheet is None:
        return 0
    columns = int(np.ceil(len(table) ** 0.5))
    side = max(1, min(table.sheet.size, MOST_SIDE // columns))
    sprite = Image.new("RGB", (columns * side, columns * side))
    for i, cut in enumerate(table.sheet.pictures()):
        if cut is not None:
            picture = Image.fromarray(cut)
            small = picture if picture.width == side else picture.resize((side, side), Image.Resampling.LANCZOS)
            sprite.paste(small, (i % columns * side, i // columns * side))
    write_atomically(path, lambda stream: sprite.save(stream, "PNG"))
    return side
