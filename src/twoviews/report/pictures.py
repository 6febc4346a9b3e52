"""The page's pictures: figures as images inside the page, with words on how to read them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from twoviews.report import figures, style
from twoviews.report.confusion.figure import confusion_difference, confusion_matrix
from twoviews.report.model_names import COMPARED, model_name
from twoviews.report.number_words import percent
from twoviews.report.run import Run
from twoviews.report.stage_files import STAGE_NAMES
from twoviews.report.values import dig, number

_LARGEST_PICTURE = 4_000_000


@dataclass(frozen=True)
class Picture:
    """An image inside the page: a data URI, and what it shows for those who can't see it."""

    src: str
    alt: str
    title: str = ""
    chart: str = ""
    """Which of the page's charts may take its place, and then its width over its height."""
    ratio: float = 1.0


def data_uri(content: bytes, kind: str) -> str:
    """A picture's bytes as an address inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def embed(figure: Figure, alt: str, title: str = "", chart: str = "") -> Picture:
    """A figure as SVG inside the page; ``chart`` names the chart of `charts_section` that may take its place."""
    width, height = figure.get_size_inches()
    return Picture(data_uri(style.svg(figure), "svg+xml"), alt, title, chart, round(float(width / height), 4))


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


def confusion(run: Run, model: str, results: dict[str, Any] | None = None) -> NDArray[np.float64] | None:
    """A model's confusion matrix, or None where it is missing or doesn't fit the class names.

    Args:
        results: those of a stage instead of the run's own.
    """
    try:
        found = dig(run.results if results is None else results, "models", model, "confusion")
        table = np.asarray(found, dtype=np.float64)
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
    said = "; ".join(f"{model_name(name)} {percent(models[name]['test_top1'])}" for name in known)
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
            chart=stage.name,
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
            chart=f"pretrain-{panel}",
        )
        for panel in figures.measured_panels(rows)
    ]


def confusions(run: Run) -> tuple[list[Picture], Picture | None]:
    """Confusion matrices of the models compared, and the difference of the two."""
    shown = [(name, table) for name in COMPARED if (table := confusion(run, name)) is not None]
    names = run.class_names
    pictures = [
        embed(
            confusion_matrix(table, names),
            f"Confusion matrix of {model_name(name)}:"
            f" {np.trace(table):,.0f} of {table.sum():,.0f} images on the diagonal.",
            model_name(name),
        )
        for name, table in shown
    ]
    if len(shown) < 2:
        return pictures, None
    change = confusion_difference(shown[0][1], shown[1][1], names, "Fine-tuned minus baseline")
    return pictures, embed(change, "Difference of the two confusion matrices; the text beside it names the classes.")
