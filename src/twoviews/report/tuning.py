"""The part of the page about tuning: which settings were tried for each model, and which were taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twoviews.report.number_words import bare_p, count, joined, percent, signed
from twoviews.report.run import Run
from twoviews.report.stage_files import STAGE_NAMES
from twoviews.report.tables import Table, plain
from twoviews.report.values import dig, items, number

STAGES = ("supervised", "finetune")
_SCORES = {
    "val_top1": "accuracy on {images} that a trial was not trained on",
    "cv_top1": "cross-validation on the training images",
}
_NARROW = 6  # columns


@dataclass(frozen=True)
class TuningSection:
    """What the page says of the tuning, and a table of the trials under each stage's name."""

    says: str
    rule: str
    tables: list[tuple[str, Table]]

    @property
    def is_narrow(self) -> bool:
        """Whether the tables fit beside each other."""
        return all(len(table.header) <= _NARROW for _, table in self.tables)


@dataclass(frozen=True)
class _Tuned:
    """The trials of one stage, the recipe first: settings, epochs and scores; which was chosen, and why."""

    trials: list[Mapping[str, Any]]
    score: str
    chosen: int | None
    because: str

    @property
    def epochs(self) -> float | None:
        """Epochs of all trials together, where each says its own."""
        each = [number(row.get("epochs")) for row in self.trials]
        return None if None in each else sum(value for value in each if value is not None)


def tuning_section(run: Run) -> TuningSection | None:
    """The section, or None for a study that wasn't tuned."""
    tuning = dig(run.results, "tuning")
    found = {stage: one for stage in STAGES if (one := _read(dig(tuning, stage))) is not None}
    if not found:
        return None
    shown = [(STAGE_NAMES[stage], _table(one)) for stage, one in found.items()]
    return TuningSection(_says(tuning, found), str(dig(tuning, "rule") or ""), shown)


def _read(side: Any) -> _Tuned | None:
    trials = [row for row in items(dig(side, "trials")) if isinstance(row, Mapping)]
    if not trials:
        return None
    score = next((key for key in _SCORES if any(number(row.get(key)) is not None for row in trials)), "val_top1")
    return _Tuned(trials, score, _chosen(side, trials), str(dig(side, "because") or ""))


def _chosen(side: Any, trials: list[Mapping[str, Any]]) -> int | None:
    """The place of the chosen trial, by its number or, without one, by its settings."""
    for place in (dig(side, "chosen_trial"), dig(side, "chosen")):
        if isinstance(place, int) and not isinstance(place, bool):
            return place if 0 <= place < len(trials) else None
    settings = dig(side, "chosen")
    return next((i for i, row in enumerate(trials) if settings and row.get("settings") == settings), None)


def _says(tuning: Any, found: Mapping[str, _Tuned]) -> str:
    """The budgets, whether they are the same, and what the choice went by."""
    budgets = {stage: (len(one.trials), one.epochs) for stage, one in found.items()}
    if len(found) == len(STAGES) and len(set(budgets.values())) == 1:
        text = f"The baseline and fine-tuning were tuned with the same budget, {_budget(*budgets['supervised'])} each;"
    else:
        each = [f"{STAGE_NAMES[stage]} {_budget(*one)}" for stage, one in budgets.items()]
        text = f"{'The budgets differ: ' if len(each) > 1 else 'Only one side was tuned: '}{joined(each)};"
    scored = number(dig(tuning, "scored_images"))
    images = f"{count(scored)} images" if scored is not None else "images"
    how = [_SCORES[key].format(images=images) for key in dict.fromkeys(one.score for one in found.values())]
    text += f" the choice went by {joined(how)}"
    if (number(dig(tuning, "trainings")) or 1) > 1:
        text += ": each trial was trained on either half of the training images and scored on the other"
    return text + ". No test image was read."


def _budget(trials: int, epochs: float | None) -> str:
    text = f"{count(trials)} {'trial' if trials == 1 else 'trials'}"
    return text if epochs is None else f"{text} of {count(epochs)} epochs in all"


def _table(one: _Tuned) -> Table:
    """A row a trial with the settings that were varied; what all share stands in the caption."""
    trials = [{**_mapping(row.get("settings")), "epochs": row.get("epochs")} for row in one.trials]
    keys = list(dict.fromkeys(key for row in trials for key in row))
    varied = [key for key in keys if any(row.get(key) != trials[0].get(key) for row in trials)]
    shared = [key for key in keys if key not in varied and trials[0].get(key) is not None]
    compared = any(number(row.get("points_over_recipe")) is not None for row in one.trials[1:])
    tested = any(number(row.get("p")) is not None for row in one.trials)
    header = ["Trial", *(key.replace("_", " ") for key in varied), "Accuracy"]
    header += (["Over the recipe"] if compared else []) + (["p"] if tested else [])
    rows = []
    for i, (row, settings) in enumerate(zip(one.trials, trials, strict=True)):
        name = "recipe" if i == 0 else str(i)
        cells = [name + (", chosen" if i == one.chosen else ""), *(plain(settings.get(key)) for key in varied)]
        cells.append("loss not finite" if row.get("failed") is True else percent(row.get(one.score)))
        cells += [signed(row.get("points_over_recipe")) if i else ""] if compared else []
        cells += [bare_p(row.get("p")) if i else ""] if tested else []
        rows.append(cells)
    same = joined([f"{key.replace('_', ' ')} {plain(trials[0][key])}" for key in shared])
    notes = [one.because, f"The same in all trials: {same}." if shared else ""]
    return Table(header, rows, " ".join(note for note in notes if note), marked=one.chosen)


def _mapping(value: Any) -> dict[str, Any]:
    return {str(key): found for key, found in value.items()} if isinstance(value, Mapping) else {}
