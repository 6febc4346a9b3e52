"""What the page's charts are drawn from: the curves of a run as numbers, few enough for the page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twoviews.errors import DataError
from twoviews.report.charts.label_chart import label_chart
from twoviews.report.charts.series import Places, Rows, line
from twoviews.report.figures import PRETRAINING_PANELS, measured_panels
from twoviews.report.number_words import count
from twoviews.report.run import Run, load

MOST_POINTS = 500
"""Points of a line; of longer ones so many are drawn, evenly spaced."""

MOST_BYTES = 200_000
"""Of the charts' data in the page."""

MOST_FAINT = 9
"""Other seeds drawn faintly behind the one shown."""

FAINT_POINTS = 120

# How a panel's values are written: their unit, digits after the point (None: three digits that count), lowest end.
_WRITTEN: dict[str, tuple[str, int | None, float | None]] = {
    "loss": ("", 3, None),  # that of decoupled contrastive learning may be below zero
    "contrastive_top1": ("%", 1, 0),
    "knn_top1": ("%", 1, 0),
    "lr": ("", None, 0),
    "effective_rank": ("", 1, 0),
    "alignment": ("", 3, None),
}
_CLASSIFIER_PANELS = (("loss", 1.0, "Loss (cross-entropy)", "", 3), ("top1", 100.0, "Accuracy (%)", "%", 1))
# As in the static picture: name, colour, dashes in widths of the line.
_PARTS = {"train": ("training", "orange", [4, 1.6]), "val": ("validation", "blue", [])}


@dataclass(frozen=True)
class ChartsSection:
    """What the page needs of the charts.

    Attributes:
        thinned: which points are drawn, where it isn't all.
        faint: what the faint lines are; empty where there are none.
        data: what the scripts read, for JSON; ``charts`` holds one by each picture's ``chart``.
    """

    thinned: str
    faint: str
    data: dict[str, Any]


def charts_section(run: Run, most_points: int = MOST_POINTS, most_bytes: int = MOST_BYTES) -> ChartsSection | None:
    """The charts of a run, finished or not; None where nothing was measured yet.

    Args:
        run: as `twoviews.report.run.load` read it.
        most_points: of a line; longer ones are thinned evenly, and the section says so.
        most_bytes: of the data as JSON; beyond it lines are thinned further.
    """
    others = _others(run)
    points = most_points
    while True:
        data = _Curves(run, others, points).data()
        if not data["charts"]:
            return None
        size = len(json.dumps(data, separators=(",", ":")))
        if size <= most_bytes or points <= 2:
            break
        # A little fewer than the share that would fit, since numbers differ in length.
        points = max(2, min(points - 1, int(0.97 * points * most_bytes / size)))
    longest = max((len(stage.metrics) for stage in run.stages.values()), default=0)
    return ChartsSection(_thinned(points, longest), _faint(data, run), data)


def _others(run: Run) -> dict[str, Run]:
    """The seeds that aren't shown, by name."""
    found = {}
    for seed in run.seeds[1 : 1 + MOST_FAINT]:
        # A study that was stopped may have made a seed's folder and nothing in it.
        with contextlib.suppress(DataError):
            found[f"seed {seed[4:]}"] = load(run.folder / seed)
    return found


@dataclass(frozen=True)
class _Curves:
    """A run's curves as the charts take them.

    Attributes:
        run: the seed that is shown.
        others: the seeds that are drawn faintly, by name.
        most: points of a line.
        places: where each line's points lie, shared by all.
    """

    run: Run
    others: Mapping[str, Run]
    most: int
    places: Places = field(default_factory=Places)

    def data(self) -> dict[str, Any]:
        """What the scripts read."""
        charts: dict[str, Any] = {}
        for stage in ("supervised", "finetune"):
            if stage in self.run.stages and (chart := self._classifier(stage)):
                charts[stage] = chart
        if "pretrain" in self.run.stages:
            for panel in measured_panels(self.run.stages["pretrain"].metrics):
                charts[f"pretrain-{panel}"] = self._pretraining(panel)
        labels = label_chart(self.run.results, self.places)
        if labels:
            charts["labels"] = labels
        return {"places": self.places.all, "charts": charts}

    def _classifier(self, stage: str) -> dict[str, Any] | None:
        panels = []
        for key, scale, title, unit, digits in _CLASSIFIER_PANELS:
            lines = []
            for part, (name, colour, dash) in _PARTS.items():
                look = {"name": name, "colour": colour, "dash": dash}
                lines.append(look | self._lines(stage, f"{part}_{key}", scale))
            panel = {"title": title, "unit": unit, "digits": digits, "share": key, "floor": 0}
            panels.append(panel | {"lines": [one for one in lines if _is_measured(one)]})
        if not any(panel["lines"] for panel in panels):
            return None
        return {"group": "classifiers", "x": {"name": "Epoch"}, "panels": panels}

    def _pretraining(self, panel: str) -> dict[str, Any]:
        keys, scale, title = PRETRAINING_PANELS[panel]
        unit, digits, floor = _WRITTEN[panel]
        lines = []
        for key, colour in zip(keys, ("blue", "orange"), strict=False):
            look = {"name": key.replace("_", " ") if len(keys) > 1 else "", "colour": colour, "dash": []}
            lines.append(look | self._lines("pretrain", key, scale))
        shown = [one for one in lines if _is_measured(one)]
        about = {"title": title, "unit": unit, "digits": digits, "share": panel, "floor": floor}
        return {"group": "pretrain", "x": {"name": "Epoch"}, "panels": [about | {"lines": shown}]}

    def _lines(self, stage: str, key: str, scale: float) -> dict[str, Any]:
        """The shown seed's line, and those of the other seeds with their names."""
        faint = []
        for name, other in self.others.items():
            x, y = line(_metrics(other, stage), key, scale, min(self.most, FAINT_POINTS))
            if any(value is not None for value in y):
                faint.append({"name": name, "x": self.places.of(x), "y": y})
        x, y = line(_metrics(self.run, stage), key, scale, self.most)
        return {"x": self.places.of(x), "y": y, "faint": faint}


def _metrics(run: Run, stage: str) -> Rows:
    return run.stages[stage].metrics if stage in run.stages else []


def _is_measured(one: dict[str, Any]) -> bool:
    return any(value is not None for value in one["y"])


def _thinned(points: int, longest: int) -> str:
    if longest <= points:
        return ""
    return (
        f"Of curves longer than {count(points)} epochs {count(points)} are drawn, evenly spaced;"
        f" metrics.jsonl holds all {count(longest)}."
    )


def _faint(data: dict[str, Any], run: Run) -> str:
    lines = [one for chart in data["charts"].values() for panel in chart["panels"] for one in panel["lines"]]
    if not any(one.get("faint") for one in lines):
        return ""
    many = len(run.seeds) - 1
    whose = "the other seed" if many == 1 else "the other seeds"
    if many > MOST_FAINT:
        whose = f"{MOST_FAINT} of the {many} other seeds"
    return f"Faint lines are {whose}, their values in brackets."
