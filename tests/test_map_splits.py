"""`--map-splits` and `--umap`: which images are drawn, what a test stage leaves, and that the page reads the same."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from twoviews import settings
from twoviews.command_line import from_values
from twoviews.dataset.images import ImageSet
from twoviews.errors import SettingsError
from twoviews.evaluation.clusters import kmeans_clusters
from twoviews.evaluation.maps import TsneMap, pca_map, umap_map
from twoviews.files import write_json
from twoviews.report.data import ReportData
from twoviews.stages import tested_maps
from twoviews.stages.comparison import Comparison, stage_command
from twoviews.stages.feature_maps import map_quality_figures
from twoviews.stages.map_images import map_parts
from twoviews.stages.test import run_test
from twoviews.stages.tested_files import write_tables

NAMES = ("cat", "dog", "=ship")
BOTH = {"map_splits": "train,test"}


def images(name: str, count: int, tone: int) -> ImageSet:
    """Pictures of one colour: ``tone``, the image's number, and 90."""
    pixels = np.full((count, 3, 8, 8), 90, dtype=np.uint8)
    pixels[:, 0], pixels[:, 1] = tone, np.arange(count, dtype=np.uint8)[:, None, None] % 200
    return ImageSet.whole(pixels, np.arange(count, dtype=np.int64) % len(NAMES), [f"{name}/{i}" for i in range(count)])


def splits_of(train: int, val: int) -> Any:
    return SimpleNamespace(train=images("train", train, 120), val=images("val", val, 200), class_names=NAMES)


@pytest.mark.parametrize(
    ("counts", "plain", "both"),
    [
        ((2_000, 900, 100), 2_000, (2_000, 900, 100)),  # the sample
        ((8_000, 4_500, 500), 5_000, (8_000, 4_500, 500)),  # STL10
        ((10_000, 45_000, 5_000), 5_000, (8_000, 4_500, 500)),  # CIFAR-10
        ((300, 20_000, 0), 300, (300, 12_700)),
    ],
)
def test_so_many_images_are_drawn(counts: tuple[int, int, int], plain: int, both: tuple[int, ...]) -> None:
    tests, train, val = counts
    empty = np.zeros((1, 3, 1, 1), dtype=np.uint8)
    part = {n: ImageSet(empty, np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), ["x"]) for n in set(counts)}
    splits: Any = SimpleNamespace(train=part[train], val=part[val])
    assert [len(one.drawn) for one in map_parts(settings.TestCommand(), part[tests], splits)] == [plain]
    found = map_parts(settings.TestCommand(**BOTH), part[tests], splits)
    assert [one.split for one in found] == ["test", "train", "val"][: len(both)]
    for one, expected in zip(found, both, strict=True):
        # Evenly spread: each once, in order, from the first, with gaps that differ by one at most.
        assert len(one.drawn) == pytest.approx(expected, abs=1)
        steps = np.diff(one.drawn)
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1
    assert sum(len(one.drawn) for one in found) == sum(both)


