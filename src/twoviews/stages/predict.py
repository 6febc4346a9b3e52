"""Class and confidence of new pictures."""

from __future__ import annotations

import os
from pathlib import Path

from twoviews.dataset.folder_words import not_pictures
from twoviews.dataset.image_folder import load_folder
from twoviews.files import write_csv
from twoviews.settings import PredictCommand, RunSettings
from twoviews.stages.features import extract_with
from twoviews.stages.folders import classifier_file, probe_file
from twoviews.stages.models import load_classifier, load_probe_classifier
from twoviews.stages.predictions import (
    COLUMNS,
    better_probe,
    predictions_file,
    remember,
    require_ours,
    rows,
    which_model,
)
from twoviews.trainers.engine import Engine
from twoviews.trainers.progress import say
from twoviews.trainers.test import head_probabilities
from twoviews.trainers.validate import Normalisation


def run_predict(settings: PredictCommand) -> Path:
    """Write file (within the folder), class and confidence of every readable image; returns the CSV file.

    Raises:
        SettingsError: ``--out`` names a file of something else.
        DataError: the folder holds no readable image.
        CheckpointError: the run holds no classifier.
    """
    if settings.out is not None:
        require_ours(settings.out)
    probe = probe_file(settings.run)
    file = probe or classifier_file(settings.run)
    classifier, about = load_classifier(file) if probe is None else load_probe_classifier(probe)
    names = about["class_names"]
    source = load_folder(
        None,
        unlabeled=settings.folder,
        image_size=about["image_size"],
        cache=settings.cache,
        max_bad=settings.max_bad,
        require_labels=False,
    )
    engine = Engine(RunSettings(device=settings.device, precision=settings.precision))
    engine.to_device(classifier)
    normalisation = Normalisation(tuple(about["mean"]), tuple(about["std"]))
    features = extract_with(classifier.backbone, source.unlabeled, normalisation, engine)
    probabilities = head_probabilities(classifier, features)
    best = probabilities.argmax(axis=1)
    run = settings.run if settings.run.is_dir() else settings.run.parent
    out = settings.out or predictions_file(run, settings.folder)
    if settings.out is None:
        remember(out, settings.folder)  # first: a file without it is another folder's, and stays
    predicted = [
        (source.unlabeled.name(i).removeprefix("unlabeled/"), names[best[i]], float(probabilities[i, best[i]]))
        for i in range(len(source.unlabeled))
    ]
    left_out = [(os.path.relpath(item.path, settings.folder), item.reason) for item in source.skipped]
    write_csv(out, COLUMNS, rows(predicted, left_out))
    for note in not_pictures(source.no_pictures):
        say(f"note: {note}")
    for skipped in source.skipped:
        say(f"left out: {skipped.path}: {skipped.reason}")
    say(f"predict: {len(predicted):,} images by {which_model(file)}, {len(left_out):,} left out; {out}")
    if better := better_probe(settings.run, file):
        say(f"note: {better}")
    return out
