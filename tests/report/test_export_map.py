"""Maps for other viewers: every row is of its image, whatever it is called, and nothing is overwritten."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fixture_explore import SIDE, add_explorable, colour_of, read_index
from fixture_more import several_seeds
from fixture_study import CLASSES, write_study
from PIL import Image

from twoviews import cli
from twoviews.errors import DataError, SettingsError
from twoviews.files import read_json, write_csv, write_json
from twoviews.settings import ExportMapCommand
from twoviews.stages import map_projector
from twoviews.stages.export_map import run_export_map

IMAGES = 100
ODD = "a\tb\nc\x85d"  # a folder may be called so


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("maps") / "study", (ODD, "=1+2", *CLASSES[2:]), images=IMAGES)
    return add_explorable(folder)


@pytest.fixture
def fresh(study, tmp_path):
    return Path(shutil.copytree(study, tmp_path / "study"))


def export(run: Path, out: Path, to: str = "tensorboard", **more) -> Path:
    return run_export_map(ExportMapCommand(run=run, out=out, to=to, **more))


def features(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / "test" / f"features-{name}.npy", allow_pickle=False)


def tsv(path: Path) -> list[list[str]]:
    """Cells as the projector splits them: lines at \\n alone, cells at tabs."""
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n")
    return [line.split("\t") for line in text[:-1].split("\n")]


def add_training_images(folder: Path) -> None:
    """Two training images on the maps, after the test images, with ids that test images have too."""
    test = folder / "test"
    rows = [[*row.values()] for row in read_index(folder)]
    rows += [[f"{i:06d}", "train", f"train/{i}.png", "bird", ""] for i in range(2)]
    write_csv(test / "index.csv", ["id", "split", "file", "label", "prediction"], rows)
    with np.load(test / "maps.npz") as file:
        maps = {name: np.concatenate([file[name], [[7, 8], [9, 10]]]) for name in file.files}
    np.savez(test / "maps.npz", **maps)
    for path in list(test.glob("features-*.npy")):
        np.save(test / f"train_{path.name}", np.full((2, 12), 0.5, dtype=np.float16))
    about = read_json(test / "thumbnails.json")
    write_json(test / "thumbnails.json", {**about, "ids": [*about["ids"][:-1], "train/0"]})


# TensorBoard. ----------------------------------------------------------------------------------------------------


def test_the_projector_gets_every_image_s_features_words_and_picture(study, tmp_path):
    out = export(study, tmp_path / "out")
    names = ["pretrained", "finetuned", "supervised", "random_init"]
    assert {path.name for path in out.iterdir()} == {
        "metadata.tsv",
        "projector_config.pbtxt",
        "sprite.png",
        *(f"tensors-{name}.tsv" for name in names),
    }
    for name in names:
        numbers = np.array(tsv(out / f"tensors-{name}.tsv"), dtype=np.float64)
        assert (numbers.astype(np.float16) == features(study, name)).all()
    header, *rows = tsv(out / "metadata.tsv")
    assert header[:7] == ["label", "file", "split", "id", "supervised", "supervised_confidence", "supervised_right"]
    assert len(rows) == IMAGES
    assert all(len(row) == len(header) for row in rows)
    with open(study / "test" / "predictions.csv", encoding="utf-8", newline="") as stream:
        predicted = list(csv.DictReader(stream))
    plain = {ODD: r"a\tb\nc\x85d", "'=1+2": "=1+2"}  # the CSV's mark against formulas is taken off again
    for row, said in zip(rows, predicted, strict=True):
        found = dict(zip(header, row, strict=True))
        assert (found["file"], found["id"], found["split"]) == (said["file"], said["id"], "test")
        assert found["label"] == plain.get(said["label"], said["label"])
        assert found["finetuned"] == plain.get(said["finetuned"], said["finetuned"])
        assert found["finetuned_right"] == ("right" if said["finetuned"] == said["label"] else "wrong")
        assert found["finetuned_confidence"] == "0.7000"
    assert {row[0] for row in rows} >= {r"a\tb\nc\x85d", "=1+2", "bird"}
    config = (out / "projector_config.pbtxt").read_text()
    assert re.findall(r'tensor_path: "tensors-(\w+)\.tsv"', config) == names
    assert config.count("tensor_shape: 100 tensor_shape: 12\n") == 4
    assert config.count(f'image_path: "sprite.png" single_image_dim: {SIDE} single_image_dim: {SIDE} }}') == 4
    with Image.open(out / "sprite.png", formats=["PNG"]) as sprite:
        assert sprite.size == (10 * SIDE, 10 * SIDE)
        for i in range(IMAGES):
            assert sprite.getpixel((i % 10 * SIDE + 3, i // 10 * SIDE + 3)) == colour_of(i)


def test_the_sheet_of_pictures_stays_as_small_as_the_projector_wants_it(study, tmp_path, monkeypatch):
    monkeypatch.setattr(map_projector, "MOST_SIDE", 85)
    out = export(study, tmp_path / "out", backbone="finetuned")
    with Image.open(out / "sprite.png", formats=["PNG"]) as sprite:
        assert sprite.size == (80, 80)
        assert [sprite.getpixel((i % 10 * 8 + 4, i // 10 * 8 + 4)) for i in (0, 57)] == [colour_of(0), colour_of(57)]
    assert "single_image_dim: 8 single_image_dim: 8" in (out / "projector_config.pbtxt").read_text()
    assert [path.name for path in out.glob("tensors-*")] == ["tensors-finetuned.tsv"]


def test_names_that_are_no_text_and_images_without_a_picture_are_no_obstacle(fresh, tmp_path):
    rows = read_index(fresh)
    rows[3]["file"] = b"test/\xff.png".decode("utf-8", "surrogateescape")
    write_csv(fresh / "test" / "index.csv", [*rows[0]], [[*row.values()] for row in rows])
    about = read_json(fresh / "test" / "thumbnails.json")
    write_json(fresh / "test" / "thumbnails.json", {**about, "ids": [None if i == 5 else i for i in range(IMAGES)]})
    out = export(fresh, tmp_path / "out")
    assert tsv(out / "metadata.tsv")[4][1] == "test/\N{REPLACEMENT CHARACTER}.png"
    with Image.open(out / "sprite.png", formats=["PNG"]) as sprite:
        assert sprite.getpixel((5 * SIDE + 3, 3)) == (0, 0, 0)
    (fresh / "test" / "thumbnails.webp").unlink()
    assert "sprite" not in (export(fresh, tmp_path / "bare") / "projector_config.pbtxt").read_text()


def test_training_images_on_the_maps_have_features_but_no_predictions(fresh, tmp_path):
    add_training_images(fresh)
    out = export(fresh, tmp_path / "out")
    header, *rows = tsv(out / "metadata.tsv")
    assert len(rows) == IMAGES + 2
    last = dict(zip(header, rows[IMAGES], strict=True))
    assert (last["file"], last["split"], last["finetuned"], last["finetuned_right"]) == ("train/0.png", "train", "", "")
    assert rows[0][4] != ""  # the test image of the same id keeps its own
    numbers = np.array(tsv(out / "tensors-pretrained.tsv"), dtype=np.float64)
    assert (numbers[:IMAGES].astype(np.float16) == features(fresh, "pretrained")).all()
    assert (numbers[IMAGES:] == 0.5).all()
    with Image.open(out / "sprite.png", formats=["PNG"]) as sprite:  # now 11 in a line
        assert sprite.getpixel((3, 3)) == colour_of(0)
        assert sprite.getpixel((IMAGES % 11 * SIDE + 3, IMAGES // 11 * SIDE + 3)) == colour_of(IMAGES - 1)


# Parquet. --------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_image(fresh, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    add_training_images(fresh)
    numbers = np.arange(IMAGES + 2, dtype=np.int16) % 4
    numbers[9] = -1
    np.savez(fresh / "test" / "clusters.npz", pretrained=numbers, pretrained_distance=numbers.astype(np.float32))
    file = export(fresh, tmp_path / "out", "parquet", features=True) / "map.parquet"
    table = parquet.read_table(file)
    rows = table.to_pylist()
    assert [row["file"] for row in rows[:IMAGES]] == [row["file"] for row in read_index(fresh)[:IMAGES]]
    assert rows[0]["label"] == ODD
    assert {row["label"] for row in rows} >= {"=1+2", "bird"}
    assert [row["pretrained_cluster"] for row in rows[7:11]] == [3, 0, None, 2]
    with np.load(fresh / "test" / "maps.npz") as maps:
        for name in maps.files:
            assert (table[f"{name}_x"].to_numpy() == maps[name][:, 0].astype(np.float32)).all()
            assert (table[f"{name}_y"].to_numpy() == maps[name][:, 1].astype(np.float32)).all()
    assert rows[0]["finetuned_right"] is (rows[0]["finetuned"] == rows[0]["label"])
    assert rows[0]["finetuned_confidence"] == pytest.approx(0.7)
    last = rows[IMAGES]
    assert (last["id"], last["split"], last["label"], last["finetuned"]) == (0, "train", "bird", None)
    assert (last["finetuned_right"], last["finetuned_confidence"]) == (None, None)
    assert table.schema.field("pretrained_features").type.list_size == 12
    assert rows[3]["pretrained_features"] == features(fresh, "pretrained")[3].tolist()
    with Image.open(io.BytesIO(rows[42]["image"]["bytes"]), formats=["JPEG"]) as picture:
        assert picture.size == (SIDE, SIDE)
        assert np.abs(np.array(picture.getpixel((8, 8))) - colour_of(42)).max() <= 3
    plain = parquet.read_table(export(fresh, tmp_path / "plain", "parquet", backbone="supervised") / "map.parquet")
    assert not [name for name in plain.column_names if "features" in name or name.startswith("pretrained_")]
    assert "supervised_tsne_x" in plain.column_names


def test_without_pyarrow_it_says_what_to_install(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'twoviews[parquet]'")):
        export(study, tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()


# What is refused, and what is found. -----------------------------------------------------------------------------


def test_nothing_is_overwritten(study, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export(study, out)  # an empty folder is as good as none
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(SettingsError, match="is there and not empty, and nothing is overwritten"):
        export(study, out)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError, match="name a new folder with --out"):
        export(study, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_without_the_map_that_is_asked_for_says_so(fresh, tmp_path):
    with pytest.raises(DataError, match=r"neither maps nor features of imagenet_finetuned; it has pretrained, fine"):
        export(fresh, tmp_path / "out", backbone="imagenet_finetuned")
    with pytest.raises(DataError, match="has no test stage"):
        export(fresh / "pretrain", tmp_path / "out")
    np.save(fresh / "test" / "features-finetuned.npy", np.full((IMAGES, 4), np.nan, dtype=np.float16))
    with pytest.raises(DataError, match=r"features-finetuned\.npy can't be used \(a number in it is not finite\)"):
        export(fresh, tmp_path / "out")
    (fresh / "test" / "features-finetuned.npy").write_bytes(b"not an array")
    with pytest.raises(DataError, match=r"features-finetuned\.npy can't be used"):
        export(fresh, tmp_path / "out")
    (fresh / "test" / "maps.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"maps\.npz can't be used"):
        export(fresh, tmp_path / "out")
    (fresh / "test" / "index.csv").unlink()
    with pytest.raises(DataError, match="was run with --no-maps"):
        export(fresh, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_takes_the_newest_study_and_its_first_seed(fresh, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("output").mkdir()
    several_seeds(fresh, seeds=2).rename("output/study-x")
    Path("output/study-x/seed1/test/maps.npz").touch()
    assert cli.main(["export-map", "--backbone", "pretrained"]) == 0
    assert capsys.readouterr().out == (
        "export-map: 100 images, pretrained; output/study-x/map-tensorboard\n"
        "to look at it: tensorboard --logdir output/study-x/map-tensorboard\n"
    )
    assert Path("output/study-x/map-tensorboard/tensors-pretrained.tsv").exists()
