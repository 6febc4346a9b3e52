"""The recipe sweep, ``study --tune N``: N recipes of the baseline, and as many of fine-tuning, on the same budget.

A trial is a training run like any other, in ``tune/<kind>-<number>/``, resumed and finished by the same command. With
1,000 validation images or more it is scored on these. Fewer say too little, so then it is trained twice, on either half
of the training images, and scored on the other half (2-fold cross-validation); the validation images take no part. No
trial has test images. What is judged stays in ``validation.csv``; weights and checkpoints go when it is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twoviews.files import read_record, write_json
from twoviews.settings import StudyCommand
from twoviews.stages.comparison import Comparison, with_share
from twoviews.stages.setup import Shared
from twoviews.stages.study_layout import Layout
from twoviews.stages.study_parts import StudyPart, longest_first
from twoviews.stages.tune_choice import TrialScores, choose, rule
from twoviews.stages.tune_space import KINDS, NAMES, Kind, recipes, searched
from twoviews.stages.tune_trial import (
    FOLDER,
    TrialTraining,
    run_trial,
    trainings_of,
    trial_name,
    trial_of,
    trial_scores,
)
from twoviews.trainers.progress import say


@dataclass(frozen=True)
class Sweep:
    """A study's sweep.

    Attributes:
        settings: of the study, both recipes as they are: what a sweep chose does not change what the other one tries.
        one: the comparison that the recipes are chosen for, with all labels; the sweep is in its folder's ``tune/``.
    """

    settings: StudyCommand
    one: Comparison

    @classmethod
    def of(cls, settings: StudyCommand, plan: Layout, root: Path) -> Sweep:
        """The sweep of the study in ``root``: for its first seed with all labels."""
        return cls(settings, replace(plan.mains[0], folder=root))

    def trials(self, kind: Kind) -> list[StudyPart]:
        """The trials of this kind as parts that can be run at once, the recipe as it is first; none once it is done."""
        tried = recipes(kind, self.settings)
        if _holds(self.results() or {}, kind, tried):
            return []
        trainings, images = self._trainings(), len(self.one.shared.splits.train)
        passes = [_images_seen([recipe], trainings) / images for recipe in tried]
        first, *others = [
            StudyPart(self.one.folder, (trial_name(kind, number),), {kind: count})
            for number, count in enumerate(passes)
        ]
        return [first, *longest_first(others)]

    def run_one(self, name: str) -> None:
        """Run the trial of this name, as ``trials`` has it."""
        kind, number = trial_of(name)
        run_trial(kind, number, recipes(kind, self.settings)[number], self._trainings(), self.settings, self.one)

    def tuned(self, kind: Kind, plan: StudyCommand, *, were_run: bool = False) -> StudyCommand:
        """The plan with the recipe of this kind that its sweep chooses, once what is left of the sweep is run.

        Without ``--tune`` the plan as it is. The choice for ``finetune`` needs a finished pretraining. ``were_run``:
        all trials were, elsewhere.

        Raises:
            NumbersError: the recipe itself gives a loss that is not finite; any other trial that does is out.
        """
        if not self.settings.tune:
            return plan
        engine = self.one.shared.engine
        tried = recipes(kind, self.settings)
        # The first process reads and decides, the others follow.
        known: dict[str, Any] = json.loads(engine.share(json.dumps(self.results() or {}) if engine.is_first else ""))
        if not _holds(known, kind, tried):
            found = self._run(kind, tried, were_run)
            known = json.loads(engine.share(json.dumps({**known, **found})))
            if engine.is_first:
                write_json(self._file, known)
        say(f"tune: {NAMES[kind]}: {known[kind]['because']}")
        return plan.model_copy(update={kind: tried[known[kind]["chosen_trial"]]})

    def results(self) -> dict[str, Any] | None:
        """What ``tune/results.json`` holds, the ``tuning`` part of a study's results; None where there is none.

        Raises:
            CheckpointError: it is damaged.
        """
        advice = "delete it, and the same command writes it anew"
        return read_record(self._file, advice) if self._file.exists() else None

    @property
    def _file(self) -> Path:
        return self.one.folder / FOLDER / "results.json"

    def _trainings(self) -> list[TrialTraining]:
        return trainings_of(self.one.shared, self.settings.seed)

    def _run(self, kind: Kind, tried: Sequence[Any], were_run: bool) -> dict[str, Any]:
        """Run every trial; the first process gets the record of them."""
        is_first = self.one.shared.engine.is_first
        trainings = self._trainings()
        _announce(kind, tried, trainings)
        scores: list[TrialScores | None] = []
        for number, recipe in enumerate(tried):
            if were_run:
                scores.append(trial_scores(kind, number, trainings, self.one))
            else:
                scores.append(run_trial(kind, number, recipe, trainings, self.settings, self.one))
            if is_first:
                say(f"tune: {_told(kind, number, tried, scores)}")
        return _record(kind, tried, trainings, scores) if is_first else {}


def trial_epochs(settings: StudyCommand, shared: Shared) -> dict[Kind, float]:
    """Epochs over all training images that the sweep of each kind costs; 0 without ``--tune``."""
    if not settings.tune:
        return dict.fromkeys(KINDS, 0.0)
    trainings, images = trainings_of(shared, settings.seed), len(shared.splits.train)
    return {kind: _images_seen(recipes(kind, settings), trainings) / images for kind in KINDS}


def _holds(known: dict[str, Any], kind: Kind, tried: Sequence[Any]) -> bool:
    """Whether the sweep of these recipes is done."""
    listed = [(row["settings"], row["epochs"]) for row in known.get(kind, {}).get("trials", [])]
    return bool(listed) and listed == [(_plain(searched(recipe)), recipe.epochs) for recipe in tried]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them back."""
    return dict(json.loads(json.dumps(values)))


