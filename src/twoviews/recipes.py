"""Recipes: settings that were chosen for a data set, each with a card that says what to expect.

A recipe changes defaults; ``--config`` and flags win over it. Keys are those of ``StudyCommand``; a stage's command
takes the common keys and its own stage's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twoviews.errors import SettingsError

STAGES = ("supervised", "pretrain", "features", "finetune")  # that have settings of their own in a study


@dataclass(frozen=True)
class Recipe:
    """Named settings and their card.

    Attributes:
        command: what to type.
        machine: on what the minutes and accuracy were measured.
        minutes: how long a study takes there, or None where it was not measured.
        expected: test accuracy to expect, or "not yet measured".
        settings: values of ``StudyCommand`` that differ from its defaults.
    """

    command: str
    machine: str
    minutes: float | None
    expected: str
    settings: dict[str, Any] = field(default_factory=dict)


# Chosen on images that are not the sample's test set: benchmarks/recipe_changes.py, docs/recipes.md.
_SAMPLE_LABELLED = {"epochs": 60, "batch_size": 64, "jitter": 0.8, "grayscale": 0.2}
_SAMPLE_FINETUNE = {**_SAMPLE_LABELLED, "crop_scale": (0.2, 1.0), "base_lr": 0.2, "backbone_lr_scale": 1.0}
_SAMPLE_PRETRAIN = {
    "base_lr": 0.9,
    "weight_decay": 5e-4,
    "first_view_size": 16,
    "view_size": 24,
    "crop_scale": (0.2, 1.0),
    "blur": 0.0,
    "projection_hidden": 512,
}

RECIPES: dict[str, Recipe] = {
    "sample": Recipe(
        command="twoviews study sample",
        machine="2 cores of an Intel Xeon with AMX",
        minutes=8.3,
        expected="baseline 56.2 %, fine-tuned 58.2 % (means of seeds 0, 1, 2)",
        settings={
            "image_size": 32,
            "backbone": "resnet18_w16",
            "supervised": {**_SAMPLE_LABELLED, "base_lr": 1.2, "epochs": 100},
            "pretrain": {**_SAMPLE_PRETRAIN, "epochs": 50, "warmup_epochs": 2},
            "finetune": {**_SAMPLE_FINETUNE, "base_lr": 0.05, "probe_start": True},
        },
    ),
    "cifar10": Recipe(
        command="twoviews study cifar10",
        machine="one GPU",
        minutes=None,
        expected="not yet measured",
        settings={
            "image_size": 32,
            "backbone": "resnet18",
            "supervised": {"epochs": 100, "batch_size": 128},
            "pretrain": {"epochs": 200, "batch_size": 512, "blur": 0.0, "grayscale": 0.1},
            "finetune": {"epochs": 100, "batch_size": 128},
        },
    ),
    # A start from the sample's recipe: as many images a second, 4.5 times as many unlabeled ones, 5 times the labels.
    "cifar10_as_stl10": Recipe(
        command="twoviews study cifar10_as_stl10 --labels-per-class 100 --jobs 2",
        machine="2 cores of an Intel Xeon with AMX",
        minutes=35.4,
        expected="1,000 labels: baseline 58.0 %, linear probe 62.4 %, fine-tuned 60.7 %; 5,000: 73.8, 66.6, 74.2 %",
        settings={
            "image_size": 32,
            "backbone": "resnet18_w16",
            "supervised": {**_SAMPLE_LABELLED, "base_lr": 1.2, "epochs": 100},
            "pretrain": {**_SAMPLE_PRETRAIN, "epochs": 30, "warmup_epochs": 1},
            "finetune": {**_SAMPLE_FINETUNE, "epochs": 100},
        },
    ),
    "stl10": Recipe(
        command="twoviews study stl10",
        machine="one GPU",
        minutes=None,
        expected="not yet measured",
        settings={"image_size": 96, "backbone": "resnet50"},
    ),
    "folder": Recipe(
        command="twoviews study FOLDER",
        machine="one GPU",
        minutes=None,
        expected="depends on the images",
        settings={"image_size": 96, "backbone": "resnet50"},
    ),
    "folder-cpu": Recipe(
        command="twoviews study FOLDER",
        machine="any CPU, or Apple's GPU; the epochs are fitted to half an hour",
        minutes=30,
        expected="depends on the images",
        settings={"image_size": 64, "backbone": "resnet18", "minutes": 30},
    ),
}


def recipe_name(data: str, has_gpu: Callable[[], bool]) -> str:
    """The recipe that goes with DATA; ``has_gpu``: one of NVIDIA's or AMD's computes (``cuda``).

    It is asked for a folder alone: to know, torch may have to be loaded.
    """
    if data in RECIPES and not data.startswith("folder"):
        return data
    return "folder" if has_gpu() else "folder-cpu"


def recipe_settings(name: str, stage: str | None) -> dict[str, Any]:
    """Settings of a recipe for a study (``stage`` None), or flat for one stage's command.

    Raises:
        SettingsError: there is no recipe of this name.
    """
    if name not in RECIPES:
        raise SettingsError(f"--recipe {name}: no such recipe; there are {', '.join(RECIPES)}.")
    settings = RECIPES[name].settings
    if stage is None:
        return dict(settings)
    common = {key: value for key, value in settings.items() if key not in STAGES}
    return {**common, **settings.get(stage, {})}
