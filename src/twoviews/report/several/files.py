"""The files of a comparison: the page, and beside it its figures. What is not ours is never written over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from twoviews import disk
from twoviews.errors import SettingsError
from twoviews.files import write_text
from twoviews.report.figure_files import Plotted, figure_paths, write_figure

GENERATOR = "twoviews comparison"
FIGURES = ("accuracy", "label_curve")
_MARK = f'name="generator" content="{GENERATOR}"'.encode()
_NAMED = re.compile(rb'name="figures" content="([a-z_ ]*)"')

Drawn = Mapping[str, tuple[Figure, Plotted]]


def several_path(folders: Sequence[Path], out: Path | None) -> Path:
    """Where the page goes: ``out``, or comparison.html beside the first study.

    Raises:
        SettingsError: something is there that is not such a page or not a figure of it; it is left as it is.
    """
    target = out or folders[0].resolve().parent / "comparison.html"
    if target.is_dir():
        raise SettingsError(f"--out {target} is a folder: name the file to write, for example {target}/comparison.html")
    ours = _figures_of(target)
    for key in FIGURES:
        for path in figure_paths(figure_path(target, key)):
            if key not in ours and path.exists():
                raise SettingsError(
                    f"{path} is there and is no figure of {target.name}: name another page with --out, or move the file"
                )
    return target


def figure_path(page: Path, key: str) -> Path:
    """Where a figure of a page goes, without an ending."""
    return page.with_name(f"{page.stem}-{key}")


def write_page(target: Path, page: str, figures: Drawn) -> None:
    """Write the page, which names its figures, and then these; figures of its last drawing that it lacks now go.

    Args:
        target: of `several_path`.
        page: its HTML, with the keys of ``figures`` in the meta element ``figures``.
        figures: of each key of `FIGURES` that is drawn, the figure and its data.

    Raises:
        ResourceError: the disk is full or read-only.
    """
    for key in _figures_of(target) - figures.keys():
        for path in figure_paths(figure_path(target, key)):
            disk.retried(partial(disk.remove_file, path), path)
    # The page first: what it names is known as ours, should the disk be full before all are written.
    write_text(target, page)
    for key, (figure, plotted) in figures.items():
        write_figure(figure, plotted, figure_path(target, key))


def _figures_of(target: Path) -> set[str]:
    """The figures that a page drawn before has beside it; none where there is no page.

    Raises:
        SettingsError: what is there is no such page.
    """
    if not target.exists():
        return set()
    with open(target, "rb") as stream:
        head = stream.read(2000)
    if _MARK not in head:
        raise SettingsError(f"{target} is there and is no comparison of twoviews: name another file with --out")
    found = _NAMED.search(head)
    return set(FIGURES) & set(found[1].decode().split()) if found else set()