def _images_seen(tried: Sequence[Any], trainings: Sequence[TrialTraining]) -> int:
    """Images that go through all these trials, counted at each pass."""
    return sum(with_share(recipe, t.share).epochs * len(t.shared.splits.train) for recipe in tried for t in trainings)


def _record(
    kind: Kind, tried: Sequence[Any], trainings: Sequence[TrialTraining], scores: Sequence[TrialScores | None]
) -> dict[str, Any]:
    """The part of results.json of one kind, and what both kinds have in common."""
    choice = choose(scores)
    scored = "val" if len(trainings) == 1 else "cv"
    recipe = scores[0]
    assert recipe is not None
    rows = [
        {
            "settings": searched(trial),
            "epochs": trial.epochs,
            f"{scored}_top1": None if found is None else found.top1,
            f"{scored}_loss": None if found is None else found.mean_loss,
            "points_over_recipe": None if found is None else 100 * (found.top1 - recipe.top1),
            "p": p,
            "failed": found is None,
        }
        for trial, found, p in zip(tried, scores, choice.p, strict=True)
    ]
    return {
        "trials": len(tried),
        "budget_images": _images_seen(tried, trainings),
        "scored_images": len(recipe.correct),
        "trainings": len(trainings),
        "rule": rule(len(recipe.correct), len(tried)),
        kind: {
            "trials": rows,
            "chosen": rows[choice.number]["settings"],
            "chosen_trial": choice.number,
            "because": choice.because,
        },
    }


def _announce(kind: Kind, tried: Sequence[Any], trainings: Sequence[TrialTraining]) -> None:
    how = (
        f"scored on the {len(trainings[0].held_out):,} validation images"
        if len(trainings) == 1
        else f"trained on either half of the {sum(len(t.held_out) for t in trainings):,} training images and scored "
        "on the other"
    )
    seen = _images_seen(tried, trainings)
    say(f"tune: {len(tried)} recipes of the {NAMES[kind]}, each {how}: {seen:,} images in all")


def _told(kind: Kind, number: int, tried: Sequence[Any], scores: Sequence[TrialScores | None]) -> str:
    """One trial as a line."""
    found, recipe = scores[number], scores[0]
    values = {**searched(tried[number]), "epochs": tried[number].epochs}
    of = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
    if found is None or recipe is None:
        result = "its loss was not finite"
    else:
        result = f"{found.top1:.1%}" + (f" (the recipe {recipe.top1:.1%})" if number else ", the recipe")
    return f"{NAMES[kind]}, trial {number} of {len(tried) - 1}: {result}; {of}"


def _shown(value: Any) -> str:
    return " ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value:g}"
