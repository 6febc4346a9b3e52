"""The explorer's section from run folders that are whole, old, half-finished, large or hostile."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixture_explore import BACKBONES, SIDE, add_explorable, read_index
from fixture_more import several_seeds
from fixture_study import HOSTILE, stop_early, write_study

from twoviews.report import explore
from twoviews.report.explore import ExploreSection, explore_section
from twoviews.report.explore.neighbours import nearest
from twoviews.report.page import template
from twoviews.report.source import load


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return add_explorable(write_study(tmp_path_factory.mktemp("runs") / "study-sample", images=300))


@pytest.fixture
def fresh(study, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(study, tmp_path / "study-sample")


def section_of(folder, **limits) -> tuple[ExploreSection, dict]:
    section = explore_section(load(folder), **limits)
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
    assert data["files"][-1] == index[-1]["file"]
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
    assert explore_section(load(folder / "pretrain")) is None
    (folder / "test" / "maps.npz").unlink()
    assert explore_section(load(folder)) is None
    stop_early(folder)
    assert explore_section(load(folder)) is None


@pytest.mark.parametrize("name", ["features-finetuned.npy", "thumbnails.webp", "thumbnails.json", "maps.npz"])
def test_a_damaged_file_costs_only_what_it_held(fresh, name):
    (fresh / "test" / name).write_bytes(b"\x93NUMPY\x01\x00 torn")
    run = load(fresh)
    section = explore_section(run)
    assert (section is None) == (name == "maps.npz")
    assert [problem for problem in run.problems if name.split(".")[0] in problem]


def test_a_seed_and_a_single_test_run_are_explorable(fresh):
    assert section_of(fresh / "test")[0].images == 300
    run = load(several_seeds(fresh, 2))
    section = explore_section(run)
    assert section is not None
    assert "Seed 0" in run.shown
    assert run.shown in html_of(section)
