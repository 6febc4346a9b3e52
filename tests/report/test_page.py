"""The page from study folders that are finished, cut short, damaged or hostile."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixture_page import Page
from fixture_study import CLASSES, HOSTILE, edit_results, stop_early, write_study
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from twoviews.errors import DataError
from twoviews.report.page import write_report
from twoviews.report.pictures import embed_file


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "study-sample")


@pytest.fixture(scope="module")
def html(study):
    return write_report(study).read_text(encoding="utf-8")


@pytest.fixture
def fresh(tmp_path):
    """A study of our own to spoil, small, so that it is quick to draw."""
    return write_study(tmp_path / "study-sample", images=200)


def text_of(path: Path) -> str:
    return Page(path.read_text(encoding="utf-8")).text


def test_page_is_made_without_torch_or_pyplot(study, tmp_path):
    code = (
        "import sys; from pathlib import Path; from twoviews.report.page import write_report;"
        f"write_report(Path({str(study / 'pretrain')!r}), Path({str(tmp_path / 'page.html')!r}));"
        "print([name for name in ('torch', 'timm', 'sklearn', 'matplotlib.pyplot') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / "page.html").exists()


def test_page_holds_every_part(html):
    page = Page(html)
    for part in ("models", "curves", "confusion", "classes", "features", "views", "data", "again"):
        assert f'<section id="{part}">' in html
    text = page.text
    assert text.index("Pretraining helped in this run:") < text.index("All models on the test images")
    for said in (
        "59.7%",
        "57.6 – 61.8",
        "900 training labels",
        "3 exact copies of validation or test images were taken out of the training images.",
        "train/03.png | test/13.png: near copy, similarity 0.973",
        "train/02.png | test/12.png: exact copy",
        "And 1 more in leaks.csv",
        "One picture, two labels",
        "1 file was skipped",
        "23.1% of the variance",
        "0.962 of 1",
        "10 clusters agree with the classes for 41.2% of the images, against 13.1% with shuffled labels",
        "twoviews study sample",
        "10 min 12 s",
        "temperature",
        "Example CPU",
    ):
        assert said in text
    assert page.tags.count("img") == 23
    assert "not finished" not in text
    assert "nan" not in re.findall(r"\w+", text.lower())


def test_its_contents_lead_to_its_parts(html):
    places = re.findall(r'<li><a href="#(\w+)">', html)
    assert len(places) > 5
    assert [place for place in re.findall(r'<section id="(\w+)"', html) if place in places] == places


def test_page_loads_nothing_and_runs_nothing(html):
    page = Page(html)
    nonce = re.search(
        r"default-src 'none'; script-src 'nonce-(\w{32})'; style-src 'unsafe-inline'; img-src data:", page.policy
    )
    assert nonce
    assert all(load.startswith(("data:image/", "#")) for load in page.loads)
    # What runs are the scripts of maps and charts; two others hold their data.
    assert page.tags.count("script") == 4
    assert html.count(nonce[1]) == 3
    assert not {"link", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"url\((?!data:image/)", html)
    assert "@import" not in html


def test_the_same_folder_gives_the_same_bytes(study, html, tmp_path):
    assert write_report(study, tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_hostile_names_are_text(tmp_path):
    names = [HOSTILE, "$\\frac{1}", "=cmd|' /C calc'!A0", "a\x00\x1b[31m\u202eb", "\udc80raw", *CLASSES[5:]]
    run = write_study(tmp_path / "study-sample", names, images=200)
    (run / "data.json").write_text('{"notes": ["<b>bold</b>"], "leaks": [{"file": "<i>"}], "skipped": null}')
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert HOSTILE in page.text
    assert "<b>bold</b>" in page.text
    assert page.tags.count("script") == 4
    assert not {"b", "i"} & set(page.tags)
    assert "\x00" not in page.text
    assert "\u202e" not in page.text


@pytest.mark.parametrize("damage", ["missing", "no picture", "other size", "other number", "nonsense"])
def test_pictures_of_copies_that_do_not_fit_are_left_out(study, tmp_path, damage):
    """In a folder that holds nothing else, so that the page is quick to draw."""
    for name in ("settings.yaml", "leaks.webp", "data.json"):
        shutil.copy(study / name, tmp_path / name)
    sheet, data = tmp_path / "leaks.webp", json.loads((study / "data.json").read_text())
    if damage == "missing":
        sheet.unlink()
    elif damage == "no picture":
        sheet.write_bytes(b"RIFF")
    elif damage == "other size":
        data["leak_pictures"]["size"] = 31
    elif damage == "other number":
        data["leak_pictures"]["leaks"].append(1)
    else:
        data["leak_pictures"] = {"size": -2.5, "leaks": [0, "x", None, 99]}
        data["leaks"][0] = HOSTILE
    (tmp_path / "data.json").write_text(json.dumps(data))
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    text = page.text
    assert page.tags.count("img") == 0
    assert ("Left out of this page:" in text) == (damage != "missing")
    assert "test/13.png" in text
    assert "script" not in page.tags


def test_a_study_that_stopped_says_where(fresh):
    stop_early(fresh, epochs=12)
    text = text_of(write_report(fresh))
    assert "not finished: finetune (stopped after epoch 12 of 40, step 168), test" in text
    assert "There is no answer yet" in text
    assert "trustworthiness is 0.962 of 1" in text


@pytest.mark.parametrize("stage", ["supervised", "pretrain", "features", "test"])
def test_a_single_stage_has_a_page(fresh, stage):
    page = write_report(fresh / stage)
    assert page == fresh / stage / "report.html"
    html = page.read_text(encoding="utf-8")
    assert "not finished" not in html
    assert html.count("<img") >= 1
    assert "/models/" not in html


def test_a_stage_that_was_cut_short(fresh):
    (fresh / "pretrain" / "results.json").unlink()
    assert "not finished: pretrain (stopped after epoch 60, step 2,340)" in text_of(write_report(fresh / "pretrain"))


def test_jumps_of_the_loss_are_told_where_there_were_any(fresh, html):
    assert "The loss jumped" not in html
    path = fresh / "pretrain" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[3]["loss_spikes"], rows[6]["loss_spikes"] = 2, 1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sentence = "The loss jumped far above that of the steps before at 3 steps of SimCLR pretraining (epochs 4 and 7)"
    assert sentence in write_report(fresh).read_text(encoding="utf-8")


def test_damaged_and_missing_numbers_leave_gaps(fresh):
    def spoil(results):
        results["models"]["knn"].update(test_top1=None, ci95=[None, None], confusion=None)
        results["models"]["linear_probe"].update(ci95=None, macro_f1=float("nan"))
        results["features"]["tsne"] = None
        results["features"]["kmeans"]["accuracy_shuffled"] = None
        results["seconds"] = None
        del results["protocol"]

    edit_results(fresh, spoil)
    (fresh / "features" / "maps.npz").write_bytes(b"not an archive")
    (fresh / "pretrain" / "logs" / "views.png").write_bytes(b"not a picture")
    (fresh / "settings.yaml").write_text("a: [")
    text = text_of(write_report(fresh))
    assert "SimCLR, kNN – – " in text
    assert text.count("Left out of this page:") == 3


class Payload:
    """Unpickled, it would leave a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_an_array_is_left_out_and_does_not_run(fresh, tmp_path):
    np.savez(fresh / "features" / "maps.npz", pretrained_tsne=np.array([Payload(tmp_path / "ran")], dtype=object))
    assert "features/maps.npz can't be read" in text_of(write_report(fresh / "features"))
    assert not (tmp_path / "ran").exists()


