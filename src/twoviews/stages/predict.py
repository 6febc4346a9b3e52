"""Class and confidence of new pictures."""

from __future__ import annotations

from pathlib import Path

from twoviews.dataset.image_folder import load_folder
from twoviews.files import write_csv
from twoviews.settings import PredictCommand, RunSettings
from twoviews.stages.features import extract_with
from twoviews.stages.folders import classifier_file
from twoviews.stages.models import load_classifier
from twoviews.trainers.engine import Engine
from twoviews.trainers.progress import say
from twoviews.trainers.test import head_probabilities
from twoviews.trainers.validate import Normalisation


def run_predict(settings: PredictCommand) -> Path:
    """Write file (within the folder), class and confidence of every readable image; returns the CSV file."""
    classifier, about = load_classifier(classifier_file(settings.run))
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
    folder = settings.run if settings.run.is_dir() else settings.run.parent
    out = settings.out or folder / f"predictions-{settings.folder.resolve().name}.csv"
    best = probabilities.argmax(axis=1)
    write_csv(
        out,
        ["file", "class", "confidence"],
        [
            (source.unlabeled.name(i).removeprefix("unlabeled/"), names[best[i]], f"{probabilities[i, best[i]]:.4f}")
            for i in range(len(source.unlabeled))
        ],
    )
    for skipped in source.skipped:
        say(f"left out: {skipped.path}: {skipped.reason}")
    say(f"predict: {len(source.unlabeled):,} images, {len(source.skipped):,} left out; {out}")
    return out
