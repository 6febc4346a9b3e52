"""The one place that writes figures: each as PNG to look at, SVG to print, and CSV of what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from twoviews.files import write_bytes, write_csv
from twoviews.report import style

KINDS = ("png", "svg", "csv")


class Plotted(NamedTuple):
    """What a figure shows: names of the columns, and rows of numbers and text; an empty cell wasn't measured."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


def figure_paths(path: Path) -> list[Path]:
    """The files of a figure: ``path`` + ``.png``, ``.svg`` and ``.csv``."""
    return [path.with_name(f"{path.name}.{kind}") for kind in KINDS]


def write_figure(figure: Figure, plotted: Plotted, path: Path) -> list[Path]:
    """Write ``path`` + ``.png``, ``.svg`` and ``.csv``, whole or not at all; drawn anew it gives the same bytes.

    Args:
        figure: drawn by one of this package's functions.
        plotted: what it shows.
        path: folder and name without an ending; the folder is made where it is missing.

    Returns:
        the files written.

    Raises:
        ResourceError: the disk is full or read-only.
    """
    paths = figure_paths(path)
    pixels, shapes = style.png_and_svg(figure)
    write_bytes(paths[0], pixels)
    write_bytes(paths[1], shapes)
    write_csv(paths[2], plotted.header, plotted.rows)
    return paths
