"""The part of the page about folds: each model trained on each official fold of the labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twoviews.report.figure_files import Plotted
from twoviews.report.labels.points import (
    CURVE_MODELS,
    TABLE_MODELS,
    Mark,
    difference,
    folds_difference,
    labels_of_fold,
    mark,
)
from twoviews.report.model_names import model_name, short_name
from twoviews.report.number_words import NONE, count, percent, percent_range, signed, signed_range, with_deviation
from twoviews.report.pictures import Picture, embed
from twoviews.report.run import Run
from twoviews.report.style import HALF, INK, LOOKS, RULE, sheet, short, styled
from twoviews.report.tables import Table
from twoviews.report.values import dig, items, number, pair

# Data sets whose folds are STL-10's, or cut as those are.
_STL10 = {"stl10": "STL-10’s protocol", "cifar10_as_stl10": "STL-10’s protocol, on CIFAR-10 cut as STL-10 is"}


@dataclass(frozen=True)
class Fold:
    """One fold: its name, how many labelled images it has, and how they did."""

    name: str
    labels: float | None
    models: dict[str, Mark]
    points: float | None


@dataclass(frozen=True)
class FoldsSection:
    """What the page says and shows about the folds."""

    says: str
    protocol: str
    picture: Picture
    summary: Table | None
    table: Table


def folds_of(results: Mapping[str, Any]) -> list[Fold]:
    """The folds with at least one model's accuracy, as they were run."""
    found = []
    for i, row in enumerate(items(results.get("folds"))):
        models = {name: one for name in TABLE_MODELS if (one := mark(dig(row, "models", name))) is not None}
        if not set(CURVE_MODELS) & set(models):
            continue
        name = number(dig(row, "fold"))
        found.append(
            Fold(f"{i if name is None else name:.0f}", labels_of_fold(row), models, difference(row, models)[0])
        )
    return found


def folds_section(run: Run) -> FoldsSection | None:
    """The section, or None for a study without folds."""
    folds = folds_of(run.results)
    if not folds:
        return None
    names = [name for name in CURVE_MODELS if any(name in fold.models for fold in folds)]
    said = []
    for name in names:
        tops = [fold.models[name].top1 for fold in folds if name in fold.models]
        said.append(f"{model_name(name)} {percent(min(tops))} to {percent(max(tops))}")
    return FoldsSection(
        comparison_says(run.results),
        protocol_says(run.results),
        embed(folds_plot(folds), f"Test accuracy of {len(folds)} folds, a line a fold: {'; '.join(said)}."),
        _summary(run.results, folds),
        _table(folds),
    )


@styled
def folds_plot(folds: Sequence[Fold]) -> Figure:
    """Test accuracy of each fold, a line a fold through the models, with mean ± standard deviation beside.

    Args:
        folds: at least one, of `folds_of`.
    """
    names = [name for name in CURVE_MODELS if any(name in fold.models for fold in folds)]
    figure, (axis,) = sheet(HALF, 3.7)
    for fold in folds:
        there = [(place, 100 * fold.models[name].top1) for place, name in enumerate(names) if name in fold.models]
        axis.plot(*zip(*there, strict=True), color=RULE, linewidth=1.1, zorder=1)
    for place, name in enumerate(names):
        colour, marker, _ = LOOKS[name]
        tops = np.array([100 * fold.models[name].top1 for fold in folds if name in fold.models])
        axis.plot([place] * len(tops), tops, marker, color=colour, markersize=5.5, alpha=0.6, mew=0, zorder=2)
        spread = float(tops.std(ddof=1)) if len(tops) > 1 else 0.0
        beside: dict[str, Any] = {"color": INK, "markersize": 5, "capsize": 3, "elinewidth": 1.3, "fmt": "o"}
        axis.errorbar([place + 0.17], [tops.mean()], yerr=[spread], zorder=3, **beside)
    axis.set_xticks(range(len(names)), [short(model_name(name), 32).replace(" ", "\n", 1) for name in names])
    axis.set_xlim(-0.4, len(names) - 0.5)
    axis.tick_params(axis="x", labelcolor=INK, length=0)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axis.grid(axis="y")
    axis.set_title("Test accuracy (%): each fold, mean ± std")
    return figure


