"""A study over seeds and label budgets, and over folds: who compares what with what, and that every part repeats."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from real_commands import FAST, twoviews

from twoviews.evaluation.seeds import difference_over_seeds

sys.path.insert(0, str(Path(__file__).parents[1] / "dataset"))
from test_stl10 import write_set

SMALL = [
    *("--supervised.epochs", "2", "--finetune.epochs", "2", "--pretrain.epochs", "2"),
    *("--supervised.batch-size", "16", "--finetune.batch-size", "16", "--pretrain.batch-size", "48"),
]
MODELS = ["supervised", "finetuned", "linear_probe", "knn", "random_init_linear_probe"]


@pytest.fixture(scope="module")
def evidence(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, each with 6 labels a class and with all."""
    work = tmp_path_factory.mktemp("evidence")
    words = ["--seed", "3", "--seeds", "2", "--labels-per-class", "6,20"]
    done = twoviews("study", photos, *FAST, *SMALL, *words, cwd=work, light=True)
    assert done.returncode == 0, done.stderr
    return work / "output/study-photos"


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def correct(folder: Path, model: str) -> np.ndarray:
    with np.load(folder / "test/correct.npz") as file:
        return file[model]


def test_each_seed_and_budget_has_its_stages_and_pretraining_is_shared(evidence: Path) -> None:
    tested = ["features", "finetune", "supervised", "test"]
    stages = {
        place: sorted(p.name for p in (evidence / place).iterdir() if p.is_dir() and (p / "results.json").exists())
        for place in ("seed3", "seed4", "seed3/labels-6", "seed4/labels-6")
    }
    assert stages.pop("seed3") == sorted([*tested, "pretrain"])
    assert all(found == tested for found in stages.values())
    assert not list(evidence.glob("*/labels-50"))  # more than there are: the study itself
    for finetune in evidence.rglob("finetune/settings.yaml"):
        assert yaml.safe_load(finetune.read_text())["run"].endswith("seed3/pretrain")


def test_maps_and_pictures_are_those_that_the_page_shows(evidence: Path) -> None:
    for stage, files in {"features": ["maps.npz", "clusters.csv"], "test": ["maps.npz", "thumbnails.webp"]}.items():
        for name in files:
            assert [str(p.parent.parent.relative_to(evidence)) for p in evidence.rglob(f"{stage}/{name}")] == ["seed3"]


def test_results_are_means_and_the_paired_comparison_over_seeds(evidence: Path) -> None:
    results = results_of(evidence)
    assert results["seeds"] == [3, 4]
    assert results["pretrain_seeds"] == [3]
    assert list(results["models"]) == MODELS
    parts = [results_of(evidence / seed / "test") for seed in ("seed3", "seed4")]
    for name, model in results["models"].items():
        each = [part["models"][name]["test_top1"] for part in parts]
        assert model["per_seed"] == pytest.approx(each)
        assert model["test_top1"] == pytest.approx(np.mean(each))
        assert model["std"] == pytest.approx(np.std(each, ddof=1))
        assert np.sum(model["confusion"]) == 2 * 48
        assert model["ci95"][0] <= model["test_top1"] <= model["ci95"][1]
        assert {part["models"][name]["protocol"] for part in parts} == {model["protocol"]}
    after, before = (
        np.stack([correct(evidence / seed, model) for seed in ("seed3", "seed4")])
        for model in ("finetuned", "supervised")
    )
    expected = difference_over_seeds(after, before, seed=3).as_record()
    assert results["comparison"]["finetuned_minus_supervised"] == expected
    assert len(expected["mcnemar_p_per_seed"]) == 2


def test_the_label_curve_has_every_budget_and_all_labels(evidence: Path) -> None:
    results = results_of(evidence)
    few, everything = results["label_curve"]
    assert (few["labels"], few["labels_per_class"], few["train"], few["val"]) == (18, 6, 15, 3)
    assert (everything["labels"], everything["train"]) == (60, 54)
    assert everything["comparison"] == results["comparison"]["finetuned_minus_supervised"]
    for model in ("supervised", "linear_probe", "finetuned"):
        each = [float(np.mean(correct(evidence / s / "labels-6", model))) for s in ("seed3", "seed4")]
        assert few["models"][model]["per_seed"] == pytest.approx(each)
    assert results["label_savings"]["labels"] == 60
    # A third of the labels: 1.7 times the epochs.
    assert results_of(evidence / "seed3/labels-6/supervised")["epochs"] == round(2 * (54 / 15) ** 0.5)


