"""``twoviews export-map``: the map of a run's test images for other viewers, from the run folder alone."""

from __future__ import annotations

import shlex
from pathlib import Path

from twoviews.errors import SettingsError
from twoviews.settings import ExportMapCommand
from twoviews.stages.folders import newest_study
from twoviews.stages.map_parquet import write_parquet
from twoviews.stages.map_projector import write_projector
from twoviews.stages.map_table import MapTable, read_map_table
from twoviews.trainers.progress import say


def run_export_map(settings: ExportMapCommand) -> Path:
    """Write the files of the viewer asked for into a folder of their own; returns it.

    Raises:
        SettingsError: the folder is there and not empty, or Parquet is asked for without pyarrow.
        DataError: RUN holds no map, or damaged files.
    """
    run = settings.run or newest_study("test/maps.npz", "study with maps")
    out = settings.out or run / f"map-{settings.to}"
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise SettingsError(f"{out} is there and not empty, and nothing is overwritten: name a new folder with --out.")
    table = read_map_table(run, settings.backbone)
    if settings.to == "tensorboard":
        write_projector(table, out)
        look = f"tensorboard --logdir {shlex.quote(str(out))}"
    else:
        file = write_parquet(table, out, with_features=settings.features)
        look = f"embedding-atlas {shlex.quote(str(file))}{_places(table)}"
    say(f"export-map: {len(table):,} images, {', '.join(table.backbones)}; {out}")
    say(f"to look at it: {look}")
    return out


def _places(table: MapTable) -> str:
    """Which columns a viewer should draw first: t-SNE where there is one."""
    names = sorted(table.points, key=lambda name: not name.endswith("_tsne"))  # the order stays otherwise
    return f" --x {names[0]}_x --y {names[0]}_y --image image" if names and table.sheet else ""
