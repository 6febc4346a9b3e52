"""`twoviews check` and a stage on a folder with planted copies, bad files and a wrong label."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_commands import FAST, twoviews

from twoviews.dataset.sample import SAMPLE_FILE
from twoviews.report.page import write_report

CLASSES = ("<b>cat", "dog")


def photos(count: int) -> list[Image.Image]:
    """Small photographs: the first unlabeled images of the sample."""
    with np.load(SAMPLE_FILE, allow_pickle=False) as archive:
        joined, ends = archive["jpeg"], archive["offsets"]
        files = [io.BytesIO(joined[ends[i] : ends[i + 1]].tobytes()) for i in range(count)]
    return [Image.open(file).convert("RGB") for file in files]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "planted"
    pictures = photos(120)
    places = [f"train/{CLASSES[i % 2]}/{i:03d}.png" for i in range(40)]
    places += [f"test/{CLASSES[i % 2]}/{i:03d}.png" for i in range(30)]
    places += [f"unlabeled/{i:03d}.png" for i in range(50)]
    for place, picture in zip(places, pictures, strict=True):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / place)
    test = [Image.open(root / f"test/{CLASSES[i % 2]}/{i:03d}.png") for i in range(30)]
    shutil.copy(root / f"test/{CLASSES[0]}/000.png", root / "unlabeled/exact.png")
    test[1].save(root / "unlabeled/encoded.jpg", quality=60)
    test[2].transpose(Image.Transpose.ROTATE_90).save(root / "unlabeled/turned.jpg", quality=90)
    test[3].resize((16, 16)).save(root / "unlabeled/half.png")
    test[4].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / f"train/{CLASSES[0]}/mirrored.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    test[5].transpose(Image.Transpose.ROTATE_90).save(root / "unlabeled/upright-by-exif.png", exif=exif)
    shutil.copy(root / f"train/{CLASSES[0]}/000.png", root / f"train/{CLASSES[1]}/wrong.png")
    (root / "unlabeled/cut.png").write_bytes((root / "unlabeled/001.png").read_bytes()[:900])
    (root / "unlabeled/empty.jpg").touch()
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def copies(path: Path) -> set[tuple[str, str, str]]:
    return {(Path(row["file"]).name, Path(row["copy_of"]).name, row["kind"]) for row in rows(path)}


PLANTED = {
    ("exact.png", "000.png", "exact"),
    ("upright-by-exif.png", "005.png", "exact"),
    ("encoded.jpg", "001.png", "near"),
    ("turned.jpg", "002.png", "near"),
    ("half.png", "003.png", "near"),
    ("mirrored.png", "004.png", "near"),
}


def test_check_finds_what_was_planted(planted: Path, tmp_path: Path) -> None:
    done = twoviews("check", planted, "--image-size", "32", "--out", "checked", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "checked"
    assert {path.name for path in out.iterdir()} == {"check.json", "conflicts.csv", "leaks.csv", "skipped.csv"}
    assert copies(out / "leaks.csv") >= PLANTED
    assert len(copies(out / "leaks.csv") - PLANTED) <= 1
    assert {(Path(row["path"]).name, row["reason"].split(" (")[0]) for row in rows(out / "skipped.csv")} == {
        ("cut.png", "truncated"),
        ("empty.jpg", "empty file"),
    }
    (conflict,) = [row for row in rows(out / "conflicts.csv") if row["kind"] == "exact"]
    assert {conflict["file"], conflict["other_file"]} == {
        f"train/{CLASSES[0]}/000.png",
        f"train/{CLASSES[1]}/wrong.png",
    }
    assert {conflict["label"], conflict["other_label"]} == set(CLASSES)
    figures = json.loads((out / "check.json").read_text())
    assert figures["leaks_removed"] == 2
    assert figures["near_copies"] >= 4
    assert figures["skipped_reasons"] == {"truncated": 1, "empty file": 1}
    assert figures["class_counts"]["test"] == {CLASSES[0]: 15, CLASSES[1]: 15}
    for said in (
        "32×32 pixels, 2 classes",
        "1 truncated",
        "exact copies of held-out images: 2",
        "its exact copy train/dog/wrong.png is dog",
    ):
        assert said in done.stdout
    assert f"next: twoviews study {planted}" in done.stdout
    assert "--drop-near" in done.stdout
    assert not (tmp_path / "output").exists()


def test_a_stage_leaves_the_lists_and_its_report_shows_them(planted: Path, tmp_path: Path) -> None:
    words = ("supervised", planted, *FAST, "--epochs", "1", "--batch-size", "16", "--drop-near")
    done = twoviews(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "output" / "supervised-planted"
    assert copies(run / "leaks.csv") >= PLANTED
    assert len(rows(run / "skipped.csv")) == 2
    assert (run / "conflicts.csv").exists()
    data = json.loads((run / "data.json").read_text())
    assert any("were left out (--drop-near)" in note for note in data["notes"])
    page = write_report(run).read_text()
    shown = len(data["leak_pictures"]["leaks"])
    assert shown == len(data["leaks"])
    assert page.count("data:image/webp;base64,") == shown
    assert "near copy, similarity" in page
    assert "cut.png" in page
    assert "<b>cat" not in page
