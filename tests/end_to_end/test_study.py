"""`twoviews study` and the commands around it, on a small folder, as a user runs them."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image, ImageOps
from real_commands import CLASSES, FAST, STAGES, twoviews

from twoviews import load_backbone

DOCS = Path(__file__).parents[2] / "docs" / "runs.md"
MODELS = ["supervised", "finetuned", "linear_probe", "knn", "random_init_linear_probe"]


def figure(name: str) -> set[str]:
    return {f"logs/{name}.{kind}" for kind in ("png", "svg", "csv")}


RUN = {".lock", "settings.yaml", "environment.json", "data-index.json.gz", "results.json"}
TRAINED = {*RUN, "metrics.jsonl", "timing.jsonl", *figure("curves")}
CLASSIFIER = {*TRAINED, *figure("confusion_matrix_validation"), "models/classifier.safetensors"}
TESTED = ["random_init", "pretrained", "finetuned", "supervised"]
# The pictures are bars, so some are near copies of others; a level one is an upright one turned.
COPIES = {"leaks.csv", "leaks.webp", "conflicts.csv"}
MORE_MAPS = [
    *(f"features_{kind}_random_init" for kind in ("pca", "tsne")),
    "test_tsne_supervised",
    "test_tsne_finetuned",
]
EXPECTED = {
    "": {*RUN, "report.html", "data.json", "seconds.json", "plan.json", "label_errors.csv", *COPIES},
    "logs": {
        path.removeprefix("logs/")
        for name in ("accuracy", "reliability", "kmeans_silhouette", "kmeans_inertia", *MORE_MAPS)
        for path in figure(name)
    },
    "supervised": CLASSIFIER,
    "finetune": CLASSIFIER,
    "pretrain": {
        *TRAINED,
        "logs/views.png",
        "views.webp",
        "views.json",
        "models/backbone.safetensors",
        "models/projection_head.safetensors",
    },
    "features": {
        *RUN,
        "features-pretrained.npy",
        "features-random_init.npy",
        "index.csv",
        "maps.npz",
        "clusters.csv",
        "linear_probe.safetensors",
        "random_init_linear_probe.safetensors",
        *(path for name in ("pca_plot", "tsne_plot", "kmeans_plot") for path in figure(name)),
    },
    "test": {
        *RUN,
        "predictions.csv",
        "correct.npz",
        "index.csv",
        "maps.npz",
        "clusters.npz",
        "per_class.csv",
        "thumbnails.webp",
        "thumbnails.json",
        *figure("confusion_difference"),
        *(f"features-{model}.npy" for model in TESTED),
        *(f"confusion-{model}.csv" for model in MODELS),
        *(f"confusion_rates-{model}.csv" for model in MODELS),
        *(path for kind in ("matrix", "rates") for model in MODELS for path in figure(f"confusion_{kind}_{model}")),
    },
}


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "checkpoints" not in path.parts
    }


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_stage_leaves_exactly_its_files(study):
    for stage, expected in EXPECTED.items():
        folder = study / stage
        found = files(folder) if stage else {p.name for p in study.iterdir() if p.is_file()}
        assert found == expected, stage
    for stage in ("supervised", "pretrain", "finetune"):
        kept = sorted((study / stage / "checkpoints").glob("step-*"))
        # Pretraining saves at every step here; epochs shorter than ten seconds are not saved one by one.
        assert len(kept) == 2 if stage == "pretrain" else len(kept) in (1, 2)
        assert {p.name for p in kept[-1].iterdir()} == {
            "manifest.json",
            "model.safetensors",
            "optimizer.safetensors",
            "state.json",
        }


def test_the_docs_name_every_file(study):
    text = DOCS.read_text()
    for stage, expected in EXPECTED.items():
        for name in expected:
            pattern = r"(features-|confusion-|confusion_rates[-_]|confusion_matrix_)[a-z_]+(?=\.)"
            stem = name if "validation" in name or "difference" in name else re.sub(pattern, r"\1<model>", name)
            last = stem.split("/")[-1]
            # Figures are named by their PNG; that each is there as SVG and CSV too is said once.
            last = f"{last[:-4]}.png" if f"{name[:-4]}.png" in expected else last
            known = last in text or name.split("/")[-1] in text or last.replace("random_init_", "") in text
            assert known, f"docs/runs.md does not mention {stage}/{name}"


def test_results_follow_the_schema(study):
    results = json.loads((study / "results.json").read_text())
    assert results["schema"] == 1
    assert set(results) == {
        *("schema", "protocol", "data", "seeds", "pretrain_seeds", "models", "comparison"),
        *("label_curve", "label_savings", "folds", "folds_summary", "tuning", "features", "speed", "seconds"),
    }
    assert results["data"]["counts"] == {"unlabeled": 96, "train": 54, "val": 6, "test": 48}
    assert results["data"]["classes"] == sorted(CLASSES)
    assert list(results["models"]) == MODELS
    for model in results["models"].values():
        assert {"val_top1", "test_top1", "macro_f1", "std", "ci95", "ci95_method", "per_seed"} <= set(model)
        confusion = np.array(model["confusion"])
        assert confusion.sum(axis=1).tolist() == [16, 16, 16]
        assert np.trace(confusion) / 48 == model["test_top1"]
        assert model["ci95"][0] <= model["test_top1"] <= model["ci95"][1]
        assert model["std"] is None
    # Each figure says how it came about: no two models' protocols are the same.
    assert len({model["protocol"] for model in results["models"].values()}) == len(MODELS)
    comparison = results["comparison"]["finetuned_minus_supervised"]
    difference = results["models"]["finetuned"]["test_top1"] - results["models"]["supervised"]["test_top1"]
    assert abs(comparison["points"] - 100 * difference) < 1e-9
    assert comparison["mcnemar_p_per_seed"] == [comparison["mcnemar_p"]]
    assert len(results["features"]["pca"]["explained_variance_ratio"]) == 2
    assert {"accuracy", "nmi", "ari", "accuracy_shuffled", "random_init"} <= set(results["features"]["kmeans"])
    assert results["features"]["tsne"]["trustworthiness"] <= 1
    assert results["features"]["test"]["knn_test_top1"] == results["models"]["knn"]["test_top1"]
    assert results["speed"]["pretrain_images_per_second"] > 0
    assert {"supervised", "pretrain", "features", "finetune", "test", "total"} <= set(results["seconds"])


def test_predictions_agree_with_the_scores(study):
    results = json.loads((study / "results.json").read_text())
    predictions = rows(study / "test/predictions.csv")
    assert len(predictions) == 48
    for model in MODELS:
        right = sum(row[model] == row["label"] for row in predictions)
        assert right / 48 == results["models"][model]["test_top1"]
    assert all(row["file"].startswith("test/") for row in predictions)


def test_features_never_see_a_test_image(study):
    index = rows(study / "features/index.csv")
    assert {row["split"] for row in index} == {"train", "val"}
    assert len(index) == 60
    assert np.load(study / "features/features-pretrained.npy").shape == (60, 128)


def test_the_report_is_one_offline_page(study):
    page = (study / "report.html").read_text()
    assert "test accuracy is" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=[\"']https?://", page)


def test_started_again_it_is_complete_and_writes_nothing(study):
    before = {p: p.stat().st_mtime_ns for p in study.rglob("*") if p.is_file() and p.name != ".lock"}
    again = twoviews("study", study.parents[1] / "nowhere", cwd=study.parents[1])
    assert again.returncode == 3
    settings = yaml.safe_load((study / "settings.yaml").read_text())
    again = twoviews("study", settings["data"], "--config", study / "settings.yaml", cwd=study.parents[1])
    assert again.returncode == 0, again.stderr
    assert "already complete" in again.stdout
    assert "test accuracy is" in again.stdout  # what one came for: the verdict
    assert re.search(r"^report: .*report\.html$", again.stdout, re.MULTILINE)
    assert before == {p: p.stat().st_mtime_ns for p in study.rglob("*") if p.is_file() and p.name != ".lock"}


def test_other_settings_are_refused_with_their_difference(study, photos):
    other = twoviews("study", photos, *FAST, *STAGES, "--seed", "5", cwd=study.parents[1])
    assert other.returncode == 2
    assert "seed: 0 there, 5 now" in other.stderr
    assert other.stderr.count("\n") == 1


def test_predict_gives_every_picture_a_class(study, photos, tmp_path):
    done = twoviews("predict", study, photos / "test", "--out", "p.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "p.csv")
    top1 = json.loads((study / "results.json").read_text())["models"]["finetuned"]["test_top1"]
    assert f"48 images by the fine-tuned model (test accuracy {100 * top1:.1f} %), 0 left out; p.csv" in done.stdout
    tested = {row["file"]: row["finetuned"] for row in rows(study / "test/predictions.csv")}
    assert len(found) == 48
    assert not any(row["file"].startswith("=") for row in found)  # quoted, as a spreadsheet would run it
    for row in found:
        assert tested["test/" + row["file"].removeprefix("'")] == row["class"]
        assert 0 < float(row["confidence"]) <= 1


def test_export_gives_a_state_dict_that_timm_takes(study, tmp_path):
    done = twoviews("export", study, "--to", "pth", "--out", "exported", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    import twoviews.model.resnet50 as resnet

    backbone = resnet.create_backbone("resnet18_w16", "small")
    backbone.load_state_dict(torch.load(tmp_path / "exported/backbone.pth", weights_only=True))
    ours = load_backbone(study)
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone.eval()(image), ours(image))
    classifier = timm.create_model("resnet18_w16", num_classes=3)
    classifier.conv1 = torch.nn.Conv2d(3, 16, 3, padding=1, bias=False)
    classifier.maxpool = torch.nn.Identity()
    classifier.load_state_dict(torch.load(tmp_path / "exported/classifier.pth", weights_only=True))
    # Without its normalisation a state dict gives other features, and without the classes' order other classes.
    assert json.loads((tmp_path / "exported/backbone.json").read_text()) == ours.about
    about = json.loads((tmp_path / "exported/classifier.json").read_text())
    assert (about["mean"], len(about["class_names"])) == (ours.about["mean"], 3)


def test_timm_s_own_way_makes_the_images_that_a_backbone_was_trained_on(study, photos):
    backbone = load_backbone(study)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(backbone))
    stored = np.load(study / "features/features-pretrained.npy")
    listed = rows(study / "features/index.csv")
    images = [Image.open(photos / row["file"]).convert("RGB") for row in listed[:8]]
    size = (backbone.about["image_size"],) * 2
    seen = torch.stack([transform(ImageOps.fit(image, size, Image.Resampling.BICUBIC)) for image in images])
    assert not backbone.training
    with torch.no_grad():
        np.testing.assert_allclose(backbone(seen).numpy(), stored[[int(row["id"]) for row in listed[:8]]], atol=0.02)
    assert len(stored) == len(listed)


def test_user_files_are_untouched(photos, tmp_path):
    def tree() -> str:
        digest = hashlib.sha256()
        for path in sorted(photos.rglob("*")):
            digest.update(path.as_posix().encode())
            if path.is_file():
                digest.update(path.read_bytes())
        return digest.hexdigest()

    before = tree()
    assert twoviews("check", photos, "--image-size", "32", "--out", "checked", cwd=tmp_path).returncode == 0
    assert {p.name for p in (tmp_path / "checked").iterdir()} == {
        *("check.json", "skipped.csv", "leaks.csv", "conflicts.csv"),
    }
    assert tree() == before


@pytest.mark.slow
def test_stages_run_one_by_one_and_give_the_same_numbers(study, photos, tmp_path):
    """The commands alone are the study's stages: same seed, same settings, same metrics."""
    one = [*FAST, "--epochs", "3"]
    for words in (
        ("supervised", photos, *one, "--batch-size", "16"),
        ("pretrain", photos, *one, "--batch-size", "32"),
        ("features",),
        ("finetune", "--epochs", "3", "--batch-size", "16", "--precision", "float32", "--threads", "1"),
    ):
        done = twoviews(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
    for stage in ("supervised", "pretrain", "finetune"):
        alone = tmp_path / "output" / f"{stage}-photos" / "metrics.jsonl"
        assert alone.read_text() == (study / stage / "metrics.jsonl").read_text(), stage
    done = twoviews("test", "output/finetune-photos", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tested = json.loads((tmp_path / "output/test-photos/results.json").read_text())
    whole = json.loads((study / "results.json").read_text())
    assert tested["models"]["finetuned"]["test_top1"] == whole["models"]["finetuned"]["test_top1"]
