"""The map as one Parquet table, a row for each image, as Embedding Atlas, DuckDB and data frames read it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twoviews.errors import SettingsError
from twoviews.files import write_atomically
from twoviews.stages.map_table import MapTable, whole_text


def write_parquet(table: MapTable, out: Path, *, with_features: bool = False) -> Path:
    """Write ``map.parquet``; docs/runs.md names its columns.

    Args:
        with_features: also each backbone's features, as lists of fixed size.

    Returns:
        The file.

    Raises:
        SettingsError: pyarrow isn't installed.
        DataError: features are asked for and damaged.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise SettingsError(
            "--to parquet needs pyarrow, which is not installed: pip install 'twoviews[parquet]'"
        ) from error
    columns: dict[str, Any] = {
        "id": arrow.array([int(one) if one.isdecimal() else -1 for one in table.index.ids], arrow.int64()),
        "split": _texts(arrow, table.index.splits),
        "file": _texts(arrow, table.index.files),
        "label": _texts(arrow, table.labels),
    }
    for model, said in table.predictions.items():
        columns[model] = _texts(arrow, said)
        columns[f"{model}_confidence"] = arrow.array(table.confidences[model], arrow.float32(), from_pandas=True)
        right = [one == label if one else None for one, label in zip(said, table.labels, strict=True)]
        columns[f"{model}_right"] = arrow.array(right, arrow.bool_())
    for name, points in table.points.items():
        columns[f"{name}_x"], columns[f"{name}_y"] = (arrow.array(points[:, axis]) for axis in (0, 1))
    for name, numbers in table.clusters.items():
        columns[f"{name}_cluster"] = arrow.array(numbers, mask=numbers < 0)
    for name in table.backbones if with_features else ():
        features = table.features(name)
        if features is not None:
            flat = arrow.array(np.ascontiguousarray(features, dtype=np.float32).reshape(-1))
            columns[f"{name}_features"] = arrow.FixedSizeListArray.from_arrays(flat, features.shape[1])
    if table.sheet is not None:
        kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        columns["image"] = arrow.array(_images(table), kind)
    file = out / "map.parquet"
    whole = arrow.table(columns)
    write_atomically(file, lambda stream: parquet.write_table(whole, stream, compression="zstd"))
    return file


def _texts(arrow: Any, values: list[str]) -> Any:
    """Text, none where it is empty."""
    return arrow.array([whole_text(one) or None for one in values], arrow.string())


def _images(table: MapTable) -> list[dict[str, Any] | None]:
    """Each picture as a file in itself, in the form that data sets of images have in Parquet."""
    assert table.sheet is not None
    found: list[dict[str, Any] | None] = []
    for one, picture in zip(table.index.ids, table.sheet.pictures(), strict=True):
        if picture is None:
            found.append(None)
            continue
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=90)
        found.append({"bytes": stream.getvalue(), "path": f"{one}.jpg"})
    return found
