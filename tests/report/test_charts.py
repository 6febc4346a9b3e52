"""The charts' data from runs that are whole, long, damaged, cut short or of several seeds."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from fixture_charts import CLASSIFIER, PRETRAINING, classifier_rows, measured, pretraining_rows, write_rows
from fixture_more import add_label_curve
from fixture_page import Page

from twoviews.report import charts, style
from twoviews.report.charts.section import charts_section
from twoviews.report.page import template, write_report
from twoviews.report.run import load
from twoviews.report.style import BLUE, LOOKS, ORANGE

SCRIPT = "".join(file.read_text(encoding="utf-8") for file in Path(charts.__file__).parent.glob("*.js"))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """What the pictures show is tested elsewhere; drawing them takes most of a page's time."""
    monkeypatch.setattr(style, "svg", lambda figure: b"<svg/>")


@pytest.fixture
def study(tmp_path):
    """A study that only trained: its three stages' curves."""
    for stage in ("supervised", "finetune"):
        write_rows(tmp_path / "study" / stage, classifier_rows(12))
    write_rows(tmp_path / "study" / "pretrain", pretraining_rows(20))
    return tmp_path / "study"


def data_of(folder, **limits):
    """The charts' data as the page holds it."""
    section = charts_section(load(folder), **limits)
    text = str(template().environment.from_string("{{ data | tojson }}").render(data=section.data))
    return json.loads(text), section


def points(data, chart, name="", panel=0):
    """Place and value of each point of a line."""
    line = next(one for one in data["charts"][chart]["panels"][panel]["lines"] if one["name"] == name)
    return list(zip(data["places"][line["x"]], line["y"], strict=True))


