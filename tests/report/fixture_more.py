"""Adds to a fixture study what several seeds, a label curve, folds, tuning and map checks leave; plausible numbers."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from fixture_study import edit_results

STAGES = ("supervised", "pretrain", "features", "finetune", "test")
PER_CLASS = (10, 30, 100)
CURVE = {
    "supervised": (0.342, 0.457),
    "linear_probe": (0.452, 0.534),
    "finetuned": (0.469, 0.584),
}


def several_seeds(folder: Path, seeds: int = 3) -> Path:
    """Move a study's stages under seed0/ and repeat its numbers, each seed a little different."""
    for seed in range(seeds):
        (folder / f"seed{seed}").mkdir()
        for stage in [stage for stage in STAGES if (folder / stage).is_dir() or (folder / "seed0" / stage).is_dir()]:
            if seed and stage != "pretrain":
                shutil.copytree(folder / "seed0" / stage, folder / f"seed{seed}" / stage)
            elif not seed:
                (folder / stage).rename(folder / "seed0" / stage)

    def change(results: dict[str, Any]) -> None:
        results["seeds"], results["pretrain_seeds"] = list(range(seeds)), [0]
        shifts = np.linspace(-0.007, 0.009, seeds)
        for i, row in enumerate(results["models"].values()):
            each = row["test_top1"] + np.roll(shifts, i)
            low, high = row["ci95"]
            row.update(per_seed=each.tolist(), test_top1=float(each.mean()), std=float(each.std(ddof=1)))
            row.update(ci95=[low - 0.01, high + 0.01], ci95_method="t interval over seeds and test images")
            if row["confusion"] is not None:
                row["confusion"] = (seeds * np.array(row["confusion"])).tolist()
        results["comparison"]["finetuned_minus_supervised"] = comparison(results["models"], (1.1, 8.1), 3.1, seeds)

    edit_results(folder, change)
    return folder


def comparison(models: dict[str, Any], ci95: tuple[float, float], detectable: float, seeds: int) -> dict[str, Any]:
    """Fine-tuned minus baseline of these models."""
    each = 100 * (np.array(models["finetuned"]["per_seed"]) - np.array(models["supervised"]["per_seed"]))
    method = "t interval, seeds and test images as random effects"
    return {
        "points": float(each.mean()),
        "std": float(each.std(ddof=1)) if seeds > 1 else None,
        "ci95": list(ci95),
        "ci95_method": method if seeds > 1 else "paired bootstrap over test images, 10,000 resamples",
        "per_seed": each.tolist(),
        "degrees_of_freedom": 2.7 if seeds > 1 else None,
        "detectable": detectable,
        "mcnemar_p": 0.0002,
        "mcnemar_p_per_seed": [0.0002, 0.004, 0.071][:seeds],
    }


def add_label_curve(folder: Path, seeds: int = 3) -> Path:
    """Accuracy with 10, 30 and 100 labels a class (all there are), and what it says the pretraining saves."""

    def change(results: dict[str, Any]) -> None:
        results["label_curve"] = []
        for i, per_class in enumerate(PER_CLASS):
            last = i == len(PER_CLASS) - 1
            models = {
                name: results["models"][name] if last else _point(tops[i], i + j, seeds)
                for j, (name, tops) in enumerate(CURVE.items())
            }
            ci95 = ((5.1, 20.3), (6.2, 19.2), (0, 0))[i]
            compared = comparison(models, ci95, 3.0, seeds)
            labels = per_class * len(results["data"]["classes"])
            results["label_curve"].append(
                {
                    "labels_per_class": per_class,
                    "labels": labels,
                    "train": labels - labels // 10,
                    "val": labels // 10,
                    "models": {
                        name: {key: row[key] for key in ("test_top1", "std", "ci95", "per_seed")}
                        for name, row in models.items()
                    },
                    "comparison": results["comparison"]["finetuned_minus_supervised"] if last else compared,
                }
            )
        curve = [point["models"]["finetuned"]["test_top1"] for point in results["label_curve"]]
        baseline = results["models"]["supervised"]["test_top1"]
        same = 10 * float(np.exp(np.interp(baseline, curve, np.log(PER_CLASS))))
        results["label_savings"] = {
            "labels": 1000,
            "baseline_top1": baseline,
            "same_accuracy_labels": same,
            "bound": None,
            "saved": 1 - same / 1000,
            "ci95": [0.8 * same, 1.4 * same] if seeds > 1 else None,
        }

    edit_results(folder, change)
    return folder


def _point(top1: float, turn: int, seeds: int) -> dict[str, Any]:
    """A model's figures with few labels: seeds that differ more than with many."""
    each = top1 + np.roll(np.linspace(-1, 1, seeds), turn) * (0.016 if seeds > 1 else 0.0)
    std = float(each.std(ddof=1)) if seeds > 1 else None
    ci95 = [top1 - 0.04, top1 + 0.04]
    return {"test_top1": float(each.mean()), "std": std, "ci95": ci95, "per_seed": each.tolist()}


