"""One offline page that compares studies: their accuracies, their label curves, and what differs between them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twoviews import __version__
from twoviews.report.labels.points import LabelPoint, label_points, mark, savings_says
from twoviews.report.model_names import model_name
from twoviews.report.number_words import (
    NONE,
    bare_p,
    count,
    duration,
    path_for_command,
    percent,
    percent_range,
    signed,
    signed_range,
    with_deviation,
)
from twoviews.report.page import template
from twoviews.report.pictures import Picture, embed
from twoviews.report.run import Run
from twoviews.report.several.figures import several_dots, several_dots_data, several_label_curves, several_label_data
from twoviews.report.several.files import GENERATOR, Drawn, figure_path, several_path, write_page
from twoviews.report.several.headline import headline, helped_says, study_names
from twoviews.report.several.pairs import Pair, Pairing
from twoviews.report.several.settings import (
    MACHINE,
    differing_settings,
    differing_surroundings,
    differing_table,
    short_note,
)
from twoviews.report.tables import Table
from twoviews.report.values import dig

_MODELS = ("finetuned", "supervised", "linear_probe", "random_init_linear_probe")
_MOST_PAIRS = 15


@dataclass(frozen=True)
class TableCell:
    """A figure, and its interval under it."""

    value: str
    range: str = ""


def write_several(runs: Sequence[Run], pairing: Pairing, out: Path | None = None) -> Path:
    """Write the page that compares studies, finished or not, and its figures beside it as PNG, SVG and CSV.

    Args:
        runs: two studies at least, as `twoviews.report.run.load` read them.
        pairing: their fine-tuned models image by image.
        out: the file; by default comparison.html beside the first study.

    Returns:
        The page's path.

    Raises:
        SettingsError: a file is there and not such a page, or not one of its figures.
        ResourceError: the page can't be written.
    """
    target = several_path([run.folder for run in runs], out)
    figures = _figures(runs)
    page = template("several/page.html.j2").render(**_content(runs, pairing, figures, target, out))
    write_page(target, page, figures)
    return target


def _figures(runs: Sequence[Run]) -> Drawn:
    """The page's figures with their data, by the name of their files."""
    names, found = study_names([run.folder for run in runs]), {}
    models = [dig(run.results, "models") or {} for run in runs]
    curves = [label_points(run.results) for run in runs]
    if any(mark(rows.get(model)) for rows in models for model in _MODELS):
        found["accuracy"] = several_dots(names, models, _MODELS), several_dots_data(names, models, _MODELS)
    if any(curves):
        found["label_curve"] = several_label_curves(names, curves), several_label_data(names, curves)
    return found


def _content(runs: Sequence[Run], pairing: Pairing, figures: Drawn, target: Path, out: Path | None) -> dict[str, Any]:
    """Everything the template shows."""
    names = study_names([run.folder for run in runs])
    results = [run.results for run in runs]
    changed, around = differing_settings(runs), differing_surroundings(runs)
    data = list(dict.fromkeys(str(dig(run.results, "data", "name") or run.settings.get("data") or "") for run in runs))
    answer = headline(names, results, pairing)
    curves = [label_points(one) for one in results]
    return {
        "version": __version__,
        "generator": GENERATOR,
        "figures": " ".join(figures),
        "figure_names": [figure_path(target, key).name for key in figures],
        "title": f"{len(runs)} studies compared",
        "eyebrow": f"{', '.join(filter(None, data))} · {len(runs)} studies compared",
        "unfinished": [(name, run.unfinished) for name, run in zip(names, runs, strict=True) if run.unfinished],
        "answer": answer,
        "helped": helped_says(names, results),
        "head": ["Fine-tuned", "Baseline", "Linear probe", "Untrained", "Difference", "Validation", "Time", "Images/s"],
        "rows": [
            {"name": name, "note": short_note(changed, i), "cells": _cells(run.results)}
            for i, (name, run) in enumerate(zip(names, runs, strict=True))
        ],
        "dots": _dots(names, results, figures),
        "pairs": _pairs(names, pairing),
        "curve": _curve(names, curves, figures),
        "savings": [(name, said) for name, one in zip(names, results, strict=True) if (said := savings_says(one))],
        "points": _points(names, curves),
        "changed": differing_table(names, changed, "Setting") if changed else None,
        "around": differing_table(names, around, "Images, versions, machine") if around else None,
        "same_machine": not any(key.startswith(MACHINE) for key in around),
        "command": _command(runs, out),
        "problems": [f"{name}: {said}" for name, run in zip(names, runs, strict=True) for said in run.problems],
    }


