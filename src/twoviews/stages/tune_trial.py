"""A trial of a recipe sweep: its trainings, run folders like any other, and its score on what they have not seen."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.special import log_softmax

from twoviews import disk
from twoviews.dataset.images import ImageSet, Indices
from twoviews.dataset.splits import Splits
from twoviews.errors import CheckpointError, NumbersError
from twoviews.files import write_csv
from twoviews.settings import FinetuneCommand, StudyCommand, SupervisedCommand
from twoviews.stages.classify import run_finetune, run_supervised
from twoviews.stages.comparison import Comparison, stage_command, with_share
from twoviews.stages.models import load_classifier
from twoviews.stages.setup import Shared
from twoviews.stages.tasks import SELECT_FROM
from twoviews.stages.tune_choice import TrialScores
from twoviews.stages.tune_space import NAMES, Kind
from twoviews.trainers.failures import FAILURE
from twoviews.trainers.validate import forward_all

FOLDER, SCORED = "tune", "validation.csv"
_COLUMNS = ("file", "label", "prediction", "loss")
_SALT = 0x2F01D  # keeps the draw of halves apart from others of the same seed


@dataclass(frozen=True)
class TrialTraining:
    """One of the trainings that make a trial.

    Attributes:
        name: of its folder in the trial's; empty: the trial's folder itself.
        shared: what it is trained on.
        held_out: the labelled images that it is scored on.
        share: of the training images, in (0, 1].
    """

    name: str
    shared: Shared
    held_out: ImageSet
    share: float


def trainings_of(shared: Shared, seed: int) -> list[TrialTraining]:
    """The trainings that make a trial: one with enough validation images, else one on either half of the others."""
    splits = shared.splits
    if len(splits.val) >= SELECT_FROM:
        return [TrialTraining("", _shared(shared, splits, splits.train), splits.val, 1.0)]
    halves = [splits.train.take(positions) for positions in _halves(splits, seed)]
    return [
        TrialTraining(f"fold-{i}", _shared(shared, splits, mine), other, len(mine) / len(splits.train))
        for i, (mine, other) in enumerate((halves, halves[::-1]))
    ]


def _shared(shared: Shared, splits: Splits, train: ImageSet) -> Shared:
    """The same images but for the training images, and without the test part: a trial can't open what it hasn't got."""
    fingerprint = splits.fingerprint and splits.fingerprint.of_sets([train, splits.val, splits.unlabeled])
    sets = replace(splits, train=train, folds=None, test_images=None, _test=None, fingerprint=fingerprint)
    return Shared(shared.engine, sets, data_written=True)


def _halves(splits: Splits, seed: int) -> list[Indices]:
    """Positions of two halves of the training images, each class (nearly) halved, drawn from the seed."""
    labels = splits.train.labels
    assert labels is not None
    random = np.random.Generator(np.random.PCG64([seed, _SALT]))
    shuffled = random.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [np.sort(by_class[0::2]), np.sort(by_class[1::2])]


def run_trial(
    kind: Kind, number: int, recipe: Any, trainings: Sequence[TrialTraining], settings: StudyCommand, one: Comparison
) -> TrialScores | None:
    """Run what is left of a trial.

    Args:
        kind: ``supervised`` or ``finetune``.
        number: of the trial; 0 is the recipe as it is.
        recipe: what the trial tries, as for all training images.
        trainings: its trainings.
        settings: of the study.
        one: the comparison whose folder it goes to and whose pretraining it starts from.

    Returns:
        Its score; None where it failed, and in processes other than the first.

    Raises:
        NumbersError: trial 0 gives a loss that is not finite.
    """
    engine = one.shared.engine
    found = []
    for training in trainings:
        name = _name(kind, number, training)
        folder = one.folder / name
        if number and engine.any(engine.is_first and _failed(folder))[0]:
            return _gave_up(folder, training)
        here = replace(one, shared=training.shared)
        values = with_share(recipe, training.share)
        try:
            if kind == "supervised":
                run_supervised(stage_command(settings, here, SupervisedCommand, values, name), training.shared)
            else:
                origin = {"run": one.pretrained, "init": None}
                run_finetune(stage_command(settings, here, FinetuneCommand, values, name, **origin), training.shared)
        except NumbersError as error:
            if number:
                return _gave_up(folder, training)
            raise NumbersError(
                f"tune: the recipe of the {NAMES[kind]} itself fails ({str(error).split(';')[0]}): lower "
                f"--{kind}.base-lr ({recipe.base_lr:g}) or set --{kind}.clip-grad-norm, and begin anew with --new."
            ) from error
        if engine.is_first:
            found.append(_scores(folder, training))
            _tidy(folder)
    return _joined(found) if engine.is_first else None


def trial_scores(kind: Kind, number: int, trainings: Sequence[TrialTraining], one: Comparison) -> TrialScores | None:
    """The score of a trial that was run; None where it failed. Arguments are those of ``run_trial``."""
    found = []
    for training in trainings:
        folder = one.folder / _name(kind, number, training)
        if _failed(folder):
            return None
        found.append(_scores(folder, training))
    return _joined(found)


def _joined(found: Sequence[TrialScores]) -> TrialScores:
    return TrialScores(np.concatenate([s.correct for s in found]), np.concatenate([s.loss for s in found]))


def _name(kind: Kind, number: int, training: TrialTraining) -> str:
    """The folder of one of a trial's trainings, in the study's."""
    return "/".join(filter(None, (trial_name(kind, number), training.name)))


def trial_name(kind: Kind, number: int) -> str:
    """A trial's folder in the study's."""
    return f"{FOLDER}/{kind}-{number}"


def trial_of(name: str) -> tuple[Kind, int]:
    """Kind and number of the trial of this ``trial_name``."""
    kind, _, number = name.removeprefix(f"{FOLDER}/").rpartition("-")
    return cast(Kind, kind), int(number)


def _failed(folder: Path) -> bool:
    """Whether a training met a loss that is not finite."""
    return (folder / FAILURE).exists() and not (folder / "results.json").exists()


def _gave_up(folder: Path, training: TrialTraining) -> TrialScores | None:
    """No score: the loss was not finite. The run's failure.json stays and says so at the next start."""
    if training.shared.engine.is_first:
        _tidy(folder)
    return None