def test_data_is_what_the_run_measured(study):
    data, section = data_of(study)
    for stage in ("supervised", "finetune"):
        for i, (key, scale) in enumerate(CLASSIFIER.items()):
            name = "training" if key.startswith("train") else "validation"
            assert points(data, stage, name, panel=i // 2) == measured(study / stage, key, scale)
    for key in PRETRAINING:
        chart = "pretrain-alignment" if key == "uniformity" else f"pretrain-{key}"
        name = key if key in ("alignment", "uniformity") else ""
        scale = 100 if key.endswith("top1") else 1
        assert points(data, chart, name) == measured(study / "pretrain", key, scale)
        assert len(points(data, chart, name)) == (20 if key in PRETRAINING[:3] else 4)
    assert section.thinned == section.faint == ""


def test_an_epoch_without_a_number_is_a_gap_and_one_not_measured_has_no_point(study):
    rows = classifier_rows(6)
    rows[1]["val_loss"] = float("nan")
    rows[2]["val_loss"] = None
    rows[3]["val_loss"] = float("inf")
    del rows[4]["val_loss"]
    write_rows(study / "supervised", rows)
    found = points(data_of(study)[0], "supervised", "validation")
    assert [epoch for epoch, _ in found] == [1, 2, 3, 4, 6]
    assert [value is None for _, value in found] == [False, True, True, True, False]


def test_what_was_never_measured_has_no_chart(study):
    write_rows(study / "pretrain", [{"epoch": 1, "loss": 5.0, "knn_top1": None}])
    write_rows(study / "finetune", [{"epoch": 1, "train_loss": float("nan")}])
    data, _ = data_of(study)
    assert sorted(data["charts"]) == ["pretrain-loss", "supervised"]
    for stage in ("supervised", "finetune", "pretrain"):
        write_rows(study / stage, [])
    assert charts_section(load(study)) is None
    html = write_report(study).read_text(encoding="utf-8")
    assert "script" not in Page(html).tags
    assert "script-src" not in Page(html).policy


def test_long_curves_are_thinned_evenly_and_the_page_says_so(study):
    write_rows(study / "pretrain", pretraining_rows(2000))
    data, section = data_of(study)
    found = points(data, "pretrain-loss")
    assert (len(found), found[0][0], found[-1][0]) == (500, 1, 2000)
    steps = {after[0] - before[0] for before, after in itertools.pairwise(found)}
    assert steps <= {4, 5}
    everything = dict(measured(study / "pretrain", "loss"))
    assert all(everything[epoch] == value for epoch, value in found)
    assert len(points(data, "pretrain-knn_top1")) == 400
    assert len(points(data, "supervised", "training")) == 12
    said = "Of curves longer than 500 epochs 500 are drawn, evenly spaced; metrics.jsonl holds all 2,000."
    assert said in section.thinned
    rest = dict.fromkeys(("shown", "curves", "pretraining", "learning", "jumps"))
    assert said in template("charts/charts.html.j2").render(charts=section, **rest)


def test_data_stay_within_their_bytes(study):
    for seed in range(12):
        write_rows(study / f"seed{seed}" / "finetune", classifier_rows(100, seed / 9))
    write_rows(study / "seed0" / "pretrain", pretraining_rows(200))
    data, section = data_of(study)
    assert len(points(data, "finetune", "training")) == 100
    assert "9 of the 11 other seeds" in section.faint
    most = len(json.dumps(data, separators=(",", ":"))) // 3
    small, section = data_of(study, most_bytes=most)
    assert most / 2 < len(json.dumps(small, separators=(",", ":"))) <= most
    left = len(points(small, "finetune", "training"))
    assert left < 50
    assert f"{left} epochs {left} are drawn" in section.thinned


def test_other_seeds_are_faint(study, tmp_path):
    for seed in (3, 4):
        write_rows(tmp_path / "two" / f"seed{seed}" / "supervised", classifier_rows(12, seed))
    (tmp_path / "two" / "seed5").mkdir()  # made, and nothing in it yet
    data, section = data_of(tmp_path / "two")
    line = data["charts"]["supervised"]["panels"][0]["lines"][0]
    assert points(data, "supervised", "training") == measured(tmp_path / "two/seed3/supervised", "train_loss")
    (faint,) = line["faint"]
    assert faint["name"] == "seed 4"
    found = list(zip(data["places"][faint["x"]], faint["y"], strict=True))
    assert found == measured(tmp_path / "two/seed4/supervised", "train_loss")
    assert "Faint lines are the other seeds" in section.faint


def test_a_stage_alone_and_a_study_without_a_test_have_charts(study):
    for folder in (study, study / "pretrain", study / "supervised"):
        html = write_report(folder).read_text(encoding="utf-8")
        page = Page(html)
        nonce = re.search(r"script-src 'nonce-(\w{32})'; style-src", page.policy)
        assert html.count(nonce[1]) == 2  # the policy's, and the one script's
        assert page.tags.count("script") == 2  # with the data
        frames = re.findall(r'data-chart="([^"]+)" style="--ratio: [\d.]+"><img src="data:image/svg', html)
        assert frames == list(json.loads(page.script[: page.script.index("\n(() =>")])["charts"])


def test_the_label_curve_has_points_intervals_seeds_and_what_is_saved(tmp_path):
    tops = {"supervised": 0.55, "finetuned": 0.6, "linear_probe": 0.58}
    models = {
        name: {"test_top1": top, "std": 0.01, "ci95": [top - 0.02, top + 0.02], "per_seed": [top - 0.01, top, top]}
        for name, top in tops.items()
    }
    comparison = {"finetuned_minus_supervised": {"points": 5.0, "ci95": [1, 9]}}
    results = {"data": {"classes": ["a"] * 10}, "models": models, "comparison": comparison, "seeds": [0, 1, 2]}
    (tmp_path / "supervised").mkdir()
    (tmp_path / "results.json").write_text(json.dumps(results))
    add_label_curve(tmp_path)
    curve = json.loads((tmp_path / "results.json").read_text())["label_curve"]
    chart = data_of(tmp_path)[0]["charts"]["labels"]
    assert [(mark["x"], mark["said"]) for mark in chart["x"]["marks"]] == [
        (100, "10 labels a class"),
        (300, "30 labels a class"),
        (1000, "100 labels a class"),
    ]
    (panel,) = chart["panels"]
    for line, name in zip(panel["lines"], ("supervised", "linear_probe", "finetuned"), strict=True):
        for i, point in enumerate(curve):
            model = point["models"][name]
            assert line["y"][i] == pytest.approx(100 * model["test_top1"], rel=1e-5)
            assert line["ends"][i] == pytest.approx([100 * end for end in model["ci95"]], rel=1e-5)
            assert line["seeds"][i] == pytest.approx([100 * one for one in model["per_seed"]], rel=1e-5)
    assert panel["saved"]["from"] == 1000
    assert panel["saved"]["to"] < 1000
    assert "labels a class" in panel["saved"]["says"][0]


def test_scripts_write_no_markup_and_evaluate_no_text():
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "fetch("):
        assert name not in SCRIPT
    assert "wheel" not in SCRIPT  # the page scrolls under the hand
    assert "</script" not in SCRIPT.lower()


def test_lines_have_the_figures_colours():
    css = (Path(charts.__file__).parent / "charts.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"^\.ch-(\w+) \{ --line: (#\w+)", css, re.MULTILINE))
    assert light == {"blue": BLUE, "orange": ORANGE, "grey": LOOKS["linear_probe"][0]}
