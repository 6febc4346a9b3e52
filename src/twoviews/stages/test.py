"""The test stage: the only one that opens test labels; scores every model in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from twoviews.dataset.images import ImageSet
from twoviews.errors import CheckpointError
from twoviews.evaluation.calibration import brier_score, negative_log_likelihood
from twoviews.evaluation.classification import balanced_accuracy, confusion_counts, macro_f1
from twoviews.evaluation.knn import KNN, ProtocolPredictions, protocol_predictions
from twoviews.evaluation.maps import require_umap
from twoviews.evaluation.seeds import mean_over_seeds
from twoviews.files import read_json
from twoviews.report.model_names import MODEL_FOLDERS
from twoviews.settings import TestCommand
from twoviews.stages.backbones import new_backbone
from twoviews.stages.combine import by_class, comparison
from twoviews.stages.feature_probes import Features, protocol_rows
from twoviews.stages.features import extract
from twoviews.stages.folders import PROBE, checked_backbone, newest_classifier_run
from twoviews.stages.in_run_folder import in_run_folder
from twoviews.stages.map_images import DrawnSplit, map_parts
from twoviews.stages.models import load_classifier
from twoviews.stages.probe_files import load_probe
from twoviews.stages.setup import Shared, prepare_alone
from twoviews.stages.tested_files import write_pictures, write_tables
from twoviews.stages.tested_maps import write_maps
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.settings_file import load_settings
from twoviews.trainers.test import head_probabilities

ORDER = (
    *("supervised", "finetuned", "imagenet_finetuned", "linear_probe", "sgd_probe", "knn"),
    "random_init_linear_probe",
)


@dataclass
class Outputs:
    """What the test stage collects before it reads a label.

    Attributes:
        probabilities: N×classes of each model.
        features: N×D of each backbone.
        labelled: M×D of each backbone, of the training and validation images on the maps; {} where there are none.
        clusters: k of the feature check's k-means; None where it made none.
        val_top1: what each model reached on validation.
        protocols: how each model was trained and chosen, in words; None in a run of an earlier version.
    """

    probabilities: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)
    labelled: dict[str, Features] = field(default_factory=dict)
    clusters: int | None = None
    knn_protocols: list[ProtocolPredictions] = field(default_factory=list)
    val_top1: dict[str, float | None] = field(default_factory=dict)
    protocols: dict[str, str | None] = field(default_factory=dict)


def run_test(settings: TestCommand, shared: Shared | None = None) -> Path:
    """Score the models of a study, or the one of a classifier run, on the test images; returns the run folder."""
    if settings.umap:
        require_umap()
    shared = shared or prepare_alone(settings)
    test = shared.splits.open_test()

    def work(run: RunFolder) -> None:
        if not shared.engine.is_first:
            return
        tested = settings.run or newest_classifier_run()
        say(f"test: every model of {tested} on {len(test):,} test images")
        parts = map_parts(settings, test, shared.splits) if settings.maps else []
        outputs = _score(tested, test, parts[1:], settings, shared)
        if not outputs.probabilities:
            raise CheckpointError(f"{tested} holds no models/classifier.safetensors; name a finished classifier run.")
        _finish(outputs, test, parts, settings, shared, run)

    return in_run_folder("test", settings, shared, work)


def _model_of(stage: Path) -> str:
    """What a classifier's own run trained: fine-tuning's settings say from which run; a supervised one has no such."""
    file = stage / "settings.yaml"
    is_tuned = "run" in load_settings(file) if file.exists() else not stage.name.startswith("supervised")
    return "finetuned" if is_tuned else "supervised"


def _score(tested: Path, test: ImageSet, labelled: list[DrawnSplit], settings: TestCommand, shared: Shared) -> Outputs:
    """Probabilities and features of every model; reads pixels alone."""
    outputs = Outputs()
    images = test.without_labels()
    places = {model: tested / folder for model, folder in MODEL_FOLDERS.items()}
    if (tested / "models/classifier.safetensors").exists():
        places = {_model_of(tested): tested}
    for model, folder in places.items():
        file = folder / "models/classifier.safetensors"
        if file.exists():
            classifier, _about = load_classifier(file, shared.splits.class_names)
            shared.engine.to_device(classifier)
            features = extract(classifier.backbone, images, shared)
            if model != "sgd_probe":  # its features are the pretrained ones
                outputs.features[model] = features
                _add_labelled(outputs, model, classifier.backbone, labelled, shared)
            outputs.probabilities[model] = head_probabilities(classifier, features)
            trained = read_json(folder / "results.json")
            outputs.val_top1[model], outputs.protocols[model] = trained.get("val_top1"), trained.get("protocol")
    checked = tested / "features"
    if (checked / "results.json").exists():
        _score_probes(checked, images, labelled, settings, shared, outputs)
    return outputs


def _add_labelled(
    outputs: Outputs, model: str, backbone: nn.Module, labelled: list[DrawnSplit], shared: Shared
) -> None:
    """Features of what is on the maps beside the test images."""
    if labelled:
        outputs.labelled[model] = np.concatenate([extract(backbone, part.chosen, shared) for part in labelled])


def _score_probes(
    checked: Path, images: ImageSet, labelled: list[DrawnSplit], settings: TestCommand, shared: Shared, outputs: Outputs
) -> None:
    """Linear probe and kNN on the pretrained backbone, linear probe on the randomly initialised one."""
    found = read_json(checked / "results.json")
    weights = {"random_init": None, "pretrained": str(checked_backbone(checked))}
    for model, init in weights.items():
        backbone = new_backbone(settings, shared.image_size, seed=settings.seed, init=init)
        outputs.features[model] = extract(shared.engine.to_device(backbone), images, shared)
        _add_labelled(outputs, model, backbone, labelled, shared)
    for model, backbone_name, file in (
        ("linear_probe", "pretrained", PROBE),
        ("random_init_linear_probe", "random_init", f"random_init_{PROBE}"),
    ):
        probe = load_probe(checked / file)
        outputs.probabilities[model] = probe.scores(outputs.features[backbone_name]).astype(np.float32)
    outputs.val_top1["linear_probe"] = found["linear_probe"]["val_top1"]
    outputs.val_top1["random_init_linear_probe"] = found["random_init"]["linear_probe_val_top1"]
    probe_protocol = found["linear_probe"].get("protocol")
    outputs.protocols |= {"linear_probe": probe_protocol, "knn": found["knn"].get("protocol")}
    outputs.protocols["random_init_linear_probe"] = (
        probe_protocol and f"{probe_protocol}; the backbone was never trained"
    )
    outputs.clusters = found["kmeans"]["clusters"] if "kmeans" in found else None
    labels = shared.splits.train.labels
    assert labels is not None
    bank = np.load(checked / "features-pretrained.npy", allow_pickle=False)[: len(labels)].astype(np.float32)
    classes = len(shared.splits.class_names)
    knn = KNN.of(bank, labels, classes, found["knn"]["k"], found["knn"]["temperature"])
    outputs.probabilities["knn"] = knn.scores(outputs.features["pretrained"]).astype(np.float32)
    outputs.val_top1["knn"] = found["knn"]["val_top1"]
    outputs.knn_protocols = protocol_predictions(bank, labels, classes, outputs.features["pretrained"])


def _finish(
    outputs: Outputs, test: ImageSet, parts: list[DrawnSplit], settings: TestCommand, shared: Shared, run: RunFolder
) -> None:
    """Open the labels; write what was found."""
    assert test.labels is not None
    labels, names = test.labels, list(shared.splits.class_names)
    predictions = {model: p.argmax(axis=1) for model, p in outputs.probabilities.items()}
    models = {
        model: {
            "protocol": outputs.protocols[model],
            **_figures(labels, outputs.probabilities[model], names, outputs.val_top1[model]),
        }
        for model in ORDER
        if model in predictions
    }
    correct = {model: predictions[model] == labels for model in models}
    write_tables(run.path, test, names, outputs.probabilities, correct)
    more: dict[str, Any] = {}
    if outputs.knn_protocols:
        more["knn_protocols"] = protocol_rows(outputs.knn_protocols, labels, "test_top1")
    if settings.maps:
        shown = predictions.get("finetuned", next(iter(predictions.values())))
        more |= write_maps(
            outputs.features,
            outputs.labelled,
            parts,
            shown=shown,
            clusters=outputs.clusters,
            settings=settings,
            shared=shared,
            run=run,
        )
        write_pictures(run, models, names)
    run.finish({"models": models, "comparison": comparison([correct], settings.seed), **more})
    for model, figures in models.items():
        low, high = figures["ci95"]
        say(f"test: {model:<25} {figures['test_top1']:.1%}  (95 % interval {low:.1%} to {high:.1%})")


def _figures(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], names: list[str], val_top1: float | None
) -> dict[str, Any]:
    predicted = probabilities.argmax(axis=1)
    counts = confusion_counts(labels, predicted, len(names))
    return {
        "val_top1": val_top1,
        **mean_over_seeds((predicted == labels)[None]).as_record(),
        "balanced_accuracy": balanced_accuracy(counts),
        "macro_f1": macro_f1(counts),
        "nll": negative_log_likelihood(probabilities, labels),
        "brier": brier_score(probabilities, labels),
        "confusion": counts.tolist(),
        "per_class": by_class(names, counts),
    }
