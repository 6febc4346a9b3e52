"""The figures of the page that no stage writes, as files of a study: accuracies, folds, more maps, reliability."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from twoviews.report.calibration.section import reliability_figure, reliability_table
from twoviews.report.confusion.figure import confusion_difference, confusion_matrix
from twoviews.report.data import ReportData
from twoviews.report.features import maps
from twoviews.report.features.section import UMAP_MODELS
from twoviews.report.features.tables import k_curves
from twoviews.report.figure_data import dots_data, map_data, matrix_data
from twoviews.report.figure_files import Plotted, write_figure
from twoviews.report.figures import accuracy_dots
from twoviews.report.folds import folds_data, folds_of, folds_plot
from twoviews.report.image_index import Maps
from twoviews.report.labels.curve import label_curve, label_curve_data
from twoviews.report.labels.points import label_points
from twoviews.report.map_kinds import MAP_NAMES
from twoviews.report.model_names import COMPARED, backbone_name, model_name
from twoviews.report.pictures import confusion
from twoviews.report.run import Run
from twoviews.report.values import dig, items

Made = tuple[str, Figure, Plotted]

# Of the feature check only the maps that its own logs lack, of the test those that the page shows.
_MAPS = {
    "features": ("random_init_pca", "random_init_tsne"),
    "test": ("supervised_tsne", "finetuned_tsne", *(f"{model}_umap" for model in UMAP_MODELS)),
}
_IMAGES = {"features": "training and validation images", "test": "test images"}


def write_study_figures(data: ReportData) -> list[Path]:
    """Write each figure that this study has into its ``logs``, as PNG, SVG and CSV; of several seeds the one shown.

    Args:
        data: of a finished study.

    Returns:
        the files written.

    Raises:
        ResourceError: the disk is full or read-only.
    """
    return [
        path
        for name, figure, plotted in _figures(data)
        for path in write_figure(figure, plotted, data.run.folder / "logs" / name)
    ]


def _figures(data: ReportData) -> Iterator[Made]:
    """Name, figure and data of each, one after another, so that only one is held at a time."""
    run = data.run
    models = dig(run.results, "models") or {}
    if (dots := dots_data(models)).rows:
        yield "accuracy", accuracy_dots(models), dots
    if points := label_points(run.results):
        yield "label_curve", label_curve(run.results), label_curve_data(points)
    if folds := folds_of(run.results):
        yield "folds", folds_plot(folds), folds_data(folds)
    yield from _confusions(run)
    diagram, bins = reliability_figure(data), reliability_table(data)
    if diagram is not None and bins is not None:
        yield "reliability", diagram, Plotted(*bins)
    for curve in k_curves(dig(run.results, "features")):
        yield f"kmeans_{curve.key}", curve.figure, Plotted(["k", curve.key], curve.points)
    for stage, found in (("features", data.checked_maps), ("test", data.tested_maps)):
        if found is not None:
            yield from _maps(found, stage)


def _confusions(run: Run) -> Iterator[Made]:
    """Added up over seeds; with one seed they are the test stage's, which wrote them."""
    if len(items(run.results.get("seeds"))) < 2:
        return
    tables = {}
    for model in COMPARED:
        counts = confusion(run, model)
        if counts is not None:
            tables[model] = counts.astype(np.int64)
            title = f"{model_name(model)}, all seeds"
            figure = confusion_matrix(counts, run.class_names, title)
            yield f"confusion_matrix_{model}", figure, matrix_data(tables[model], run.class_names)
    if len(tables) == 2:
        change = confusion_difference(tables["supervised"], tables["finetuned"], run.class_names, "All seeds")
        data = matrix_data(tables["finetuned"] - tables["supervised"], run.class_names)
        yield "confusion_difference", change, data


def _maps(found: Maps, stage: str) -> Iterator[Made]:
    for name in _MAPS[stage]:
        points = found.points.get(name)
        if points is not None:
            model, _, kind = name.rpartition("_")
            title = f"{MAP_NAMES[kind]} of {_IMAGES[stage]}, {backbone_name(model).lower()}"
            figure = maps.scatter_map(points, found.labels, found.class_names, title)
            yield (
                f"{stage}_{kind}_{model}",
                figure,
                map_data(points, found.labels, found.class_names, id=found.index.ids),
            )
