"""Tables and figures of the feature check: how far maps can be believed, clusters, kNN as papers fix it, the probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twoviews.report.map_kinds import MAP_NAMES
from twoviews.report.model_names import backbone_name
from twoviews.report.number_words import NONE, count, decimal, joined, percent
from twoviews.report.pictures import Picture, embed
from twoviews.report.style import BLUE, HALF, MUTED, ORANGE, sheet, styled
from twoviews.report.tables import Table, plain
from twoviews.report.values import dig, items, number

_MAPS = ("pca", "tsne", "umap")


def map_quality(record: Any, images: str) -> Table | None:
    """How far each backbone's maps can be believed, a row a map.

    Args:
        record: ``map_quality`` of ``results.json``: backbone → map → its measures.
        images: which images were drawn.
    """
    rows, first = [], None
    for backbone in record if isinstance(record, Mapping) else ():
        for key in _MAPS:
            found = dig(record, backbone, key)
            if number(dig(found, "trustworthiness")) is None:
                continue
            first = first or found
            scores = [decimal(dig(found, measure)) for measure in ("trustworthiness", "continuity")]
            shares = [percent(dig(found, share)) for share in ("overlap", "purity_map", "purity_features")]
            rows.append([f"{backbone_name(str(backbone))}, {MAP_NAMES[key]}", *scores, *shares])
    if not rows:
        return None
    chance = [
        f"{name} {percent(value)}"
        for name, key in (("neighbours kept", "overlap_chance"), ("same class", "purity_chance"))
        if number(value := dig(first, key)) is not None
    ]
    judged, whole = (count(dig(first, key)) for key in ("judged", "images"))
    caption = f"The {count(dig(first, 'k'))} nearest of each of {judged}" + (f" of {whole}" if judged != whole else "")
    caption += f" {images}." + (f" By chance: {joined(chance)}." if chance else "")
    caption += " Trustworthiness: neighbours on the map that are neighbours in the features; continuity: the other way"
    caption += " round; 1 is best, about 0.5 a random map."
    header = ["Map", "Trustworthiness", "Continuity", "Neighbours kept", "Same class on map", "Same class in features"]
    return Table(header, rows, caption)


def clusters(features: Any) -> Table | None:
    """k-means over all its starts, against an untrained backbone and shuffled labels; None for one start."""
    found = dig(features, "kmeans")
    sides = (("SimCLR", found, "spread"), ("Untrained", dig(found, "random_init"), "spread"))
    rows = []
    for name, side, key in (*sides, ("Shuffled labels", found, "spread_shuffled")):
        spread = dig(side, key, "accuracy")
        if number(dig(spread, "mean")) is None:
            continue
        is_shuffled = key == "spread_shuffled"
        shown = NONE if is_shuffled else percent(dig(side, "accuracy"))
        mean = f"{percent(dig(spread, 'mean'))} ± {percent(dig(spread, 'std'))[:-1]}"
        ends = f"{percent(dig(spread, 'min'))[:-1]} – {percent(dig(spread, 'max'))[:-1]}"
        parts = (
            [NONE, NONE] if is_shuffled else [decimal(dig(side, "silhouette", key)) for key in ("clusters", "classes")]
        )
        nmi, ari = (decimal(dig(side, key, measure, "mean")) for measure in ("nmi", "ari"))
        rows.append([name, shown, mean, ends, nmi, ari, *parts])
    if not rows:
        return None
    header = ["Features", "Accuracy", "Mean ± std", "Lowest – highest", "NMI", "ARI", "Silhouette", "of classes"]
    protocol = dig(found, "protocol")
    caption = f"{str(protocol)[:1].upper()}{str(protocol)[1:]}. " if protocol else ""
    caption += "Means, deviations, NMI and ARI are over the starts, and over the shuffles in the last row."
    return Table(header, rows, caption)


@dataclass(frozen=True)
class KCurve:
    """A measure of k-means over the number of clusters: its key in ``results.json``, its points by k."""

    key: str
    title: str
    points: list[tuple[float, float]]
    figure: Figure


def k_curves(features: Any) -> list[KCurve]:
    """Silhouette and inertia over the number of clusters, with the number of classes and the best one marked."""
    found = dig(features, "kmeans")
    curve = [point for point in items(dig(found, "curve")) if number(dig(point, "k")) is not None]
    used, best = number(dig(found, "clusters")), number(dig(found, "suggested_k"))
    made = []
    for key, title in (("silhouette", "Silhouette over the number of clusters"), ("inertia", "Inertia (falls with k)")):
        known = [(dig(point, "k"), value) for point in curve if (value := number(dig(point, key))) is not None]
        if len(known) > 1:
            figure = k_curve(known, title, used, best if key == "silhouette" else None)
            made.append(KCurve(key, title, known, figure))
    return made


def cluster_curve(features: Any) -> list[Picture]:
    """The curves of `k_curves` for the page."""
    return [
        embed(one.figure, f"{one.title}. {', '.join(f'{k:g}: {value:.3g}' for k, value in one.points)}.")
        for one in k_curves(features)
    ]


@styled
def k_curve(
    points: Sequence[tuple[float, float]], title: str, used: float | None = None, best: float | None = None
) -> Figure:
    """A measure over the number of clusters k.

    Args:
        points: k and the measure, two at least.
        used: the number of clusters used elsewhere, as a dashed line.
        best: the k to mark.
    """
    figure, (axis,) = sheet(HALF, 2.5)
    k, values = np.array(sorted(points), dtype=np.float64).T
    axis.plot(k, values, "o-", color=BLUE, markersize=4.5, zorder=2)
    if used is not None:
        axis.axvline(used, color=MUTED, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
        axis.annotate(
            f" {used:.0f}, used", (used, 0.02), xycoords=axis.get_xaxis_transform(), fontsize=8.5, color=MUTED
        )
    if best is not None and best in k:
        height = values[k == best][0]
        axis.plot([best], [height], "o", color=ORANGE, markersize=9, mfc="none", mew=1.8, zorder=3)
    axis.set_title(title)
    axis.set_xlabel("Clusters k")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axis.margins(y=0.12)
    axis.grid(axis="y")
    return figure


def knn_protocols(features: Any) -> Table | None:
    """kNN with k and temperature as papers fix them, beside those chosen here; each row has its protocol's name."""
    fixed = [row for row in items(dig(features, "knn_protocols")) if isinstance(row, Mapping)]
    if not fixed:
        return None
    sides = (
        (dig(features, "random_init", "knn_protocols"), "val_top1"),
        (dig(features, "test", "knn_protocols"), "test_top1"),
    )
    rows = []
    for row in fixed:
        others = [_same(rows_, row.get("name"), key) for rows_, key in sides]
        k, asked = number(row.get("k")), number(row.get("k_asked"))
        lowered = f" (asked: {count(asked)})" if asked is not None and k != asked else ""
        cells = [f"{count(k)}{lowered}", plain(row.get("temperature")), percent(row.get("val_top1")), *others]
        rows.append([str(row.get("name") or NONE), *cells])
    chosen = dig(features, "knn")
    if number(dig(chosen, "val_top1")) is not None:
        cells = [count(dig(chosen, "k")), plain(dig(chosen, "temperature")), percent(dig(chosen, "val_top1"))]
        untrained = percent(dig(features, "random_init", "knn_val_top1"))
        rows.append(["chosen here", *cells, untrained, percent(dig(features, "test", "knn_test_top1"))])
    caption = f"Chosen here: {dig(chosen, 'protocol')}." if dig(chosen, "protocol") else ""
    return Table(["Protocol", "k", "Temperature", "Validation", "Untrained", "Test"], rows, caption)


def _same(rows: Any, name: Any, key: str) -> str:
    return next((percent(dig(row, key)) for row in items(rows) if dig(row, "name") == name), NONE)


def probe_sweep(features: Any) -> Table | None:
    """Accuracy of the linear probe at each strength of its penalty, the chosen one marked."""
    found = dig(features, "linear_probe")
    key = next((key for key in ("val_top1", "cv_top1") for row in items(dig(found, "sweep")) if key in row), "cv_top1")
    sweep = [row for row in items(dig(found, "sweep")) if number(dig(row, "c")) and number(dig(row, key)) is not None]
    if not sweep:
        return None
    chosen = next((i for i, row in enumerate(sweep) if row["c"] == dig(found, "c")), None)
    heads = [plain(row["c"]) + (", chosen" if i == chosen else "") for i, row in enumerate(sweep)]
    caption = f"{dig(found, 'protocol')}." if dig(found, "protocol") else ""
    scored = "on validation" if key == "val_top1" else "by cross-validation"
    rows = [[head, percent(row[key])] for head, row in zip(heads, sweep, strict=True)]
    return Table(["C", f"Accuracy {scored}"], rows, caption, marked=chosen)
