"""The feature check's classifiers on frozen features: linear probe and kNN, each figure with its protocol's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.dataset.splits import Splits
from twoviews.evaluation.classification import top1
from twoviews.evaluation.knn import CHOSEN_PROTOCOL, ProtocolPredictions, choose_knn, protocol_predictions
from twoviews.evaluation.probes import DEFAULT_FOLDS, LinearProbe, choose_linear_probe
from twoviews.stages.folders import PROBE
from twoviews.stages.probe_files import save_probe
from twoviews.stages.setup import Shared
from twoviews.stages.tasks import SELECT_FROM

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass
class Checked:
    """Features of the labelled images under one backbone: training rows first, then validation."""

    train: Features
    val: Features

    @property
    def all(self) -> Features:
        """Training and validation rows together."""
        return np.concatenate([self.train, self.val])


@dataclass(frozen=True)
class ChosenProbe:
    """A linear probe, how each strength did, and the protocol by which one was chosen."""

    probe: LinearProbe
    sweep: list[dict[str, float]]
    protocol: str


def chosen_probe(checked: Checked, splits: Splits, seed: int) -> ChosenProbe:
    """The linear probe fitted on train; its strength chosen there too, or on a large validation set."""
    train, val = splits.train.labels, splits.val.labels
    assert train is not None
    assert val is not None
    on_val = (checked.val, val) if len(val) >= SELECT_FROM else None
    probe, sweep = choose_linear_probe(checked.train, train, len(splits.class_names), seed=seed, val=on_val)
    return ChosenProbe(probe, sweep, _probe_protocol(sweep, on_val is not None))


def probes(checked: Checked, shared: Shared, seed: int, folder: Path, model: str) -> dict[str, Any]:
    """Linear probe and kNN: chosen on train (or on a large validation set), scored on validation.

    The chosen probe is kept in ``folder``.

    Returns:
        figures under ``linear_probe``, ``knn`` (k and temperature chosen) and ``knn_protocols`` (nothing chosen).
    """
    train_labels, val_labels = shared.splits.train.labels, shared.splits.val.labels
    assert train_labels is not None
    assert val_labels is not None
    classes = len(shared.splits.class_names)
    chosen = chosen_probe(checked, shared.splits, seed)
    probe, sweep = chosen.probe, chosen.sweep
    prefix = "" if model == "pretrained" else f"{model}_"
    save_probe(folder / f"{prefix}{PROBE}", probe, shared.splits.class_names)
    knn, knn_sweep = choose_knn(checked.train, train_labels, classes)
    predicted = protocol_predictions(checked.train, train_labels, classes, checked.val)
    return {
        "linear_probe": {
            "protocol": chosen.protocol,
            "val_top1": top1(val_labels, probe.predict(checked.val)),
            "train_cv_top1": max((row["cv_top1"] for row in sweep if "cv_top1" in row), default=None),
            "c": probe.c,
            "sweep": sweep,
        },
        "knn": {
            "protocol": CHOSEN_PROTOCOL,
            "val_top1": top1(val_labels, knn.predict(checked.val)),
            "train_cv_top1": max((row["cv_top1"] for row in knn_sweep), default=None),
            "k": knn.k,
            "temperature": knn.temperature,
            "sweep": knn_sweep,
        },
        "knn_protocols": protocol_rows(predicted, val_labels, "val_top1"),
    }


def protocol_rows(predicted: Sequence[ProtocolPredictions], labels: Labels, key: str) -> list[dict[str, Any]]:
    """A record for each kNN protocol; its accuracy, a fraction, under ``key`` (``val_top1`` or ``test_top1``)."""
    return [
        {
            "name": one.name,
            "k_asked": one.k_asked,
            "k": one.k,
            "temperature": one.temperature,
            key: top1(labels, one.predictions),
        }
        for one in predicted
    ]


def _probe_protocol(sweep: Sequence[dict[str, float]], on_val: bool) -> str:
    if not sweep:
        how = "strength not chosen (no class has two training images)"
    elif on_val:
        how = "strength chosen on validation images"
    else:
        how = f"strength by {DEFAULT_FOLDS}-fold cross-validation on the training images"
    return f"L2 logistic regression on standardised frozen features, no augmentation, {how}"
