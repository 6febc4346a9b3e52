"""The page of studies with several seeds, fewer labels, folds, tuning; and of runs that have none of it."""

from __future__ import annotations

import json
import shutil

import pytest
from fixture_more import add_feature_checks, add_folds, add_label_curve, add_tuning, several_seeds
from fixture_page import Page
from fixture_study import CLASSES, HOSTILE, edit_results, write_study
from test_feature_words import feature_sentences

from twoviews.report.page import write_report
from twoviews.report.run import load

SECTIONS = ("labels", "folds", "tuning", "curves", "features")


def without_pictures(folder):
    """Leave out what other tests draw: curves, maps and confusion matrices take most of a page's time."""
    for pattern in ("**/maps.npz", "**/metrics.jsonl", "**/views.png", "leaks.webp"):
        for path in folder.glob(pattern):
            path.unlink()
    for stage in ("supervised", "finetune"):
        shutil.rmtree(folder / stage)

    def plain(results):
        for row in results["models"].values():
            row["confusion"] = None

    edit_results(folder, plain)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A study of one seed without pictures, to copy."""
    return without_pictures(write_study(tmp_path_factory.mktemp("runs") / "study-sample", images=200))


@pytest.fixture
def study(small, tmp_path):
    return shutil.copytree(small, tmp_path / "study-sample")


def page_of(folder):
    html = write_report(folder).read_text(encoding="utf-8")
    page = Page(html)
    return html, page


def sections(html):
    return [name for name in SECTIONS if f'<section id="{name}">' in html]


def test_a_run_that_has_none_of_it_shows_none_of_it(study):
    html, page = page_of(study)
    assert sections(html) == ["features"]
    for absent in (
        "How few labels?",
        "Fold by fold",
        "Tuning",
        "Seed by seed",
        "How many clusters?",
        "shown, the first",
        "±",
    ):
        assert absent not in page.text


def test_everything_at_once(study):
    whole = add_feature_checks(add_tuning(add_folds(add_label_curve(several_seeds(study)))))
    (whole / "seed0/pretrain").mkdir(exist_ok=True)
    curve = {"points": [[5, 0.3], [10, 0.4], [15, 0.45], [20, 0.48], [25, 0.5], [30, 0.51]], "enough_points": False}
    (whole / "seed0/pretrain/results.json").write_text(json.dumps({"learning_curve": curve}))
    (whole / "seed0/pretrain/metrics.jsonl").write_text('{"epoch": 1, "loss": 5.0}\n{"epoch": 2, "loss": 4.0}\n')
    html, page = page_of(whole)
    assert sections(html) == [*SECTIONS]
    assert page.text.index("Pretraining helped:") < page.text.index("How few labels?") < page.text.index("All models")
    for said in (
        "over 3 seeds, mean test accuracy is",
        "A true difference of 3.1 points would have been found in four of five such studies of 3 seeds.",
        "labels a class the baseline reaches",
        "Labels a class In all Baseline Linear probe Fine-tuned Difference, points 95% interval Excludes zero",
        "Seed by seed Seed 0 Seed 1 Seed 2",
        "STL-10’s protocol (Coates, Ng and Lee, AISTATS 2011)",
        "Over 10 folds the fine-tuned model is",
        "tuned with the same budget, 4 trials of 165 epochs in all each",
        "2, chosen 2.76",
        "Seed 0 shown, the first of 3.",
        "6 looks at the features cannot show whether more epochs would help",
        "SimCLR, t-SNE 0.962",
        "By chance: neighbours kept 1.0% and same class 9.9%.",
        "40.2% ± 1.2 37.8 – 42.6",
        "kNN, k = 200, T = 0.07 (Wu et al. 2018) 200 0.07 47.0% 26.0% 46.0%",
        "0.01, chosen 59.4%",
    ):
        assert said in page.text
    features = json.loads((whole / "results.json").read_text())["features"]
    sentences = feature_sentences(features)
    assert len(sentences) > 8
    assert all(sentence in page.text for sentence in sentences)
    assert "nan" not in page.text.lower().split()
    assert page.policy.startswith("default-src 'none'; script-src 'nonce-")
    assert all(load.startswith(("data:image/", "#")) for load in page.loads)
    # The script of its curves, and their data.
    assert page.tags.count("script") == 2
    assert not {"link", "iframe"} & set(page.tags)


def test_names_from_files_are_text(study):
    add_feature_checks(add_tuning(add_folds(study)))

    def spoil(results):
        results["data"]["name"] = HOSTILE
        results["folds_summary"]["comparison"]["ci95_method"] = HOSTILE
        results["tuning"]["rule"] = results["tuning"]["finetune"]["because"] = HOSTILE
        results["tuning"]["supervised"]["trials"][0]["settings"][HOSTILE] = HOSTILE
        results["features"]["map_quality"][HOSTILE] = results["features"]["map_quality"]["pretrained"]
        results["features"]["knn_protocols"][0]["name"] = HOSTILE
        results["features"]["kmeans"]["protocol"] = results["features"]["knn"]["protocol"] = HOSTILE
        results["seconds"][HOSTILE] = 3.0

    edit_results(study, spoil)
    html, page = page_of(study)
    assert page.text.count(HOSTILE) > 8
    assert "<img src=x" not in html
    assert "script" not in page.tags


@pytest.mark.parametrize("value", [7, [None, "x", {"labels": "many"}], {"models": 3}])
def test_parts_that_are_no_such_thing_vanish(study, value):
    add_feature_checks(study)

    def spoil(results):
        for key in ("label_curve", "label_savings", "folds", "folds_summary", "tuning"):
            results[key] = value
        for key in ("map_quality", "knn_protocols", "test", "kmeans", "linear_probe"):
            results["features"][key] = value

    edit_results(study, spoil)
    html, page = page_of(study)
    assert sections(html) in (["features"], [])
    assert page.text.startswith("sample: did pretraining help?")


def test_a_study_of_several_seeds_that_stopped_says_where(study):
    several_seeds(study, seeds=2)
    (study / "results.json").unlink()
    with open(study / "settings.yaml", "a", encoding="utf-8") as stream:
        stream.write("\nseeds: 3\n")
    for part in ("seed0/labels-100", "seed0/labels-30", "seed1/fold-2"):
        (study / part / "supervised").mkdir(parents=True)
    (study / "seed0/labels-30/supervised/results.json").write_text("{}")
    own = study / "seed0/labels-100/supervised"
    (own / "settings.yaml").write_text("epochs: 126\n")
    (own / "metrics.jsonl").write_text('{"epoch": 3, "step": 12}\n')
    for seed in ("seed0", "seed1"):
        for stage in ("supervised", "finetune"):
            (study / seed / stage).mkdir(exist_ok=True)
            (study / seed / stage / "results.json").write_text("{}")
    (study / "seed1/test/results.json").unlink()
    assert load(study).unfinished == [
        "seed0/labels-30/features",
        "seed0/labels-100/supervised (stopped after epoch 3 of 126, step 12)",
        "seed1/test (begun)",
        "seed1/fold-2/supervised (stopped before its first epoch ended)",
        "seed2",
    ]


def test_very_many_open_stages_are_counted(study):
    (study / "results.json").unlink()
    for number in range(12):
        (study / f"labels-{number}").mkdir()
    found = load(study).unfinished
    assert len(found) == 8
    assert found[-1] == f"{12 + 2 - 7} more stages"


def test_a_part_of_a_study_has_a_page_of_its_own(study):
    part = study / "labels-30"
    for stage in ("supervised", "features", "finetune", "test"):
        (part / stage).mkdir(parents=True)
        (part / stage / "results.json").write_text("{}")
    models = {"supervised": {"test_top1": 0.4}, "finetuned": {"test_top1": 0.5}}
    (part / "test/results.json").write_text(json.dumps({"models": models}))
    found = load(part)
    assert found.unfinished == []
    assert "test accuracy is 10.0 percentage points higher" in page_of(part)[1].text


def test_one_seed_with_a_curve(study):
    _, page = page_of(add_label_curve(study, seeds=1))
    assert "This is one seed: another draw of the labels" in page.text
    assert "±" not in page.text
    assert CLASSES[0] in page.text


def test_a_curve_that_falls_is_said_to_be_evened_out(study):
    add_label_curve(study, seeds=1)
    assert "evened out" not in page_of(study)[1].text
    edit_results(study, lambda results: results["label_curve"][0]["models"]["finetuned"].update(test_top1=0.9))
    assert "read off between the points with its curve evened out where that falls." in page_of(study)[1].text
