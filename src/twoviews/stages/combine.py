"""From each seed's test to a study's figures: means with intervals, and the comparison paired by seed and image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.evaluation.classification import per_class_scores
from twoviews.evaluation.label_savings import CurvePoint, label_savings
from twoviews.evaluation.seeds import difference_over_seeds, mean_over_seeds
from twoviews.files import read_json
from twoviews.report.labels.points import TABLE_MODELS

_MEANS = ("balanced_accuracy", "macro_f1", "nll", "brier")  # an earlier version's test stage may lack one


def combined(folders: Sequence[Path], seed: int, repeats: str = "seeds") -> dict[str, Any]:
    """``models`` and ``comparison`` over the test stages of several seeds.

    Args:
        folders: of the test stages, one for each seed, on the same test images.
        seed: of what is drawn for a bootstrap.
        repeats: what the folders are, for the methods' names: "seeds" or "folds".
    """
    parts = [read_json(folder / "results.json") for folder in folders]
    if len(parts) == 1:
        return {"models": parts[0]["models"], "comparison": parts[0]["comparison"]}
    correct = [load_correct(folder) for folder in folders]
    models = {
        model: _model([part["models"][model] for part in parts], _stacked(correct, model), repeats)
        for model in parts[0]["models"]
    }
    return {"models": models, "comparison": comparison(correct, seed, repeats)}


def comparison(
    correct: Sequence[Mapping[str, npt.NDArray[np.bool_]]], seed: int, repeats: str = "seeds"
) -> dict[str, Any]:
    """Fine-tuned and linear probe, where there, each minus the baseline, of every seed's correctness by model."""
    if "supervised" not in correct[0]:
        return {}
    baseline = _stacked(correct, "supervised")
    return {
        f"{model}_minus_supervised": difference_over_seeds(
            _stacked(correct, model), baseline, seed=seed, repeats=repeats
        ).as_record()
        for model in ("finetuned", "linear_probe")
        if model in correct[0]
    }


def by_class(names: Sequence[str], counts: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """A record for each class of a confusion matrix; of a class without images recall and F1 are None."""
    return [
        {
            "class": name,
            "precision": s.precision,
            "recall": s.recall if s.images else None,
            "f1": s.f1 if s.images else None,
            "images": s.images,
        }
        for name, s in zip(names, per_class_scores(counts), strict=True)
    ]


def _stacked(correct: Sequence[Mapping[str, npt.NDArray[np.bool_]]], model: str) -> npt.NDArray[np.bool_]:
    """S×N correctness of one model."""
    return np.stack([found[model] for found in correct])


def load_correct(folder: Path) -> dict[str, npt.NDArray[np.bool_]]:
    """Of each model, (N,) whether it classified each test image correctly."""
    with np.load(folder / "correct.npz", allow_pickle=False) as file:
        return {model: file[model].astype(bool) for model in file.files}


def _model(seeds: Sequence[dict[str, Any]], correct: npt.NDArray[np.bool_], repeats: str) -> dict[str, Any]:
    """One model's figures over seeds: means, and the sum of the confusion matrices."""
    counts = np.sum([one["confusion"] for one in seeds], axis=0)
    names = [row["class"] for row in seeds[0]["per_class"]]
    values = [one["val_top1"] for one in seeds]
    return {
        "protocol": seeds[0].get("protocol"),  # settings are the same for all seeds
        "val_top1": None if None in values else float(np.mean(values)),
        **mean_over_seeds(correct, repeats=repeats).as_record(),
        **{key: float(np.mean([one[key] for one in seeds])) for key in _MEANS if all(key in one for one in seeds)},
        "confusion": counts.tolist(),
        "per_class": by_class(names, counts),
    }


def curve_point(figures: dict[str, Any], counts: dict[str, int], **more: Any) -> dict[str, Any]:
    """A row of the label curve, or of the folds: what was compared on how many labels."""
    keys = ("test_top1", "std", "ci95", "per_seed")
    shown = [model for model in TABLE_MODELS if model in figures["models"]]
    return {
        "labels": counts["train"] + counts["val"],
        **more,
        "train": counts["train"],
        "val": counts["val"],
        "models": {model: {key: figures["models"][model][key] for key in keys} for model in shown},
        "comparison": figures["comparison"].get("finetuned_minus_supervised"),
    }


def savings(curve: Sequence[tuple[int, Sequence[Path]]]) -> dict[str, Any] | None:
    """How many labels pretraining saves, read off a label curve; None where there is no curve.

    Args:
        curve: number of labels, and the test stages of its seeds, for each point.
    """
    points = []
    for labels, folders in curve:
        correct = [load_correct(folder) for folder in folders]
        points.append(CurvePoint(labels, _stacked(correct, "supervised"), _stacked(correct, "finetuned")))
    found = label_savings(points)
    return None if found is None else found.as_record()


def over_folds(folders: Sequence[Path], seed: int) -> dict[str, Any]:
    """Mean and standard deviation over folds: of each model, and of the paired difference."""
    figures = combined(folders, seed, "folds")
    keys = ("test_top1", "std", "ci95", "ci95_method")
    return {
        "folds": len(folders),
        "models": {model: {key: found[key] for key in keys} for model, found in figures["models"].items()},
        "comparison": figures["comparison"].get("finetuned_minus_supervised"),
    }