def _scores(folder: Path, training: TrialTraining) -> TrialScores:
    """How a finished run does on the held-out images: from its weights, or from the list that was made of them."""
    path, held_out = folder / SCORED, training.held_out
    assert held_out.labels is not None
    if not path.exists():
        engine = training.shared.engine
        classifier, _ = load_classifier(folder / "models/classifier.safetensors", training.shared.splits.class_names)
        logits = forward_all(engine.to_device(classifier), held_out, training.shared.normalisation, engine)
        loss = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(held_out)), held_out.labels]
        names = [held_out.name(i) for i in range(len(held_out))]
        columns = (names, held_out.labels.tolist(), logits.argmax(axis=1).tolist(), loss.tolist())
        write_csv(path, _COLUMNS, zip(*columns, strict=True))
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = list(csv.DictReader(stream))
        labels, predictions = (np.array([int(row[key]) for row in rows]) for key in ("label", "prediction"))
        loss = np.array([float(row["loss"]) for row in rows])
        if labels.tolist() != held_out.labels.tolist():
            raise ValueError("it is of other images")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} can't be read ({error}): delete {folder}, and the same command trains this trial again."
        ) from error
    return TrialScores(predictions == labels, loss)


def _tidy(folder: Path) -> None:
    """Delete what nothing will ask for, and what would fill a disk in a long sweep."""
    for name in ("checkpoints", "models"):
        disk.retried(partial(disk.remove_folder, folder / name), folder / name, advice="It can't be deleted.")
