"""The table of all models: balanced accuracy stands in it where it is another figure than accuracy."""

from __future__ import annotations

import json

import pytest
from fixture_study import edit_results, write_study

from twoviews.report.page import write_report
from twoviews.report.run import load
from twoviews.report.tables import models, protocols


@pytest.mark.parametrize(("balanced", "is_shown"), [((0.5, 0.7), True), ((0.88, 0.9), False), ((None, None), False)])
def test_balanced_accuracy_has_a_column_where_classes_are_uneven(tmp_path, balanced, is_shown):
    rows = {
        name: {"test_top1": top1, "ci95": [0.8, 0.95], "balanced_accuracy": value, "macro_f1": 0.6, "val_top1": 0.9}
        for name, top1, value in zip(("supervised", "finetuned"), (0.88, 0.9), balanced, strict=True)
    }
    (tmp_path / "results.json").write_text(json.dumps({"models": rows, "seeds": [0]}))
    (tmp_path / "features").mkdir()
    table = models(load(tmp_path))
    assert all(len(row) == len(table.header) for row in table.rows)
    assert ("Balanced" in table.header) is ("each class counts the same" in table.caption) is is_shown
    if is_shown:
        assert [row[table.header.index("Balanced")] for row in table.rows] == ["50.0%", "70.0%"]


def test_each_model_s_protocol_stands_beside_its_name_and_an_old_run_has_none(tmp_path):
    rows = {"knn": {"test_top1": 0.5, "protocol": "k = 20 & <all> vote"}, "linear_probe": {"test_top1": 0.6}}
    (tmp_path / "results.json").write_text(json.dumps({"models": rows, "seeds": [0]}))
    (tmp_path / "features").mkdir()
    table = protocols(load(tmp_path))
    assert table.rows == [["SimCLR, kNN", "k = 20 & <all> vote"]]
    (tmp_path / "results.json").write_text(json.dumps({"models": {"linear_probe": rows["linear_probe"]}}))
    assert protocols(load(tmp_path)) is None


def test_the_page_shows_the_protocols_and_does_without(tmp_path):
    study = write_study(tmp_path / "study")
    assert "The protocol of each figure" not in write_report(study).read_text()
    edit_results(study, lambda results: results["models"]["knn"].update(protocol="k = 20 & <all> vote"))
    page = write_report(study).read_text()
    assert "<summary>The protocol of each figure</summary>" in page
    assert "k = 20 &amp; &lt;all&gt; vote" in page
