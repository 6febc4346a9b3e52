"""A figure's files: a picture twice, and the numbers that it shows."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from fixture_study import CLASSES
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from PIL import Image
from test_figures import ROWS

from twoviews import disk
from twoviews.errors import ResourceError
from twoviews.report import figures, style
from twoviews.report.confusion import figure as confusion
from twoviews.report.features import maps
from twoviews.report.figure_data import CLASSIFIER_KEYS, curve_data, dots_data, map_data, matrix_data
from twoviews.report.figure_files import Plotted, write_figure

TABLE = Plotted(["k", "silhouette"], [(2, 0.25), (5, 0.125)])


def read(path):
    with open(path, newline="") as stream:
        return list(csv.reader(stream))


def test_a_figure_becomes_png_svg_and_csv_and_nothing_else(tmp_path):
    before = dict(rcParams)
    figure = confusion.confusion_matrix(np.eye(2), ["a", "b"])
    paths = write_figure(figure, TABLE, tmp_path / "logs" / "v1.5 matrix")
    assert [path.name for path in paths] == ["v1.5 matrix.png", "v1.5 matrix.svg", "v1.5 matrix.csv"]
    assert sorted(paths) == sorted((tmp_path / "logs").iterdir())
    with Image.open(paths[0]) as image:
        assert (image.format, image.width, image.getpixel((0, 0))) == ("PNG", 720, (255, 255, 255, 255))
    root = ElementTree.parse(paths[1]).getroot()
    assert root.get("width") == f"{4.8 * 72:g}pt"
    assert read(paths[2]) == [["k", "silhouette"], ["2", "0.25"], ["5", "0.125"]]
    assert dict(rcParams) == before


def test_a_figure_drawn_anew_gives_the_same_bytes_whatever_the_settings():
    once = style.png_and_svg(figures.classifier_curves(ROWS, "Curves"))
    with rc_context({"figure.autolayout": True, "font.size": 30, "svg.hashsalt": None, "savefig.facecolor": "red"}):
        assert style.png_and_svg(figures.classifier_curves(ROWS, "Curves")) == once
    assert not re.search(rb"<dc:date|<dc:creator|Matplotlib v", once[1])
    with Image.open(io.BytesIO(once[0])) as image:
        assert set(image.info) <= {"dpi"}


def test_a_map_of_many_points_stays_small_for_its_points_are_pixels():
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 13_000)
    points = random.normal(size=(13_000, 2)) + labels[:, None]
    pixels, shapes = style.png_and_svg(maps.kmeans_map(points, labels, labels, CLASSES, dict(enumerate(range(10)))))
    assert len(shapes) < 1_000_000
    assert len(pixels) < 1_000_000
    assert shapes.count(b"<image") == 2  # a panel each
    assert shapes.count(b"<path") < 1_000


def test_nothing_lies_outside_the_page_though_places_are_worked_out_once():
    names = [f"a rather long name {i}" for i in range(3)]
    counts = np.random.default_rng(0).integers(0, 900, (3, 3))
    pixels = np.asarray(Image.open(io.BytesIO(style.png_and_svg(confusion.confusion_matrix(counts, names))[0])))
    edge = np.concatenate([pixels[[0, -1]].reshape(-1, 4), pixels[:, [0, -1]].reshape(-1, 4)])
    assert (edge == 255).all()
    assert (pixels[20:-20, 20:-20, :3] < 128).any()


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "png_and_svg", lambda figure: (b"pixels", b"shapes"))
    figure = Figure()
    paths = write_figure(figure, TABLE, tmp_path / "figure")
    kept = [path.read_bytes() for path in paths]

    def full(name, path):
        if name == "write" and path.suffix == ".svg":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(disk, "before", full)
    with pytest.raises(ResourceError, match=r"figure\.svg"):
        write_figure(figure, TABLE, tmp_path / "figure")
    monkeypatch.undo()
    assert [path.read_bytes() for path in paths] == kept == [b"pixels", b"shapes", b"k,silhouette\n2,0.25\n5,0.125\n"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_curves_have_a_row_an_epoch_and_gaps_are_empty():
    header, rows = curve_data(ROWS, CLASSIFIER_KEYS)
    assert header == ["epoch", "train_loss", "val_loss", "train_top1", "val_top1"]
    assert rows[1] == [2, 1.5, "", 0.4, 0.45]
    now_and_then = [{"epoch": i, "loss": 0.1 + 0.2, **({"knn_top1": 0.5} if i == 2 else {})} for i in (1, 2)]
    header, rows = curve_data(now_and_then, ("loss", "knn_top1", "alignment"))
    assert (header, rows) == (["epoch", "loss", "knn_top1"], [[1, 0.1 + 0.2, ""], [2, 0.1 + 0.2, 0.5]])


def test_matrices_and_maps_are_the_numbers_drawn():
    assert matrix_data(np.array([[8, 2], [0, 10]]), ["a", "b"]).rows == [["a", 8, 2], ["b", 0, 10]]
    assert matrix_data(np.array([[0.8, 0.2], [0, 1]]), ["a", "b"]).rows[0] == ["a", "0.8000", "0.2000"]
    points = np.array([[0.1, -2], [np.nan, 3], [1e5, 12345.678]], np.float32)
    header, rows = map_data(points, [1, 0, -1], ["a", "b"], id=np.array([7, 8, 9]), cluster=[2, 0, 1])
    assert header == ["id", "cluster", "class", "x", "y"]
    assert rows == [[7, 2, "b", "0.1", "-2"], [8, 0, "a", "", "3"], [9, 1, "", "100000", "12345.7"]]
    with pytest.raises(ValueError, match=r"zip\(\)"):
        map_data(points, [1, 0, 1], ["a", "b"], id=[7, 8])


def test_accuracies_are_those_that_have_dots():
    models = {
        "supervised": {"test_top1": 0.6, "ci95": [0.58, 0.62], "per_seed": [0.59, 0.61]},
        "knn": {"test_top1": 0.5, "ci95": None},
        "linear_probe": {"test_top1": None},
    }
    assert dots_data(models).rows == [["supervised", 0.6, 0.58, 0.62, "0.59 0.61"], ["knn", 0.5, "", "", ""]]