def add_folds(folder: Path, folds: int = 10) -> Path:
    """Both models trained on each official fold of 1,000."""
    random = np.random.default_rng(3)
    means = {"supervised": 0.571, "linear_probe": 0.702, "finetuned": 0.738}
    hardness = random.normal(size=folds) * 0.006
    tops = {name: mean + hardness + random.normal(size=folds) * 0.004 for name, mean in means.items()}

    def change(results: dict[str, Any]) -> None:
        results["data"].update(name="stl10", counts={"unlabeled": 92_455, "train": 5000, "val": 0, "test": 8000})
        results["folds"] = []
        for fold in range(folds):
            models = {
                name: {"test_top1": float(each[fold]), "std": None, "ci95": None, "per_seed": [float(each[fold])]}
                for name, each in tops.items()
            }
            compared = comparison(models, (12.0, 20.0), 1.9, 1)
            row = {"fold": fold, "labels": 1000, "train": 900, "val": 100, "models": models}
            results["folds"].append(row | {"comparison": {"finetuned_minus_supervised": compared}})
        summary = {
            name: {
                "test_top1": float(each.mean()),
                "std": float(each.std(ddof=1)),
                "ci95": [float(each.mean()) - 0.011, float(each.mean()) + 0.011],
            }
            for name, each in tops.items()
        }
        each = 100 * (tops["finetuned"] - tops["supervised"])
        difference = {"points": float(each.mean()), "std": float(each.std(ddof=1)), "ci95": [15.9, 17.6]}
        results["folds_summary"] = {"models": summary, "comparison": difference}

    edit_results(folder, change)
    return folder


def add_tuning(folder: Path) -> Path:
    """The trials of baseline and fine-tuning, scored on validation images."""

    def side(scores: tuple[float, ...], rate: float, chosen: int, because: str) -> dict[str, Any]:
        rows = [
            {
                "settings": {
                    "base_lr": round(rate * (1, 0.5, 2.3, 1.4)[i], 3),
                    "weight_decay": (5e-4, 1.2e-3, 2e-4, 8e-5)[i],
                    "crop_scale": [(0.2, 0.34, 0.11, 0.5)[i], 1.0],
                    "jitter": (0.8, 0.31, 0.66, 0.94)[i],
                },
                "epochs": (40, 40, 27, 58)[i],
                "val_top1": score,
                "val_loss": 2 * (1 - score),
                "points_over_recipe": 100 * (score - scores[0]),
                "p": None if not i else max(0.02, 1 - 12 * max(0.0, score - scores[0])),
                "failed": False,
            }
            for i, score in enumerate(scores)
        ]
        found = {"trials": rows, "chosen": copy.deepcopy(rows[chosen]["settings"]), "chosen_trial": chosen}
        return found | {"because": because}

    def change(results: dict[str, Any]) -> None:
        results["tuning"] = {
            "trials": 4,
            "budget_images": 148_500,
            "scored_images": 900,
            "trainings": 2,
            "rule": "Of 4 trials the one with the highest accuracy, if it beats the recipe by more than chance.",
            "supervised": side((0.511, 0.498, 0.598, 0.52), 1.2, 2, "Trial 2 beats the recipe by 8.7 points."),
            "finetune": side((0.589, 0.571, 0.58, 0.593), 0.2, 0, "No trial beats the recipe by more than chance."),
        }

    edit_results(folder, change)
    return folder


def add_feature_checks(folder: Path) -> Path:
    """How far maps can be believed, k-means over its starts, kNN as papers fix it, as the feature check writes them."""

    def quality(trust: float, purity: float, drawn: float) -> dict[str, Any]:
        return {
            name: {
                "trustworthiness": trust - loss,
                "continuity": trust - loss / 2,
                "overlap": 0.41 - 2 * loss,
                "overlap_chance": 0.01,
                "purity_map": drawn - loss,
                "purity_features": purity,
                "purity_chance": 0.099,
                "k": 10,
                "images": 1000,
                "judged": 1000,
            }
            for name, loss in (("pca", 0.16), ("tsne", 0.0))
        }

    def spread(mean: float, std: float) -> dict[str, Any]:
        return {
            name: {"mean": mean * part, "std": std, "min": mean * part - 2 * std, "max": mean * part + 2 * std}
            for name, part in (("accuracy", 1.0), ("nmi", 0.8), ("ari", 0.5))
        }

    def change(results: dict[str, Any]) -> None:
        features = results["features"]
        features["map_quality"] = {
            "pretrained": quality(0.962, 0.449, 0.431),
            "random_init": quality(0.957, 0.244, 0.239),
        }
        features["kmeans"] |= {
            "protocol": "k-means on features of length 1, 20 k-means++ starts, the one with the lowest inertia",
            "starts": 20,
            "spread": spread(0.402, 0.012),
            "spread_shuffled": spread(0.131, 0.004),
            "silhouette": {"clusters": 0.112, "classes": 0.021, "distance": "1 - cosine", "images": 1000},
            "curve": [
                {"k": k, "inertia": 700 * k**-0.16, "silhouette": 0.14 - 0.004 * abs(k - 9)}
                for k in (2, 5, 7, 10, 12, 15, 20)
            ],
            "suggested_k": 10,
        }
        features["kmeans"]["random_init"] |= {
            "starts": 20,
            "spread": spread(0.213, 0.006),
            "silhouette": {"clusters": 0.151, "classes": -0.041},
        }
        names = [(f"kNN, k = {k}, T = 0.07 (Wu et al. 2018)", k) for k in (200, 20, 5)]
        for part, key, shift in ((features, "val_top1", 0.0), (features["random_init"], "val_top1", -0.21)):
            part["knn_protocols"] = [
                {"name": name, "k_asked": k, "k": k, "temperature": 0.07, key: 0.53 + shift - 0.0003 * k}
                for name, k in names
            ]
        features["test"] = {
            "knn_protocols": [
                {"name": name, "k_asked": k, "k": k, "temperature": 0.07, "test_top1": 0.52 - 0.0003 * k}
                for name, k in names
            ],
            "knn_test_top1": 0.531,
            "map_quality": {
                "random_init": quality(0.951, 0.241, 0.236),
                "pretrained": quality(0.958, 0.448, 0.430),
                "supervised": quality(0.975, 0.561, 0.555),
                "finetuned": quality(0.981, 0.619, 0.611),
            },
        }

    edit_results(folder, change)
    return folder
