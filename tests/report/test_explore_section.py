"""The explorer's section from run folders that are whole, old, half-finished, large or hostile."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixture_explore import BACKBONES, SIDE, add_clusters, add_explorable, add_labelled, read_index
from fixture_more import several_seeds
from fixture_study import HOSTILE, stop_early, write_study

from twoviews.report import explore
from twoviews.report.data import ReportData
from twoviews.report.explore.neighbours import nearest
from twoviews.report.explore.section import ExploreSection, explore_section
from twoviews.report.features import tables as feature_tables
from twoviews.report.page import template
from twoviews.spacing import evenly_spaced


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return add_explorable(write_study(tmp_path_factory.mktemp("runs") / "study-sample", images=300))


@pytest.fixture
def fresh(study, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(study, tmp_path / "study-sample")


def section_of(folder, **limits) -> tuple[ExploreSection, dict]:
    section = explore_section(ReportData.read(folder), **limits)
    assert section is not None
    return section, json.loads(json_of(section))


def json_of(section: ExploreSection) -> str:
    """The data as the page holds it."""
    return str(template().environment.from_string("{{ data | tojson }}").render(data=section.data))


def html_of(section: ExploreSection) -> str:
    """The section as the page holds it."""
    return str(template("explore/section.html.j2").render(explore=section))


SCRIPT = "".join(file.read_text(encoding="utf-8") for file in Path(explore.__file__).parent.glob("*.js"))


def wholes(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<u2")


def test_data_says_what_the_run_says(study):
    section, data = section_of(study)
    index = read_index(study)
    assert section.images == data["count"] == len(index) == 300
    assert data["files"] == [row["file"] for row in index]
    assert [data["classes"][k] for k in wholes(data["labels"])] == [row["label"] for row in index]
    assert [model["key"] for model in data["models"]] == list(BACKBONES)
    assert data["kinds"] == {"tsne": "t-SNE", "pca": "PCA"}
    after = next(model for model in data["models"] if model["key"] == "finetuned")
    assert [data["classes"][k] for k in wholes(after["predicted"])] == [row["prediction"] for row in index]
    assert set(base64.b64decode(after["confidence"])) == {175}  # 0.7 of 250
    features = np.load(study / "test" / "features-finetuned.npy")
    assert wholes(after["neighbours"]).reshape(300, 8).tolist() == nearest(features).tolist()
    assert data["sheet"]["size"] == SIDE
    assert base64.b64decode(data["sheet"]["webp"]) == (study / "test" / "thumbnails.webp").read_bytes()
    assert "evenly spaced" not in html_of(section)


def test_more_images_than_fit_are_sampled_and_the_page_says_so(study):
    section, data = section_of(study, most_images=100)
    assert section.images == data["count"] == 100
    assert "100 of 300 test images are shown, evenly spaced to keep this page small" in html_of(section)
    index = read_index(study)
    assert data["files"][0] == index[0]["file"]
    assert data["files"][-1] == index[297]["file"]
    assert wholes(data["models"][0]["neighbours"]).max() < 100
    whole = len(json_of(section_of(study)[0]))
    smaller, _ = section_of(study, most_bytes=whole // 2)
    assert 20 < smaller.images < 300
    assert len(json_of(smaller)) < whole // 2 + 2000


def test_features_of_all_test_images_are_read_by_id(fresh):
    # The maps may draw only every third test image, while features and predictions hold all.
    test = fresh / "test"
    lines = (test / "index.csv").read_text().splitlines()
    (test / "index.csv").write_text("\n".join([lines[0], *lines[1::3]]) + "\n")
    with np.load(test / "maps.npz") as archive:
        np.savez(test / "maps.npz", **{name: archive[name][::3] for name in archive.files})
    section, data = section_of(fresh)
    assert "100 of 300 test images are shown, evenly spaced." in html_of(section)
    features = np.load(test / "features-supervised.npy")[::3]
    model = next(model for model in data["models"] if model["key"] == "supervised")
    assert wholes(model["neighbours"]).reshape(100, 8).tolist() == nearest(features).tolist()
    assert wholes(data["sheet"]["places"]).tolist() == list(range(0, 300, 3))


def test_hostile_names_stay_text(tmp_path):
    names = [HOSTILE, "<!--", "</SCRIPT >", "&lt;b&gt;", "line\u2028end", "\u202ereversed", "=1+1"]
    folder = add_explorable(write_study(tmp_path / "study", names, images=70))
    section, data = section_of(folder)
    assert not re.search(r"[<>&\u2028\u202e]", json_of(section))
    assert json_of(section).isascii()
    assert data["classes"][:4] == names[:4]
    assert data["classes"][5] == "\N{REPLACEMENT CHARACTER}reversed"
    assert all(label != 65535 for label in wholes(data["labels"]))
    assert HOSTILE not in html_of(section)
    assert "</script" not in SCRIPT.lower()
    assert "<!--" not in SCRIPT


def test_scripts_write_no_markup_and_evaluate_no_text():
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "fetch("):
        assert name not in SCRIPT


def test_old_and_unfinished_runs_have_no_section(tmp_path):
    folder = write_study(tmp_path / "study", images=100)
    without_pictures, data = section_of(folder)
    assert without_pictures.images == 100
    assert data["sheet"] is None
    assert all(model["neighbours"] is None for model in data["models"])
    assert "click it for its nearest" not in html_of(without_pictures)
    assert explore_section(ReportData.read(folder / "pretrain")) is None
    (folder / "test" / "maps.npz").unlink()
    assert explore_section(ReportData.read(folder)) is None
    stop_early(folder)
    assert explore_section(ReportData.read(folder)) is None


@pytest.mark.parametrize("name", ["features-finetuned.npy", "thumbnails.webp", "thumbnails.json", "maps.npz"])
def test_a_damaged_file_costs_only_what_it_held(fresh, name):
    (fresh / "test" / name).write_bytes(b"\x93NUMPY\x01\x00 torn")
    data = ReportData.read(fresh)
    run, section = data.run, explore_section(data)
    assert (section is None) == (name == "maps.npz")
    assert [problem for problem in run.problems if name.split(".")[0] in problem]


def test_a_seed_and_a_single_test_run_are_explorable(fresh):
    assert section_of(fresh / "test")[0].images == 300
    data = ReportData.read(several_seeds(fresh, 2))
    run, section = data.run, explore_section(data)
    assert section is not None
    assert "Seed 0" in run.shown
    assert run.shown in html_of(section)


def test_clusters_are_those_of_the_file_row_by_row(fresh):
    assert all(model["clusters"] is None for model in section_of(fresh)[1]["models"])
    written = add_clusters(fresh)
    _, data = section_of(fresh)
    for model in data["models"]:
        assert wholes(model["clusters"]).tolist() == written[model["key"]].tolist()
    smaller = section_of(fresh, most_images=100)[1]
    rows = evenly_spaced(300, 100)
    assert wholes(smaller["models"][0]["clusters"]).tolist() == written[data["models"][0]["key"]][rows].tolist()


def test_clusters_that_do_not_fit_are_noted_and_left_out(fresh):
    written = add_clusters(fresh)
    np.savez(fresh / "test" / "clusters.npz", **{**written, "supervised": written["supervised"][:-1]})
    data = ReportData.read(fresh)
    run, section = data.run, explore_section(data)
    assert section is not None
    missing = [model["key"] for model in section.data["models"] if model["clusters"] is None]
    assert missing == ["supervised"]
    assert run.problems == ["test/clusters.npz and test/index.csv don't fit together"]


def test_labelled_images_join_the_maps_and_change_nothing_of_the_test_images(fresh):
    before = section_of(fresh)[1]
    add_labelled(fresh, train=40, val=10)
    clusters = add_clusters(fresh)
    section, data = section_of(fresh)
    assert (section.images, section.tested, section.labelled) == (350, 300, 50)
    assert list(base64.b64decode(data["splits"])) == [0] * 300 + [1] * 40 + [2] * 10
    assert data["files"][300] == "train/00000"
    assert data["files"][340] == "val/00000"
    # Ids start again in each split: the picture is still that of the image, and no prediction is taken from another.
    assert wholes(data["sheet"]["places"]).tolist() == list(range(350))
    assert len(data["models"]) == len(before["models"])
    for old, new in zip(before["models"], data["models"], strict=True):
        assert wholes(new["predicted"])[:300].tolist() == wholes(old["predicted"]).tolist()
        assert set(wholes(new["predicted"])[300:].tolist()) == {65535}
        assert set(base64.b64decode(new["confidence"])[300:]) == {255}
        near = wholes(new["neighbours"]).reshape(350, 8)
        assert near[:300].tolist() == wholes(old["neighbours"]).reshape(300, 8).tolist()
        assert near[300:].max() < 300
        assert wholes(new["clusters"]).tolist() == clusters[new["key"]].tolist()
    text = " ".join(html_of(section).split())
    assert "300 test images, and fainter, as rings, 50 of training and validation" in text
    # The rest of the page is of test images.
    only = ReportData.read(fresh).tested_maps
    assert only is not None
    assert len(only.labels) == len(only.index) == 300
    assert all(points.shape == (300, 2) for points in only.points.values())


def test_of_labelled_images_the_page_says_how_many_there_are(fresh):
    add_labelled(fresh, train=40, val=10)
    path = fresh / "test" / "results.json"
    results = json.loads(path.read_text())
    results["maps"]["images"] |= {"train": 900, "val": 100}
    path.write_text(json.dumps(results))
    words = "300 of 300 test images and 50 of 1,000 of training and validation are shown, evenly spaced"
    assert f"{words}." in html_of(section_of(fresh)[0])
    section, data = section_of(fresh, most_images=175)
    assert (section.tested, section.labelled) == (150, 25)
    assert "150 of 300 test images and 25 of 1,000 of training and validation are shown" in html_of(section)
    assert wholes(data["models"][0]["neighbours"]).max() < 150


def test_labelled_images_without_features_only_lack_neighbours(fresh):
    add_labelled(fresh, train=12, val=0)
    (fresh / "test" / "train_features-finetuned.npy").unlink()
    _, data = section_of(fresh)
    for model in data["models"]:
        near = wholes(model["neighbours"]).reshape(312, 8)
        assert near[:300].max() < 300
        assert (near[300:] == 65535).all() == (model["key"] == "finetuned")


def test_umap_is_shown_where_it_was_drawn(fresh):
    assert "near each other on a t-SNE map" in html_of(section_of(fresh)[0])
    with np.load(fresh / "test" / "maps.npz") as archive:
        maps = dict(archive)
    maps |= {name.replace("_tsne", "_umap"): points * [-1, 1] for name, points in maps.items() if "_tsne" in name}
    np.savez(fresh / "test" / "maps.npz", **maps)
    section, data = section_of(fresh)
    assert data["kinds"] == {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
    assert "near each other on a t-SNE or UMAP map" in html_of(section)
    # Each is turned to match SimCLR's, as on t-SNE maps: so all together are their mirror image.
    for model in data["models"]:
        plain, mirrored = (wholes(model["maps"][kind]).reshape(300, 2).astype(int) for kind in ("tsne", "umap"))
        assert np.abs(mirrored - [65534, 0] - plain * [-1, 1]).max() <= 1


def test_umap_is_judged_beside_the_other_maps():
    found = {"trustworthiness": 0.91, "continuity": 0.94, "overlap": 0.4, "purity_map": 0.5, "purity_features": 0.6}
    table = feature_tables.map_quality({"finetuned": {"pca": found, "umap": found}}, "test images")
    assert table is not None
    assert [row[0] for row in table.rows] == ["Fine-tuned, PCA", "Fine-tuned, UMAP"]
