"""Figures that only the page would have are files of the study too."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from fixture_more import add_feature_checks, add_folds, add_label_curve, several_seeds
from fixture_study import ACCURACIES, CLASSES, edit_results, write_study
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist

from twoviews.report import style
from twoviews.report.data import ReportData
from twoviews.report.study_figures import write_study_figures

ALWAYS = {"accuracy", "reliability", "features_pca_random_init", "features_tsne_random_init"}
TESTED = {"test_tsne_supervised", "test_tsne_finetuned"}


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "study-sample", images=200)


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """The figures, which are asked what they show; drawing them takes long, and other tests do."""
    found = []

    def remember(figure):
        found.append(figure)
        return b"pixels", b"shapes"

    monkeypatch.setattr(style, "png_and_svg", remember)
    return found


def rows(folder, name):
    with open(folder / "logs" / f"{name}.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def names(paths):
    assert len(paths) == 3 * len({path.stem for path in paths})
    assert all(path.stat().st_size > 0 for path in paths)
    return {path.stem for path in paths}


def test_a_study_of_one_seed(one_seed, drawn):
    made = names(write_study_figures(ReportData.read(one_seed)))
    assert made == ALWAYS | TESTED
    assert len(drawn) == len(made)
    shown = drawn[-1].axes[0].collections[0].get_offsets()
    results = json.loads((one_seed / "results.json").read_text())
    accuracies = {row["model"]: float(row["test_top1"]) for row in rows(one_seed, "accuracy")}
    assert accuracies == {name: results["models"][name]["test_top1"] for name in ACCURACIES}
    drawn = rows(one_seed, "test_tsne_finetuned")
    with np.load(one_seed / "test/maps.npz", allow_pickle=False) as archive:
        points, reference = archive["finetuned_tsne"], archive["pretrained_tsne"]
    places = np.array([[float(row["x"]), float(row["y"])] for row in drawn])
    # As in the run, turned and sized to match the pretrained backbone's: no further turn brings them nearer.
    ratio = pdist(places) / pdist(points)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    turn, _ = orthogonal_procrustes(places - places.mean(0), reference - reference.mean(0))
    np.testing.assert_allclose(turn, np.eye(2), atol=1e-4)
    np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(places, axis=0), rtol=1e-4, atol=1e-4)
    with open(one_seed / "test/index.csv", newline="") as stream:
        index = list(csv.DictReader(stream))
    assert [(row["id"], row["class"]) for row in drawn] == [(row["id"], row["label"]) for row in index]


def test_umap_is_a_figure_where_the_run_has_it(one_seed, tmp_path):
    study = shutil.copytree(one_seed, tmp_path / "study-sample", ignore=shutil.ignore_patterns("logs"))
    with np.load(study / "test/maps.npz", allow_pickle=False) as archive:
        maps = dict(archive)
    more = {name.replace("_tsne", "_umap"): 2 * places[:, ::-1] for name, places in maps.items() if "_tsne" in name}
    np.savez(study / "test/maps.npz", **maps, **more)
    made = names(write_study_figures(ReportData.read(study)))
    umaps = {f"test_umap_{model}" for model in ("random_init", "pretrained", "supervised", "finetuned")}
    assert made == ALWAYS | TESTED | umaps
    found = [[float(row["x"]), float(row["y"])] for row in rows(study, "test_umap_pretrained")]
    np.testing.assert_allclose(found, more["pretrained_umap"], rtol=1e-5)


def test_everything_that_a_study_may_have(one_seed, tmp_path):
    study = shutil.copytree(one_seed, tmp_path / "study-sample")
    for path in study.glob("*/maps.npz"):
        path.unlink()
    for add in (several_seeds, add_label_curve, add_folds, add_feature_checks):
        add(study)
    made = names(write_study_figures(ReportData.read(study)))
    summed = {"confusion_matrix_supervised", "confusion_matrix_finetuned", "confusion_difference"}
    curves = {"label_curve", "folds", "kmeans_silhouette", "kmeans_inertia"}
    assert made >= {"accuracy", *summed, *curves}
    results = json.loads((study / "results.json").read_text())
    before, after = (
        np.array(results["models"][model]["confusion"], dtype=int) for model in ("supervised", "finetuned")
    )
    changed = [[int(row[name]) for name in CLASSES] for row in rows(study, "confusion_difference")]
    np.testing.assert_array_equal(changed, after - before)
    curve = [(float(row["k"]), float(row["inertia"])) for row in rows(study, "kmeans_inertia")]
    assert curve == [(point["k"], point["inertia"]) for point in results["features"]["kmeans"]["curve"]]
    tops = [float(row["test_top1"]) for row in rows(study, "folds") if row["model"] == "finetuned"]
    assert tops == [fold["models"]["finetuned"]["test_top1"] for fold in results["folds"]]


def test_numbers_that_are_missing_leave_figures_out(one_seed, tmp_path):
    study = shutil.copytree(
        one_seed, tmp_path / "study-sample", ignore=shutil.ignore_patterns("*.csv", "logs", "*.npz")
    )

    def spoil(results):
        results["models"] = {"supervised": {"test_top1": None}, "finetuned": None}
        results["features"] = "none"

    edit_results(study, spoil)
    assert write_study_figures(ReportData.read(study)) == []
    assert not (study / "logs").exists()
