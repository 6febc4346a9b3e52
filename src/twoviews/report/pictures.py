"""The page's pictures: figures as images inside the page, with words on how to read them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from twoviews.files import safe_cell
from twoviews.report import figures, maps, says, style, words
from twoviews.report.source import STAGE_NAMES, Maps, Run
from twoviews.report.words import dig, number, percent

_LARGEST_PICTURE = 4_000_000


@dataclass(frozen=True)
class Picture:
    """An image inside the page: a data URI, and what it shows for those who can't see it."""

    src: str
    alt: str
    title: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures that belong together, how to read them, and what the numbers say."""

    title: str
    read: str
    says: str
    pictures: list[Picture] = field(default_factory=list)


def data_uri(content: bytes, kind: str) -> str:
    """A picture's bytes as an address inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def embed(figure: Figure, alt: str, title: str = "") -> Picture:
    """A figure as SVG inside the page."""
    return Picture(data_uri(style.svg(figure), "svg+xml"), alt, title)


def embed_file(path: Path, alt: str, problems: list[str]) -> Picture | None:
    """A picture file inside the page, made smaller where it is very large; None where it is missing."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            small = image.convert("RGB")
        small.thumbnail((2400, 2400))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        problems.append(f"{path.name} can't be read ({error})")
        return None
    for kind in ("PNG", "JPEG"):
        stream = io.BytesIO()
        # Written anew, so that nothing the file carried beside its pixels comes along.
        small.save(stream, format=kind, quality=88)
        if stream.tell() <= _LARGEST_PICTURE:
            break
    return Picture(data_uri(stream.getvalue(), kind.lower()), alt)


def confusion(run: Run, model: str) -> NDArray[np.float64] | None:
    """A model's confusion matrix, or None where it is missing or doesn't fit the class names."""
    try:
        table = np.asarray(dig(run.results, "models", model, "confusion"), dtype=np.float64)
    except (TypeError, ValueError):
        return None
    size = len(run.class_names)
    return table if table.shape == (size, size) and size and np.isfinite(table).all() else None


def dots(run: Run) -> Picture | None:
    """Every model's test accuracy with its interval."""
    models = dig(run.results, "models") or {}
    known = [name for name in models if number(dig(models, name, "test_top1")) is not None]
    if not known:
        return None
    said = "; ".join(f"{words.model_name(name)} {percent(models[name]['test_top1'])}" for name in known)
    return embed(figures.accuracy_dots(models), f"Dot plot of test accuracy with 95% intervals: {said}.")


def classifier_curves(run: Run) -> list[Picture]:
    """Loss and accuracy of the baseline and of fine-tuning, on the same axes."""
    stages = [run.stages[name] for name in ("supervised", "finetune") if name in run.stages]
    limits = figures.curve_limits(*(stage.metrics for stage in stages))
    return [
        embed(
            figures.classifier_curves(stage.metrics, limits=limits, stacked=True),
            f"{STAGE_NAMES[stage.name]}: loss and accuracy of training and validation over"
            f" {len(stage.metrics)} epochs. {_last_words(stage.metrics)}",
            STAGE_NAMES[stage.name],
        )
        for stage in stages
    ]


def _last_words(rows: Sequence[dict[str, Any]]) -> str:
    if not rows or number(rows[-1].get("val_top1")) is None:
        return ""
    return f"After the last epoch validation accuracy is {percent(rows[-1]['val_top1'])}."


def pretraining_curves(run: Run) -> list[Picture]:
    """Small multiples of pretraining, one picture each so that a phone can stack them."""
    rows = run.stages["pretrain"].metrics if "pretrain" in run.stages else []
    return [
        embed(
            figures.pretraining_curves(rows, panels=[panel], columns=1, width=style.THIRD),
            f"{figures.PRETRAINING_PANELS[panel][2]} over {len(rows)} epochs of pretraining.",
        )
        for panel in figures.measured_panels(rows)
    ]


def confusions(run: Run) -> tuple[list[Picture], Picture | None]:
    """Confusion matrices of the models compared, and the difference of the two."""
    shown = [(name, table) for name in ("supervised", "finetuned") if (table := confusion(run, name)) is not None]
    names = run.class_names
    pictures = [
        embed(
            figures.confusion_matrix(table, names),
            f"Confusion matrix of {words.model_name(name)}:"
            f" {np.trace(table):,.0f} of {table.sum():,.0f} images on the diagonal.",
            words.model_name(name),
        )
        for name, table in shown
    ]
    if len(shown) < 2:
        return pictures, None
    change = figures.confusion_difference(shown[0][1], shown[1][1], names, "Fine-tuned minus baseline")
    return pictures, embed(change, "Difference of the two confusion matrices; the text beside it names the classes.")


