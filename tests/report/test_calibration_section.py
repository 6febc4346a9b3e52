"""The page's parts on confidence, hardest images, suspected labels and class balance, from study folders."""

from __future__ import annotations

import base64
import csv
import io
import re
import shutil

import numpy as np
import pytest
from fixture_explore import SIDE, add_explorable, colour_of
from fixture_more import several_seeds
from fixture_study import CLASSES, HOSTILE, write_study
from PIL import Image

from twoviews.files import write_csv
from twoviews.report.calibration import section
from twoviews.report.calibration.figure import reliability_diagram
from twoviews.report.calibration.section import calibration_section, reliability_figure, reliability_table
from twoviews.report.data import ReportData
from twoviews.report.health.class_balance import class_balance
from twoviews.report.health.section import health_section, label_errors_table
from twoviews.report.page import template
from twoviews.report.pictures import Picture
from twoviews.report.run import load
from twoviews.report.style import svg

IMAGES = 400


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def change(path, edit):
    rows = rows_of(path)
    edit(rows)
    write_csv(path, list(rows[0]), [list(row.values()) for row in rows])


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A study whose models' confidences differ: fine-tuned is too sure by 20 points, the baseline as sure as right."""
    folder = add_explorable(write_study(tmp_path_factory.mktemp("runs") / "study-sample", images=IMAGES))
    random = np.random.default_rng(2)
    spread = random.uniform(-0.1, 0.1, IMAGES)

    def confident(rows):
        for name, more in (("supervised", 0.0), ("finetuned", 0.2)):
            right = np.mean([row[name] == row["label"] for row in rows])
            for row, part in zip(rows, spread - spread.mean(), strict=True):
                row[f"{name}_confidence"] = f"{right + more + part:.4f}"

    change(folder / "test" / "predictions.csv", confident)
    return folder


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Diagrams take most of the time; one test draws them."""
    monkeypatch.setattr(section, "embed", lambda figure, alt, title: Picture("", alt, title))
    monkeypatch.setattr(section.calibration_figure, "reliability_diagram", lambda models: models)


@pytest.fixture
def study(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "study-sample")


def test_the_sentences_follow_from_the_numbers(kept):
    rows = rows_of(kept / "test" / "predictions.csv")
    found = calibration_section(ReportData.read(kept))
    right = np.mean([row["finetuned"] == row["label"] for row in rows])
    sure = np.mean([float(row["finetuned_confidence"]) for row in rows])
    first = (
        f"SimCLR, fine-tuned says {100 * sure:.0f}% on average and is right in {100 * right:.0f}%: over-confident by"
    )
    assert found.says[0].startswith(f"{first} {100 * (sure - right):.1f} points (95% interval ")
    assert "neither too sure nor too unsure, as far as 400 images can tell" in found.says[1]
    above = [row for row in rows if float(row["finetuned_confidence"]) >= 0.9]
    if len(above) >= 10:
        share = np.mean([row["finetuned"] == row["label"] for row in above])
        assert (
            f"Of the {len(above)} images of which it is at least 90% sure, {100 * share:.0f}% are right."
            in found.says[0]
        )
    assert [row[0] for row in found.table.rows][:2] == ["Supervised baseline", "SimCLR, fine-tuned"]
    assert len(found.table.rows) == 5
    assert [picture.title for picture in found.pictures] == ["Supervised baseline", "SimCLR, fine-tuned"]
    assert found.shown == ""


def test_a_model_that_is_not_sure_enough_is_called_so(study):
    def timid(rows):
        for row in rows:
            row["finetuned_confidence"] = "0.3000"

    change(study / "test" / "predictions.csv", timid)
    assert "under-confident by" in calibration_section(ReportData.read(study)).says[0]


def test_the_table_for_a_file_adds_up_to_the_sentence(kept):
    header, rows = reliability_table(ReportData.read(kept))
    table = [dict(zip(header, row, strict=True)) for row in rows if row[0] == "finetuned"]
    images = np.array([row["images"] for row in table])
    predictions = rows_of(kept / "test" / "predictions.csv")
    assert images.sum() == IMAGES
    accuracy = (images * [float(row["accuracy"]) for row in table]).sum() / IMAGES
    assert accuracy == pytest.approx(np.mean([row["finetuned"] == row["label"] for row in predictions]), abs=1e-3)
    assert all(float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"]) for row in table)


def test_the_diagram_shows_the_bins_of_each_model(kept):
    models = reliability_figure(ReportData.read(kept))
    assert [name for name, _ in models] == ["supervised", "finetuned"]
    figure = reliability_diagram(models)
    assert len(figure.axes) == 4
    for column, (_, one) in enumerate(models):
        points = [line.get_xydata() for line in figure.axes[column].lines if line.get_marker() == "o"]
        expected = 100 * np.stack([one.bins.confidence, one.bins.accuracy], axis=1)
        assert sorted(np.concatenate(points).tolist()) == sorted(expected.tolist())
    svg(figure)


def test_chance_is_not_told_of_a_model_that_is_always_wholly_sure(study):
    """kNN with one neighbour."""

    def sure(rows):
        for row in rows:
            row["knn_confidence"] = "1.0000"

    assert "can’t be told" not in calibration_section(ReportData.read(study)).table.caption
    change(study / "test" / "predictions.csv", sure)
    table = calibration_section(ReportData.read(study)).table
    told = {row[0]: row[table.header.index("By chance")] for row in table.rows}
    assert told["SimCLR, kNN"] == "–"
    assert all(value.startswith("< ") for name, value in told.items() if name != "SimCLR, kNN")
    assert "chance can’t be told" in table.caption


def test_scores_of_whole_probabilities_are_shown_where_the_run_has_them(study):
    assert "Brier" not in calibration_section(ReportData.read(study)).table.header
    data = ReportData.read(study)
    data.run.stages["test"].results["models"]["finetuned"].update(nll=1.25, brier=0.4321)
    table = calibration_section(data).table
    assert table.header[-2:] == ["NLL, nats", "Brier"]
    assert table.rows[1][-2:] == ["1.250", "0.432"]
    assert table.rows[0][-2:] == ["–", "–"]


def test_the_hardest_images_are_those_that_all_trained_models_get_wrong(kept):
    rows = rows_of(kept / "test" / "predictions.csv")
    trained = ("supervised", "finetuned", "linear_probe", "knn")
    wrong = [row for row in rows if all(row[name] != row["label"] for name in trained)]
    wrong.sort(key=lambda row: -sum(float(row[f"{name}_confidence"]) for name in trained))
    found = calibration_section(ReportData.read(kept)).hardest
    assert f"All 4 trained models get {len(wrong)} of 400 test images wrong." in found.says
    assert [cell.file for cell in found.grid.cells] == [row["file"] for row in wrong[:24]]
    assert found.grid.cells[0].lines[0] == f"Label: {wrong[0]['label']}"
    assert found.grid.cells[0].lines[1].startswith(f"Fine-tuned: {wrong[0]['finetuned']}")


def shown_colour(grid, cell):
    """The middle of what CSS shows of the sheet in a cell."""
    with Image.open(io.BytesIO(base64.b64decode(grid.src.partition(",")[2])), formats=["WEBP"]) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    across, down = (int(float(part.rstrip("%")) / 100) for part in grid.size.split())
    assert pixels.shape == (down * SIDE, across * SIDE, 3)
    x, y = (float(part.rstrip("%")) / 100 for part in cell.position.split())
    left, top = x * (across - 1) * SIDE, y * (down - 1) * SIDE
    return pixels[round(top) + SIDE // 2, round(left) + SIDE // 2]


def test_each_cell_shows_its_own_picture(kept):
    grid = calibration_section(ReportData.read(kept)).hardest.grid
    assert len(grid.cells) > 6
    places = {row["file"]: i for i, row in enumerate(rows_of(kept / "test" / "predictions.csv"))}
    for cell in grid.cells:
        assert np.abs(shown_colour(grid, cell) - colour_of(places[cell.file])).max() <= 24


def test_without_pictures_the_words_stay(study):
    (study / "test" / "thumbnails.webp").unlink()
    grid = calibration_section(ReportData.read(study)).hardest.grid
    assert grid.src == ""
    assert all(cell.lines and not cell.position for cell in grid.cells)


def plant(study, wanted=20):
    """Right answers of the fine-tuned model become the truth that wrong labels hide; returns ids of the wrong ones."""
    random = np.random.default_rng(5)
    chosen = set(random.choice(IMAGES, wanted, replace=False).tolist())

    def flip(rows):
        for i, row in enumerate(rows):
            if "finetuned" in row:
                row["finetuned"], row["finetuned_confidence"] = row["label"], "0.9000"
            if i in chosen:
                row["label"] = CLASSES[(CLASSES.index(row["label"]) + 3) % len(CLASSES)]

    index = rows_of(study / "test" / "index.csv")
    truth = np.array([CLASSES.index(row["label"]) for row in index])
    features = random.normal(size=(len(CLASSES), 12))[truth] + 0.4 * random.normal(size=(IMAGES, 12))
    np.save(study / "test" / "features-pretrained.npy", features.astype(np.float16), allow_pickle=False)
    change(study / "test" / "predictions.csv", flip)
    change(study / "test" / "index.csv", flip)
    return {f"{i:06d}" for i in chosen}


def test_planted_test_labels_are_listed_with_their_pictures(study):
    planted = plant(study)
    header, rows = label_errors_table(ReportData.read(study))
    listed = [dict(zip(header, row, strict=True)) for row in rows if row[0] == "test"]
    assert {row["id"] for row in listed} <= planted
    assert len(listed) > 0.8 * len(planted)
    answers = {row["id"]: row["finetuned"] for row in rows_of(study / "test" / "predictions.csv")}
    assert all(row["suggested"] == answers[row["id"]] for row in listed)
    errors = health_section(ReportData.read(study)).errors
    assert [cell.file for cell in errors.grid.cells] == [row["file"] for row in listed[:24]]
    assert f"There are {len(listed)} test images of 400" in errors.tested_says
    colour = colour_of(int(listed[0]["id"]))
    assert np.abs(shown_colour(errors.grid, errors.grid.cells[0]) - colour).max() <= 24


def test_training_images_on_the_maps_are_no_test_images(study):
    """With the same ids as test images, as a run that draws both has."""
    planted = plant(study)
    before = label_errors_table(ReportData.read(study))
    index = rows_of(study / "test" / "index.csv")
    more = [{**row, "split": "train", "file": f"train/{i}", "label": CLASSES[0]} for i, row in enumerate(index[:50])]
    write_csv(study / "test" / "index.csv", list(index[0]), [list(row.values()) for row in [*index, *more]])
    with np.load(study / "test" / "maps.npz") as maps:
        longer = {name: np.concatenate([maps[name], maps[name][:50]]) for name in maps.files}
    np.savez(study / "test" / "maps.npz", **longer)
    assert planted
    assert label_errors_table(ReportData.read(study)) == before
    assert class_balance(load(study), ReportData.read(study).tested).rows[0][1][-1][0] == str(
        sum(row["label"] == CLASSES[0] for row in rows_of(study / "test" / "predictions.csv"))
    )


def test_labelled_images_are_looked_at_where_the_feature_check_kept_their_features(study):
    assert health_section(ReportData.read(study)).errors.trained_says == ""
    index = rows_of(study / "features" / "index.csv")
    random = np.random.default_rng(1)
    labels = np.array([CLASSES.index(row["label"]) for row in index])
    features = random.normal(size=(len(CLASSES), 12))[labels] + 0.4 * random.normal(size=(len(index), 12))
    np.save(study / "features" / "features-pretrained.npy", features.astype(np.float16), allow_pickle=False)
    quiet = health_section(ReportData.read(study)).errors
    assert quiet.table is None
    assert "none of the 1,000 training and validation images are suspected" in quiet.trained_says

    def flip(rows):
        rows[7]["label"] = CLASSES[(labels[7] + 1) % len(CLASSES)]

    change(study / "features" / "index.csv", flip)
    [row] = health_section(ReportData.read(study)).errors.table.rows
    assert row[:4] == [index[7]["file"], "train", CLASSES[(labels[7] + 1) % len(CLASSES)], CLASSES[labels[7]]]


def test_features_without_a_list_of_their_images_are_no_damage(study):
    """What --no-maps leaves."""
    np.save(study / "features" / "features-pretrained.npy", np.ones((1000, 4), dtype=np.float16), allow_pickle=False)
    (study / "features" / "index.csv").unlink()
    data = ReportData.read(study)
    assert health_section(data).errors.trained_says == ""
    assert data.run.problems == []


@pytest.mark.parametrize("damage", ["missing", "nonsense", "short", "not finite"])
def test_features_that_do_not_fit_leave_the_rest(study, damage):
    path = study / "features" / "features-pretrained.npy"
    if damage == "nonsense":
        path.write_bytes(b"no array")
    elif damage != "missing":
        np.save(path, np.full((1000 if damage == "not finite" else 3, 4), np.nan, dtype=np.float16), allow_pickle=False)
    data = ReportData.read(study)
    found = health_section(data)
    assert found.balance is not None
    assert found.errors.trained_says == ""
    assert bool(data.run.problems) == (damage in ("nonsense", "short"))


def test_class_balance_counts_each_split_and_says_what_follows(study):
    data = ReportData.read(study)
    even = class_balance(data.run, data.tested)
    assert even.splits == ["Training", "Validation", "Test"]
    index = rows_of(study / "features" / "index.csv")
    for name, cells in even.rows:
        wanted = [sum(row["label"] == name and row["split"] == split for row in index) for split in ("train", "val")]
        assert [cell for cell, _ in cells] == [*(f"{n:,}" for n in wanted), "40"]
    assert max(float(cells[0][1].rstrip("%")) for _, cells in even.rows) == 100

    def mostly_cats(rows):
        for i, row in enumerate(rows):
            row["label"] = "cat" if i < 300 else CLASSES[4 + i % 4]

    change(study / "test" / "predictions.csv", mostly_cats)
    data = ReportData.read(study)
    uneven = class_balance(data.run, data.tested)
    assert uneven.is_warning
    assert uneven.says[0] == "75.0% of the test images are cat, so always saying cat would be right that often."
    assert "There are no test images of airplane, automobile, bird and 2 more." in uneven.says
    assert "macro F1" in uneven.says[-1]


def test_many_classes_show_the_largest_and_the_smallest(study):
    drawn = np.random.default_rng(0).integers(0, 40, 900)
    rows = [[i, "train", f"train/{i}", f"class {n:02d}"] for i, n in enumerate(drawn)]
    write_csv(study / "features" / "index.csv", ["id", "split", "file", "label"], rows)
    run = load(study)
    run.results["data"]["classes"] = [f"class {i:02d}" for i in range(40)]
    found = class_balance(run, None)
    counts = sorted(np.bincount(drawn, minlength=40), reverse=True)
    assert found.hidden == 10
    assert [int(cells[0][0]) for _, cells in found.rows] == [*counts[:15], *counts[-15:]]


@pytest.mark.parametrize("stage", ["supervised", "pretrain", "features"])
def test_a_run_without_a_test_stage_has_no_word_on_confidence(study, stage):
    data = ReportData.read(study / stage)
    assert calibration_section(data) is None
    assert reliability_table(data) is None
    assert (health_section(data) is not None) == (stage == "features")


def test_a_test_stage_alone_and_the_first_of_several_seeds(study):
    assert calibration_section(ReportData.read(study / "test")).hardest is not None
    found = calibration_section(ReportData.read(several_seeds(study)))
    assert found.shown == "Seed 0 shown, the first of 3."


def rename(names):
    def edit(rows):
        for row in rows:
            row["label"] = names[row["label"]]

    return edit


def test_hostile_names_and_damaged_confidences_are_no_trouble(study):
    names = dict(zip(CLASSES, [HOSTILE, "=cmd|' /C calc'!A0", *CLASSES[2:]], strict=True))

    def spoil(rows):
        for row, bad in zip(rows, ("", "nan", "inf", "-1", "7", "x"), strict=False):
            row["finetuned_confidence"] = bad
        for row in rows:
            row.update({key: names.get(value, value) for key, value in row.items()}, file=f'"><b>{HOSTILE}')

    for table in ("test/predictions.csv", "test/index.csv", "features/index.csv"):
        change(study / table, spoil if "pred" in table else rename(names))
    data = ReportData.read(study)
    data.run.results["data"]["classes"] = list(names.values())
    found, health = calibration_section(data), health_section(data)
    assert HOSTILE in [name for name, _ in health.balance.rows]
    page = template().environment.from_string(
        "{% macro picture(it) %}{{ it.alt }}{% endmacro %}{% macro table(it, class='') %}{{ it.rows }}{% endmacro %}"
        "{% include 'calibration/section.html.j2' %}{% include 'health/class_balance.html.j2' %}"
        "{% include 'health/label_errors.html.j2' %}"
    )
    html = page.render(calibration=found, health=health, count=str)
    assert html.count("&lt;/script&gt;") > 20
    assert not re.search(r"<(b|script|img)\b", html)
    # The six damaged answers are left out, the others judged.
    assert sum(row[3] for row in reliability_table(data)[1] if row[0] == "finetuned") == IMAGES - 6
