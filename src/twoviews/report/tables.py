"""The page's tables: models, features, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twoviews.report.model_names import model_name
from twoviews.report.number_words import (
    NONE,
    balanced_differs,
    bare_p,
    count,
    decimal,
    joined,
    percent,
    percent_range,
    signed,
    with_deviation,
)
from twoviews.report.pictures import confusion
from twoviews.report.run import Run
from twoviews.report.values import dig, items, number

_MOST_FILES = 20


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names the row. One of the rows may be marked."""

    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    is_numeric: bool = True
    marked: int | None = None


def models(run: Run) -> Table | None:
    """Every model's accuracy, with the protocol as caption."""
    found = dig(run.results, "models") or {}
    if not found:
        return None
    several = any(number(dig(row, "std")) is not None for row in found.values())
    is_uneven = any(balanced_differs(row) for row in found.values())
    header = ["Model", "Test accuracy", "95% interval", *(["Balanced"] if is_uneven else []), "Macro F1", "Validation"]
    rows = []
    for name, row in found.items():
        cells = [model_name(name), with_deviation(row), percent_range(dig(row, "ci95"))]
        cells += [percent(dig(row, "balanced_accuracy"))] if is_uneven else []
        cells += [percent(dig(row, "macro_f1")), percent(dig(row, "val_top1"))]
        rows.append(cells)
    notes = [str(run.results["protocol"])] if run.results.get("protocol") else []
    methods = list(dict.fromkeys(str(method) for row in found.values() if (method := dig(row, "ci95_method"))))
    method = dig(run.results, "comparison", "finetuned_minus_supervised", "ci95_method")
    if methods == [method]:
        notes.append(f"95% intervals of each model and of the difference: {method}.")
    else:
        notes += [f"95% interval of each model: {joined(methods)}."] if methods else []
        notes += [f"95% interval of the difference: {method}."] if method else []
    if several:
        notes.append("± is the standard deviation over the seeds; confusion matrices and classes add the seeds up.")
    if is_uneven:
        notes.append("Balanced accuracy is the mean of the classes’ recalls: each class counts the same.")
    guess = _majority(run)
    if guess is not None:
        notes.append(f"Always naming the most frequent class would give {percent(guess)}.")
    return Table(header, rows, " ".join(notes))


def protocols(run: Run) -> Table | None:
    """How each model was trained and chosen, so that its figure can be put beside published ones.

    None for a run of an earlier version, which did not record it.
    """
    found = dig(run.results, "models") or {}
    rows = [[model_name(name), str(text)] for name, row in found.items() if (text := dig(row, "protocol"))]
    return Table(["Model", "Protocol"], rows, is_numeric=False) if rows else None


def by_seed(run: Run) -> Table | None:
    """Every model's accuracy and the difference for each seed; None for one seed."""
    models = dig(run.results, "models") or {}
    seeds = [plain(seed) for seed in items(run.results.get("seeds"))]
    if len(seeds) < 2:
        return None
    compared = dig(run.results, "comparison", "finetuned_minus_supervised")
    rows = [[model_name(name), *_each(dig(row, "per_seed"), percent)] for name, row in models.items()]
    rows.append(["Difference, points", *_each(dig(compared, "per_seed"), signed)])
    rows.append(["McNemar’s p", *_each(dig(compared, "mcnemar_p_per_seed"), bare_p)])
    rows = [row for row in rows if len(row) == len(seeds) + 1]
    return Table(["", *(f"Seed {seed}" for seed in seeds)], rows) if rows else None


def _each(values: Any, write: Callable[[Any], str]) -> list[str]:
    return [write(value) for value in items(values)]


def _majority(run: Run) -> float | None:
    for name in dig(run.results, "models") or {}:
        table = confusion(run, name)
        if table is not None and table.sum():
            return float(table.sum(axis=1).max() / table.sum())
    return None


def features(run: Run) -> Table | None:
    """Frozen features without fine-tuning, against an untrained backbone and against chance."""
    found = dig(run.results, "features")
    if not isinstance(found, Mapping):
        return None
    untrained = dig(found, "random_init") or {}
    rows = [
        [
            "Linear probe, accuracy",
            dig(found, "linear_probe", "val_top1"),
            dig(untrained, "linear_probe_val_top1"),
            None,
        ],
        ["kNN, accuracy", dig(found, "knn", "val_top1"), dig(untrained, "knn_val_top1"), None],
    ]
    for key, name in (("accuracy", "k-means, accuracy"), ("nmi", "k-means, NMI"), ("ari", "k-means, ARI")):
        kmeans = dig(found, "kmeans") or {}
        rows.append([name, dig(kmeans, key), dig(kmeans, "random_init", key), dig(kmeans, f"{key}_shuffled")])
    cells = [
        [str(name), *(percent(v) if "accuracy" in str(name) else decimal(v) for v in values)]
        for name, *values in rows
        if any(number(value) is not None for value in values)
    ]
    strength, neighbours = number(dig(found, "linear_probe", "c")), number(dig(found, "knn", "k"))
    chosen = [f"C = {strength:g} for the probe"] if strength else []
    chosen += [f"k = {neighbours:.0f} for kNN"] if neighbours else []
    caption = "Probe and kNN on validation images, k-means on training and validation images."
    caption += f" Chosen: {joined(chosen)}." if chosen else ""
    return Table(["", "SimCLR", "Untrained", "Shuffled labels"], cells, caption) if cells else None


def plain(value: Any) -> str:
    """A setting or a cell as text."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        # 0.00008 rather than 8e-05, as far as that stays short.
        return f"{value:.8f}".rstrip("0") if 1e-6 <= abs(value) < 1e-4 else f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or NONE
    return str(value)


def counts(run: Run) -> Table | None:
    """How many images each split holds."""
    found = dig(run.results, "data", "counts")
    if not isinstance(found, Mapping):
        return None
    return Table(["Split", "Images"], [[str(name), count(value)] for name, value in found.items()])


def leaks(run: Run) -> Table | None:
    """The first copies of held-out images."""
    columns = {"split": "Split", "file": "File", "copy_of_split": "Copy of", "copy_of": "File there", "kind": "Kind"}
    return _files(run.data.get("leaks"), {**columns, "similarity": "Similarity"}, "leaks.csv")


def conflicts(run: Run) -> Table | None:
    """The first pictures that are there under two labels."""
    columns = {"file": "File", "label": "Label", "other_file": "Copy", "other_label": "Its label", "kind": "Kind"}
    return _files(run.data.get("conflicts"), {**columns, "similarity": "Similarity"}, "conflicts.csv")


def skipped(run: Run) -> tuple[Table | None, int]:
    """The first files that were left out with what is wrong with each, and how many there are."""
    rows = run.data.get("skipped")
    table = _files(rows, {"path": "File", "reason": "Why", "bytes": "Bytes"}, "skipped.csv")
    return table, len(_mappings(rows))


def _files(rows: Any, columns: Mapping[str, str], listed_in: str) -> Table | None:
    """The first of a list of files; ``listed_in`` has all of them."""
    found = _mappings(rows)
    cells = [[plain(row.get(key)) for key in columns] for row in found[:_MOST_FILES]]
    more = f"The first {_MOST_FILES} of {len(found):,}; {listed_in} has all." if len(found) > _MOST_FILES else ""
    return Table([*columns.values()], cells, more, is_numeric=False) if cells else None


def _mappings(rows: Any) -> list[Mapping[str, Any]]:
    return [row for row in items(rows) if isinstance(row, Mapping)]