def _cells(results: Any) -> list[TableCell]:
    models = [dig(results, "models", name) for name in _MODELS]
    cells = [TableCell(with_deviation(row), _range(percent_range(dig(row, "ci95")))) for row in models]
    compared = dig(results, "comparison", "finetuned_minus_supervised")
    cells.append(TableCell(signed(dig(compared, "points")), _range(signed_range(dig(compared, "ci95")))))
    cells.append(TableCell(percent(dig(models[0], "val_top1"))))
    cells.append(TableCell(duration(dig(results, "seconds", "total"))))
    return [*cells, TableCell(count(dig(results, "speed", "pretrain_images_per_second")))]


def _range(text: str) -> str:
    return "" if text == NONE else text


def _dots(names: Sequence[str], results: Sequence[Any], figures: Drawn) -> Picture | None:
    if "accuracy" not in figures:
        return None
    models = [dig(one, "models") or {} for one in results]
    said = [
        f"{model_name(model)}: {', '.join(f'{name} {percent(top)}' for name, top in known)}"
        for model in _MODELS
        if (
            known := [(n, dig(m, model, "test_top1")) for n, m in zip(names, models, strict=True) if mark(m.get(model))]
        )
    ]
    figure = figures["accuracy"][0]
    return embed(figure, f"Test accuracy with 95% intervals, model by model and study by study. {'; '.join(said)}.")


def _pairs(names: Sequence[str], pairing: Pairing) -> Table | None:
    """Every pair, the study that is ahead first; of very many the closest to the leader's."""
    if not pairing.pairs:
        return None
    turned = [pair if pair.points >= 0 else pair.seen_from(pair.b) for pair in pairing.pairs]
    shown = sorted(turned, key=lambda pair: (-pair.points, pair.a, pair.b))
    several, tested = len(shown) > 1, any(pair.p is not None for pair in shown)
    header = ["Fine-tuned models", "Points", "Interval" if several else "95% interval"]
    header += ["McNemar’s p", ""] if tested else [""]
    rows = [
        [
            f"{names[pair.a]} − {names[pair.b]}",
            signed(pair.points),
            signed_range((pair.low, pair.high)),
            *([NONE if pair.p is None else bare_p(pair.p)] if tested else []),
            _says(names, pair),
        ]
        for pair in shown[:_MOST_PAIRS]
    ]
    caption = f"Differences in accuracy on the same {count(pairing.images)} test images. Intervals: {pairing.method}."
    if several:
        level = f"{100 * pairing.level:.2f}".rstrip("0")
        caption += f" Each interval has a level of {level}%, so that all {len(shown)} hold together with 95%."
        caption += f" McNemar’s p is to be below {1 - pairing.level:.2g}." if tested else ""
    if len(shown) > _MOST_PAIRS:
        caption += f" The {_MOST_PAIRS} largest differences of {len(shown)} are listed."
    return Table(header, rows, caption)


def _says(names: Sequence[str], pair: Pair) -> str:
    if pair.sign is None:
        return "too close to call"
    return "can’t be told apart" if pair.sign == 0 else f"{names[pair.a if pair.sign > 0 else pair.b]} ahead"


def _curve(names: Sequence[str], curves: Sequence[Sequence[LabelPoint]], figures: Drawn) -> Picture | None:
    if "label_curve" not in figures:
        return None
    there = [name for name, points in zip(names, curves, strict=True) if points]
    alt = f"Test accuracy over the number of labels of {', '.join(there)}; the table below has the numbers."
    return embed(figures["label_curve"][0], alt)


def _points(names: Sequence[str], curves: Sequence[Sequence[LabelPoint]]) -> Table | None:
    """Fine-tuned accuracy and the baseline's of each study at each number of labels."""
    places = sorted({point.labels for points in curves for point in points})
    if not places:
        return None
    there = [(name, points) for name, points in zip(names, curves, strict=True) if points]
    rows = [[count(labels), *(_at(points, labels) for _, points in there)] for labels in places]
    caption = "After pretraining and fine-tuning / the study’s own supervised baseline, on the same labels."
    return Table(["Labels in all", *(name for name, _ in there)], rows, caption)


def _at(points: Sequence[LabelPoint], labels: float) -> str:
    point = next((one for one in points if one.labels == labels), None)
    if point is None:
        return NONE
    tops = [percent(one.top1) if (one := point.models.get(name)) else NONE for name in ("finetuned", "supervised")]
    return " / ".join(tops)


def _command(runs: Sequence[Run], out: Path | None) -> str:
    """What draws this page again, without the folders above the one commands run in."""
    words = ["twoviews", "report", *(path_for_command(run.folder) for run in runs)]
    return shlex.join(words if out is None else [*words, "--out", path_for_command(out)])