def folds_data(folds: Sequence[Fold]) -> Plotted:
    """A model on a fold a row; accuracies are fractions, the difference to the baseline percentage points."""
    rows = []
    for fold in folds:
        labels, change = ("" if value is None else f"{value:g}" for value in (fold.labels, fold.points))
        for name, one in fold.models.items():
            rows.append([fold.name, labels, name, one.top1, change if name == "finetuned" else ""])
    return Plotted(["fold", "labels", "model", "test_top1", "minus_supervised"], rows)


def comparison_says(results: Mapping[str, Any]) -> str:
    """The mean difference over the folds in a sentence; empty where there is none."""
    each = [fold.points for fold in folds_of(results) if fold.points is not None]
    found = folds_difference(results)
    points = number(dig(found, "points"))
    if points is None:
        points = float(np.mean(each)) if each else None
    if points is None:
        return ""
    many = len(each) or len(items(results.get("folds")))
    spread = number(dig(found, "std"))
    size = f"{abs(points):.1f}" + (f" ± {spread:.1f}" if spread is not None else "") + " points"
    text = f"Over {count(many)} {'fold' if many == 1 else 'folds'} the fine-tuned model is "
    text += f"{size} {'above' if points > 0 else 'below'} the baseline" if points else "as good as the baseline"
    ci95 = pair(dig(found, "ci95"))
    text += f" (95% interval {signed_range(ci95)})" if ci95 else ""
    above, below = sum(value > 0 for value in each), sum(value < 0 for value in each)
    if each and points >= 0:
        text += f", and better in {'each of them' if above == many else f'{above} of them'}."
    elif each:
        text += f", and worse in {'each of them' if below == many else f'{below} of them'}."
    else:
        text += "."
    if ci95 and ci95[0] <= 0 <= ci95[1]:
        text += " The interval holds zero: the folds don’t tell the two apart."
    return text


def protocol_says(results: Mapping[str, Any]) -> str:
    """Whose protocol this is, and how far the folds' spread can be believed."""
    folds = folds_of(results)
    name = str(dig(results, "data", "name") or "")
    sizes = sorted({fold.labels for fold in folds if fold.labels})
    each = f" of {count(sizes[0])} labelled images" if len(sizes) == 1 else ""
    many = "the one fold" if len(folds) == 1 else f"each of {len(folds)} fixed folds"
    tested = number(dig(results, "data", "counts", "test"))
    all_of = f"all {count(tested)} test images" if tested else "all test images"
    what = f"pretrained once; every model trained on {many}{each} and tested on {all_of}; mean ± standard deviation"
    whose = _STL10.get(name)
    text = f"{whose} (Coates, Ng and Lee, AISTATS 2011): {what}." if whose else f"{what[0].upper()}{what[1:]}."
    labelled = [number(dig(results, "data", "counts", part)) or 0 for part in ("train", "val")]
    if len(folds) > 1 and 0 < sum(labelled) < sum(fold.labels or 0 for fold in folds):
        text += " The folds share images, so they differ less than sets of labels drawn apart would, and the intervals"
        text += " are narrower than those of such sets."
    return text


def _summary(results: Mapping[str, Any], folds: Sequence[Fold]) -> Table | None:
    found = dig(results, "folds_summary", "models")
    rows = []
    for name in TABLE_MODELS:
        row = dig(found, name)
        tops = [fold.models[name].top1 for fold in folds if name in fold.models]
        if number(dig(row, "test_top1")) is not None and tops:
            ends = f"{100 * min(tops):.1f} – {100 * max(tops):.1f}"
            rows.append([model_name(name), with_deviation(row), percent_range(dig(row, "ci95")), ends])
    header = ["Model", "Mean ± std", "95% interval", "Lowest – highest"]
    method = dig(folds_difference(results), "ci95_method")
    return Table(header, rows, f"95% interval of the difference: {method}." if method else "") if rows else None


def _table(folds: Sequence[Fold]) -> Table:
    names = [name for name in TABLE_MODELS if any(name in fold.models for fold in folds)]
    differ = len({fold.labels for fold in folds}) > 1
    header = ["Fold", *(["Labels"] if differ else []), *map(short_name, names), "Difference"]
    rows = []
    for fold in folds:
        tops = [percent(fold.models[name].top1) if name in fold.models else NONE for name in names]
        rows.append([fold.name, *([count(fold.labels)] if differ else []), *tops, signed(fold.points)])
    return Table(header, rows)