def test_a_picture_is_written_anew_without_what_it_carries(tmp_path):
    about = PngInfo()
    about.add_text("Comment", "taken at our house", zip=False)
    exif = Image.Exif()
    exif[0x010E] = "taken at our house"
    Image.new("RGB", (40, 40)).save(tmp_path / "views.png", pnginfo=about, exif=exif)
    assert b"our house" in (tmp_path / "views.png").read_bytes()
    picture = embed_file(tmp_path / "views.png", "views", [])
    assert b"our house" not in base64.b64decode(picture.src.partition(",")[2])


def test_several_seeds_show_the_first(fresh):
    seed = fresh / "seed0"
    seed.mkdir()
    for stage in ("supervised", "pretrain", "features", "finetune", "test"):
        (fresh / stage).rename(seed / stage)

    def repeat(results):
        results["seeds"] = [0, 1, 2]
        results["comparison"]["finetuned_minus_supervised"]["mcnemar_p_per_seed"] = [0.001, 0.2, 0.01]
        results["models"]["finetuned"].update(std=0.004, per_seed=[0.64, 0.65, 0.66])

    edit_results(fresh, repeat)
    text = text_of(write_report(fresh))
    assert "over 3 seeds, mean test accuracy" in text
    assert "Seed 0 shown, the first of 3." in text
    assert "McNemar p < 0.05 for 2 of 3 seeds" in text
    assert "64.0% 65.0% 66.0%" in text


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_a_run_is_refused(tmp_path, make):
    if make:
        (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        write_report(tmp_path / "empty")