def _map(found: Maps, name: str, title: str, labels: tuple[str, str] = ("", "")) -> list[Picture]:
    points = found.points.get(name)
    if points is None:
        return []
    shown = min(len(points), maps.MOST_POINTS)
    kind = "PCA" if name.endswith("_pca") else "t-SNE"
    figure = maps.scatter_map(points, found.labels, found.class_names, axis_labels=labels)
    return [embed(figure, f"{kind} map of {shown:,} images, {title}, coloured by class.", title)]


def _sampled(found: Maps) -> str:
    """How the points of a map too large to draw were chosen; nothing where all are drawn."""
    if len(found.labels) <= maps.MOST_POINTS:
        return ""
    return f" {maps.MOST_POINTS:,} of {len(found.labels):,} images are shown, drawn at random."


def feature_maps(run: Run) -> list[Group]:
    """PCA, t-SNE and k-means of the frozen features, and t-SNE of test images after training."""
    groups = []
    found = run.maps("features")
    if found is not None:
        variance = says.variance(run.results)
        axes = tuple(f"PC {i + 1}" + (f" ({percent(v)} of variance)" if v else "") for i, v in enumerate(variance))
        groups.append(
            Group(
                "PCA",
                "Each point is an image, placed along the two directions in which the features vary most."
                " Classes that lie apart here differ along those directions; classes that overlap may still"
                " differ along others.",
                says.pca_says(run.results) + _sampled(found),
                [
                    *_map(found, "pretrained_pca", "After SimCLR", (axes[0], axes[1])),
                    *_map(found, "random_init_pca", "Untrained backbone", ("PC 1", "PC 2")),
                ],
            )
        )
        groups.append(
            Group(
                "t-SNE",
                "Images with similar features are placed near each other. Which images are neighbours means"
                " something; the size of a group and the space between groups do not.",
                says.tsne_says(run.results) + _sampled(found),
                [
                    *_map(found, "pretrained_tsne", "After SimCLR"),
                    *_map(found, "random_init_tsne", "Untrained backbone"),
                ],
            )
        )
        groups.append(
            Group(
                "k-means",
                "Clusters are found in the features without any label; the picture shows them on the map"
                " above. Each has the colour of the class that fits it best, so equal colours in the two"
                " pictures are agreement.",
                says.kmeans_says(run.results) + _sampled(found),
                _clusters(run, found),
            )
        )
    tested = run.maps("test")
    if tested is not None:
        groups.append(
            Group(
                "t-SNE of test images after training",
                "The same test images in the features of the two classifiers. Points of a colour inside a"
                " group of another are images whose features look like the other class.",
                says.tested_says(run.results) + _sampled(tested),
                [
                    *_map(tested, "supervised_tsne", words.model_name("supervised")),
                    *_map(tested, "finetuned_tsne", words.model_name("finetuned")),
                ],
            )
        )
    return [group for group in groups if group.pictures]


def _clusters(run: Run, found: Maps) -> list[Picture]:
    points = found.points.get("pretrained_tsne", found.points.get("pretrained_pca"))
    rows = {row.get("id", ""): row for row in run.table(run.stages["features"].folder / "clusters.csv")}
    if points is None or not rows:
        return []
    places = {safe_cell(name): i for i, name in enumerate(found.class_names)}
    try:
        numbers = np.array([int(rows[one]["cluster"]) for one in found.ids], dtype=np.int64)
        given = {int(row["cluster"]): places.get(row.get("class") or "", -1) for row in rows.values()}
    except (KeyError, ValueError):
        run.problems.append("features/clusters.csv and features/index.csv don't fit together")
        return []
    return [
        embed(
            maps.kmeans_map(points, numbers, found.labels, found.class_names, given, panels=[panel]),
            f"The map of {min(len(points), maps.MOST_POINTS):,} images coloured by {said}.",
            f"After SimCLR, coloured by {said}",
        )
        for panel, said in (("cluster", "k-means cluster"), ("class", "class"))
    ]
