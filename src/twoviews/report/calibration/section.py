"""The page's word on confidence: reliability diagrams, calibration error, and the hardest images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from twoviews.report.calibration import figure as calibration_figure
from twoviews.report.calibration.hardest import Hardest, hardest
from twoviews.report.calibration.reliability import BINS, Reliability
from twoviews.report.data import ReportData
from twoviews.report.model_names import COMPARED, model_name
from twoviews.report.number_words import NONE, count, decimal, percent, signed
from twoviews.report.pictures import Picture, embed
from twoviews.report.run import Run
from twoviews.report.tables import Table
from twoviews.report.tested import Tested
from twoviews.report.values import dig, number

SURE = 0.9
"""Answers at least so sure get a sentence of their own."""

FEWEST_SURE = 10


@dataclass(frozen=True)
class CalibrationSection:
    """What the template draws.

    Attributes:
        says: what follows from the numbers, a sentence or two for each model compared.
        pictures: a reliability diagram of each.
        table: every model.
        shown: which of several seeds; empty for one.
        hardest: the images that all models get wrong, or None.
    """

    says: list[str]
    pictures: list[Picture]
    table: Table
    shown: str
    hardest: Hardest | None


def calibration_section(data: ReportData) -> CalibrationSection | None:
    """Confidence against accuracy of every model of a test stage; None where there is none."""
    run, tested, found, images = data.run, data.tested, data.reliabilities, data.images
    if tested is None or not found:
        return None
    compared = _compared(found)
    return CalibrationSection(
        says=[_says(tested, name, found[name]) for name in reversed(compared)],
        pictures=[
            embed(
                calibration_figure.reliability_diagram([(name, found[name])]), _alt(name, found[name]), model_name(name)
            )
            for name in compared
        ],
        table=_table(run, found),
        shown=run.shown,
        hardest=hardest(tested, images.sheet, images.row_of) if images else hardest(tested, None, {}),
    )


def reliability_figure(data: ReportData) -> Figure | None:
    """The diagrams of the models compared, side by side, to be written to a file; None without predictions."""
    found = data.reliabilities
    return calibration_figure.reliability_diagram([(name, found[name]) for name in _compared(found)]) if found else None


def reliability_table(data: ReportData) -> tuple[list[str], list[list[Any]]] | None:
    """What the diagrams show, of every model, as header and rows for a CSV file; None without predictions."""
    header = ["model", "bin_low", "bin_high", "images", "mean_confidence", "accuracy", "accuracy_low", "accuracy_high"]
    rows: list[list[Any]] = []
    for name, one in data.reliabilities.items():
        bins = one.bins
        low, high = bins.accuracy_interval()
        for i in range(len(bins.images)):
            figures = (bins.confidence[i], bins.accuracy[i], low[i], high[i])
            ends = [f"{end:.4f}" for end in (bins.low[i], bins.high[i])]
            rows.append([name, *ends, int(bins.images[i]), *(f"{value:.4f}" for value in figures)])
    return (header, rows) if rows else None


def _compared(found: dict[str, Reliability]) -> Sequence[str]:
    """Baseline and fine-tuned; where a run has neither, its first model."""
    return [name for name in COMPARED if name in found] or list(found)[:1]


def _says(tested: Tested, name: str, one: Reliability) -> str:
    """Whether a model is too sure of itself, and what its surest answers are worth."""
    said = (
        f"{model_name(name)} says {percent(one.confidence, 0)} on average and is right in {percent(one.accuracy, 0)}:"
        f" {_verdict(one)}."
    )
    confidence, correct = tested.judged(name)
    sure = confidence >= SURE
    if sure.sum() >= FEWEST_SURE:
        said += (
            f" Of the {count(int(sure.sum()))} images of which it is at least {percent(SURE, 0)} sure,"
            f" {percent(float(correct[sure].mean()), 0)} are right."
        )
    return said


def _verdict(one: Reliability) -> str:
    low, high = (100 * end for end in one.gap_interval)
    points = 100 * one.gap
    if low > 0:
        return f"over-confident by {points:.1f} points (95% interval {low:.1f} to {high:.1f})"
    if high < 0:
        return f"under-confident by {-points:.1f} points (95% interval {-high:.1f} to {-low:.1f})"
    said = f"on average neither too sure nor too unsure, as far as {count(one.images)} images can tell"
    return said + (", but too sure in some bins and not sure enough in others" if one.error > one.chance_high else "")


def _alt(name: str, one: Reliability) -> str:
    bins = "; ".join(
        f"{percent(sure, 0)} sure, {percent(right, 0)} right, {count(int(images))} images"
        for sure, right, images in zip(one.bins.confidence, one.bins.accuracy, one.bins.images, strict=True)
    )
    return f"Reliability diagram of {model_name(name)}. {bins}."


def _table(run: Run, found: dict[str, Reliability]) -> Table:
    results = run.stages["test"].results
    scores = {name: [number(dig(results, "models", name, key)) for key in ("nll", "brier")] for name in found}
    is_scored = any(value is not None for each in scores.values() for value in each)
    header = [
        "Model",
        "Mean confidence",
        "Accuracy",
        "Over-confident by, points",
        "ECE",
        "By chance",
        "ECE, equal bins",
    ]
    rows = []
    for name, one in found.items():
        low, high = (signed(100 * end) for end in one.gap_interval)
        cells = [model_name(name), percent(one.confidence), percent(one.accuracy)]
        cells.append(f"{signed(100 * one.gap)} ({low} to {high})")
        cells += [percent(one.error), _by_chance(one), percent(one.equal_mass_error)]
        rows.append(cells + ([decimal(value) for value in scores[name]] if is_scored else []))
    caption = (
        f"ECE: expected calibration error over {BINS} bins of equal width (Guo et al. 2017); “equal bins” hold equally"
        " many images each. Few images make it larger than it is: by chance, 95 of 100 models whose confidence were"
        " exactly right would stay below the figure given. The interval of over-confidence is over test images."
    )
    if any(row[5] == NONE for row in rows):
        caption += (
            " A dash: of a model that is always wholly sure, such as kNN with one neighbour, chance can’t be told."
        )
    if is_scored:
        header += ["NLL, nats", "Brier"]
        caption += " NLL and Brier score (0 to 2) need no bins; lower is better."
    return Table(header, rows, caption)


def _by_chance(one: Reliability) -> str:
    """Answers with a confidence of 1 would never be wrong by chance, so that nothing is left to compare with."""
    below = percent(one.chance_high)
    return NONE if below == percent(0.0) else f"< {below}"