def written(folder: Path, **chosen: Any) -> dict[str, Any]:
    """A test stage's files of single images: 60 test, 30 training and 6 validation images, two backbones."""
    random = np.random.default_rng(2)
    test, splits = images("test", 60, 10), splits_of(30, 6)
    command = settings.TestCommand(**chosen)
    parts = map_parts(command, test, splits)
    centres = 3 * random.normal(size=(3, 8))
    every = {
        part: random.normal(size=(2, n, 8)) + centres[np.arange(n) % 3] for part, n in (("test", 60), ("more", 36))
    }
    features = {m: every["test"][i].astype(np.float32) for i, m in enumerate(("pretrained", "finetuned"))}
    more = {m: every["more"][i].astype(np.float32) for i, m in enumerate(features)} if len(parts) > 1 else {}
    shared = SimpleNamespace(splits=splits, engine=SimpleNamespace(threads=1))
    folder.mkdir()
    shown = np.arange(60) % 2
    run = SimpleNamespace(path=folder)
    found = tested_maps.write_maps(
        features,
        more,
        parts,
        shown=shown,
        clusters=4,
        settings=command,
        shared=cast(Any, shared),
        run=cast(Any, run),
    )
    probabilities = {"finetuned": np.eye(3, dtype=np.float32)[shown]}
    write_tables(folder, test, list(NAMES), probabilities, {"finetuned": shown == test.labels})
    write_json(folder / "results.json", found)
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Test images alone, and with labelled ones."""
    root = tmp_path_factory.mktemp("maps")
    with pytest.MonkeyPatch.context() as patch:
        # Quicker, and here as good: what is tested is which images are where.
        patch.setattr(tested_maps, "tsne_map", lambda rows, seed, threads, start: TsneMap(2 * pca_map(rows)[0], 1.0))
        written(root / "test")
        written(root / "test-more", **BOTH)
    return root / "test", root / "test-more"


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "index.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_labelled_images_follow_the_test_images_everywhere(folders: tuple[Path, Path]) -> None:
    alone, more = folders
    assert rows(more)[:60] == rows(alone)
    added = [(row["id"], row["split"], row["file"], row["prediction"]) for row in rows(more)[60:]]
    assert added == [(str(i), part, f"{part}/{i}", "") for part, n in (("train", 30), ("val", 6)) for i in range(n)]
    with np.load(alone / "maps.npz") as first, np.load(more / "maps.npz") as second:
        assert first.files == second.files
        assert all(first[name].shape == (60, 2) and second[name].shape == (96, 2) for name in first.files)
    for model in ("pretrained", "finetuned"):
        name = f"features-{model}.npy"
        assert (alone / name).read_bytes() == (more / name).read_bytes()
        assert np.load(more / f"train_{name}").shape == (36, 8)
        assert not (alone / f"train_{name}").exists()
    counts = {"test": 60, "train": 30, "val": 6}
    assert json.loads((more / "results.json").read_text())["maps"] == {"drawn": counts, "images": counts, "clusters": 4}


def test_clusters_come_from_the_test_images_alone(folders: tuple[Path, Path]) -> None:
    alone, more = folders
    with np.load(alone / "clusters.npz") as first, np.load(more / "clusters.npz") as second:
        assert sorted(first.files) == ["finetuned", "finetuned_distance", "pretrained", "pretrained_distance"]
        for name in first.files:
            assert first[name].dtype == (np.float32 if "distance" in name else np.int16)
            assert second[name].shape == (96,)
            assert second[name][:60].tolist() == first[name].tolist()
        found = kmeans_clusters(np.load(alone / "features-finetuned.npy").astype(np.float32), 4, 0, 3)
        # Stored features are rounded to float16, which the run's own are too.
        assert np.mean(found.assignments == first["finetuned"]) > 0.95


def test_maps_are_judged_by_the_test_images_alone(folders: tuple[Path, Path]) -> None:
    _, more = folders
    features = {m: np.load(more / f"features-{m}.npy").astype(np.float32) for m in ("pretrained", "finetuned")}
    with np.load(more / "maps.npz") as archive:
        maps = {name: archive[name][:60] for name in archive.files}
    expected = map_quality_figures(features, maps, np.arange(60) % 3)
    found = json.loads((more / "results.json").read_text())["map_quality"]
    assert found["finetuned"]["tsne"]["images"] == 60
    assert found["finetuned"]["tsne"]["trustworthiness"] == pytest.approx(
        expected["finetuned"]["tsne"]["trustworthiness"], abs=0.01
    )


def test_the_explorer_reads_what_the_stage_wrote(folders: tuple[Path, Path]) -> None:
    found = ReportData.read(folders[1]).drawn
    assert found is not None
    assert (found.tested, found.labelled, len(found.files)) == (60, 36, 96)
    assert found.index.splits == ["test"] * 60 + ["train"] * 30 + ["val"] * 6
    after = next(one for one in found.backbones if one.name == "finetuned")
    assert after.predicted is not None
    order = {name: i for i, name in enumerate(found.class_names)}
    assert after.predicted.tolist() == [order[("cat", "dog")[i % 2]] for i in range(60)] + [-1] * 36
    assert after.features is not None
    assert np.isfinite(after.features).all()
    assert after.clusters is not None
    assert after.clusters.min() >= 0
    # Each picture is that of its split and number, though ids start again.
    assert found.sheet is not None
    with Image.open(folders[1] / "thumbnails.webp") as picture:
        sheet = np.asarray(picture.convert("RGB")).astype(int)
    for row, (tone, number) in {
        0: (10, 0),
        59: (10, 59),
        60: (120, 0),
        89: (120, 29),
        90: (200, 0),
        95: (200, 5),
    }.items():
        down, right = divmod(int(found.sheet.places[row]), found.sheet.columns)
        middle = sheet[down * 8 + 4, right * 8 + 4]
        assert np.abs(middle - [tone, number, 90]).max() <= 25
        assert abs(middle[0] - tone) <= 25


# The settings. -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["train,test", "test, train", ["test", "train"]])
def test_splits_may_be_given_in_any_order(given: Any) -> None:
    assert from_values("test", "TestCommand", {"data": "sample", "map_splits": given}).map_splits == "train,test"


@pytest.mark.parametrize("given", ["train", "", "val,test", "all", []])
def test_other_splits_are_refused(given: Any) -> None:
    with pytest.raises(SettingsError, match=r"^map_splits: should be test, or train,test"):
        from_values("test", "TestCommand", {"data": "sample", "map_splits": given})


@pytest.mark.parametrize("more", [{"umap": True}, BOTH])
def test_what_maps_show_needs_maps(more: dict[str, Any]) -> None:
    flag = "--umap" if "umap" in more else "--map-splits"
    with pytest.raises(SettingsError, match=f"^--no-maps and {flag}"):
        from_values("test", "TestCommand", {"data": "sample", "maps": False, **more})
    with pytest.raises(SettingsError, match=f"^--features.no-maps and {flag}"):
        from_values("study", "StudyCommand", {"data": "sample", "features": {"maps": False}, **more})


def test_a_study_hands_them_to_its_test_stage() -> None:
    study = settings.StudyCommand(umap=True, **BOTH)
    one = Comparison(Path("run"), 0, cast(Any, None), Path("run/pretrain"))
    command = stage_command(study, one, settings.TestCommand, None, "test", run=one.folder, init=None, maps=True)
    assert (command.map_splits, command.umap) == ("train,test", True)
    assert settings.TestCommand().map_splits == "test"


def test_umap_that_is_not_installed_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "umap" else found(name, *more))
    words = r"--umap needs umap-learn, which is not installed here: `pip install 'twoviews\[umap\]'`, or leave it out\."
    with pytest.raises(SettingsError, match=words):
        umap_map(np.eye(5))
    with pytest.raises(SettingsError, match=words):
        run_test(settings.TestCommand(umap=True, data="there is no such folder"))