def test_of_several_seeds_the_first_one_s_models_predict(evidence: Path, photos: Path, tmp_path: Path) -> None:
    for run, model in ((evidence, "finetuned"), (evidence / "seed4/labels-6/features", "linear_probe")):
        words = ["--precision", "float32", "--out", "p.csv"]  # as the study: in bf16 a near tie may fall otherwise
        done = twoviews("predict", run, photos / "test", *words, cwd=tmp_path, light=True)
        assert done.returncode == 0, done.stderr
        test = (evidence / "seed3" if run == evidence else run.parent) / "test"
        with open(test / "predictions.csv", newline="") as file:
            tested = {row["file"]: row[model] for row in csv.DictReader(file)}
        with open(tmp_path / "p.csv", newline="") as file:
            found = {"test/" + row["file"].removeprefix("'"): row["class"] for row in csv.DictReader(file)}
        assert found == tested


@pytest.mark.slow
def test_a_stage_of_it_starts_again_by_itself(evidence: Path, tmp_path: Path) -> None:
    """The settings that a stage leaves name its labels and seed."""
    stage = evidence / "seed4/labels-6/supervised"
    settings = yaml.safe_load((stage / "settings.yaml").read_text())
    assert (settings["labels_per_class"], settings["seed"]) == (6, 4)
    words = ["--config", stage / "settings.yaml", "--out", tmp_path / "alone"]
    done = twoviews("supervised", settings["data"], *words, cwd=evidence.parents[1])
    assert done.returncode == 0, done.stderr
    assert "15 train" in done.stdout
    assert (tmp_path / "alone/metrics.jsonl").read_text() == (stage / "metrics.jsonl").read_text()


def test_what_was_lost_is_made_again_and_is_the_same(evidence: Path) -> None:
    before = results_of(evidence)
    (evidence / "results.json").unlink()
    shutil.rmtree(evidence / "seed4/labels-6/test")
    (evidence / "seed4/labels-6/finetune/results.json").unlink()
    settings = yaml.safe_load((evidence / "settings.yaml").read_text())
    words = ["study", settings["data"], "--config", evidence / "settings.yaml"]
    done = twoviews(*words, cwd=evidence.parents[1], light=True)
    assert done.returncode == 0, done.stderr
    after = results_of(evidence)
    for results in (before, after):
        results.pop("seconds")
    assert after == before


@pytest.mark.slow
def test_folds_train_whole_and_share_the_pretraining(tmp_path: Path) -> None:
    write_set(tmp_path / "data", train=40, test=20, unlabeled=24)
    folds = [list(range(0, 40, 2)), list(range(20))]
    text = "\n".join(" ".join(map(str, fold)) for fold in folds)
    (tmp_path / "data/stl10_binary/fold_indices.txt").write_text(text + "\n")
    words = [
        "--backbone",
        "resnet18_w16",
        "--precision",
        "float32",
        "--threads",
        "1",
        "--folds",
        "--sgd-probe",
        "--val-fraction",
        "0.2",
    ]
    batches = ["--pretrain.batch-size", "24", "--supervised.batch-size", "10", "--finetune.batch-size", "10"]
    epochs = [*("--supervised.epochs", "1", "--finetune.epochs", "1", "--pretrain.epochs", "1"), "--features.no-maps"]
    done = twoviews("study", "stl10", "--data-root", "data", *words, *batches, *epochs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    study = tmp_path / "output/study-stl10"
    results = results_of(study)
    rows = [(fold["fold"], fold["train"], fold["labels"]) for fold in results["folds"]]
    assert rows == [(0, 20, 20), (1, 20, 20)]  # validation images outside a fold are not its labels
    assert results["folds_summary"]["folds"] == 2
    for model in ("supervised", "finetuned", "linear_probe", "sgd_probe"):
        each = [fold["models"][model]["test_top1"] for fold in results["folds"]]
        assert results["folds_summary"]["models"][model]["test_top1"] == pytest.approx(np.mean(each))
        assert results["folds_summary"]["models"][model]["std"] == pytest.approx(np.std(each, ddof=1))
    assert yaml.safe_load((study / "fold-1/finetune/settings.yaml").read_text())["fold"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folds"], "photos has no official folds"),
        (["--labels-per-class", "1,5"], "--labels-per-class 1,5: each should be a whole number of at least 2"),
        (["--label-fractions", "0.5,2"], "--label-fractions 0.5,2: each should be above 0 and at most 1"),
        (["--label-fractions", "0.1,0.12"], "--label-fractions 0.12 comes to 6 labels, as --label-fractions 0.1 does"),
        (["--label-fractions", "0.99"], "--label-fractions 0.99 comes to 60 labels, as the study itself does"),
        (["--labels-per-class", "5,500"], "--labels-per-class 5,500: photos has at most 20 labels of a class"),
        (["--labels-per-class", "20"], "--labels-per-class 20: those are all labels that photos has"),
        (["--pretrain-seeds"], "--pretrain-seeds pretrains once for each seed"),
    ],
)
def test_what_can_not_be_is_refused_before_it_begins(words: list[str], said: str, photos: Path, tmp_path: Path) -> None:
    done = twoviews("study", photos, *FAST, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "output").rglob("settings.yaml"))
