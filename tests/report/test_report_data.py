"""What the page's sections share: each file is read once, and what is asked of a part is what the whole says of it."""

from __future__ import annotations

import builtins
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fixture_explore import SIDE, add_clusters, add_explorable, add_labelled, colour_of
from fixture_study import write_study

from twoviews.files import write_csv
from twoviews.report.calibration import section as calibration
from twoviews.report.clusters.section import cluster_section
from twoviews.report.data import ReportData
from twoviews.report.explore import gather
from twoviews.report.explore.section import explore_section
from twoviews.report.health.section import health_section, write_label_errors
from twoviews.report.image_index import Index, fraction
from twoviews.report.pictures import Picture
from twoviews.report.stage_files import is_part

TESTS, TRAIN, VAL = 200, 30, 10


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With training and validation images on the test stage's maps, and features of the feature check."""
    folder = write_study(tmp_path_factory.mktemp("runs") / "study-sample", images=TESTS)
    add_labelled(add_explorable(folder), TRAIN, VAL)
    add_clusters(folder)
    features = np.random.default_rng(0).normal(size=(1000, 12)).astype(np.float16)
    np.save(folder / "features" / "features-pretrained.npy", features, allow_pickle=False)
    return folder


def test_each_file_is_read_once_for_page_and_files(study, monkeypatch):
    opened: Counter[str] = Counter()
    plain = builtins.open

    def counted(file, *more, **named):
        if isinstance(file, (str, Path)) and study in Path(file).parents:
            opened[Path(file).relative_to(study).as_posix()] += 1
        return plain(file, *more, **named)

    monkeypatch.setattr(builtins, "open", counted)
    monkeypatch.setattr(io, "open", counted)  # of pathlib
    monkeypatch.setattr(calibration, "embed", lambda figure, alt, title: Picture("", alt, title))
    monkeypatch.setattr(calibration.calibration_figure, "reliability_diagram", lambda models: models)
    data = ReportData.read(study)
    opened.clear()
    write_label_errors(data)
    assert calibration.reliability_table(data)
    for section in (explore_section, cluster_section, calibration.calibration_section, health_section):
        assert section(data)
    assert data.checked_maps is not None
    assert data.tested_maps is not None
    assert data.run.problems == []
    assert {"test/index.csv", "test/predictions.csv", "test/clusters.npz", "features/index.csv"} <= opened.keys()
    read_again = {name: times for name, times in opened.items() if name.endswith((".csv", ".npz", ".webp"))}
    # A .npy is opened twice by NumPy itself: for its header, and to map it.
    assert set(read_again.values()) == {1}, read_again
    features = [times for name, times in opened.items() if name.endswith(".npy")]
    assert len(features) == 9
    assert set(features) == {min(features)}


def test_test_images_are_what_the_whole_says_of_them(study):
    data = ReportData.read(study)
    whole, tests = data.drawn, data.images
    assert (len(whole.index), len(tests.index), tests.labelled) == (TESTS + TRAIN + VAL, TESTS, 0)
    assert set(tests.index.splits) == {"test"}
    # Ids start again in each split.
    assert whole.row_of == tests.row_of == {f"{i:06d}": i for i in range(TESTS)}
    assert tests.sheet.webp == whole.sheet.webp
    for every, some in zip(whole.backbones, tests.backbones, strict=True):
        for name in ("features", "predicted", "confidence", "clusters", "distances"):
            assert np.array_equal(getattr(every, name)[:TESTS], getattr(some, name))
        assert np.isfinite(every.features).all()
        assert (every.predicted[TESTS:] == -1).all()
        assert np.isnan(every.confidence[TESTS:]).all()
        with np.load(study / "test" / "clusters.npz") as archive:
            assert np.array_equal(archive[f"{every.name}_distance"], every.distances.astype(np.float32))
    alone = ReportData.read(study).tested_maps
    assert len(alone.index) == TESTS
    assert all(points.shape == (TESTS, 2) for points in alone.points.values())


def test_pictures_are_of_their_images_whichever_are_taken(study):
    sheet = ReportData.read(study).drawn.sheet
    rows = np.array([TESTS + TRAIN, 7, 0])
    for row, picture in zip(rows, sheet.take(rows).pictures(), strict=True):
        assert picture.shape == (SIDE, SIDE, 3)
        assert (picture == colour_of(row)).all()
    bare = sheet.take(np.array([3, 4]))
    bare.places[0] = -1
    first, second = bare.pictures()
    assert first is None
    assert (second == colour_of(4)).all()


def test_a_run_that_names_no_classes_takes_them_from_its_images(tmp_path):
    """Only a part of the images is on the maps, so that its classes are fewer than those of all test images."""
    folder = write_study(tmp_path / "study", [f"class {i}" for i in range(4)], images=40)
    path = folder / "results.json"
    results = json.loads(path.read_text())
    del results["data"]["classes"]
    results["models"] = {}
    path.write_text(json.dumps(results))
    index = ReportData.read(folder).run.index("test")
    chosen = [i for i in range(40) if index.labels[i] != "class 0"]
    part = index.part(np.array(chosen))
    rows = [list(row) for row in zip(part.ids, part.splits, part.files, part.labels, strict=True)]
    write_csv(folder / "test" / "index.csv", ["id", "split", "file", "label"], rows)
    with np.load(folder / "test" / "maps.npz") as archive:
        np.savez(folder / "test" / "maps.npz", **{name: places[chosen] for name, places in archive.items()})
    data = ReportData.read(folder)
    assert data.tested.class_names == [f"class {i}" for i in range(4)]
    assert data.images.class_names == ["class 1", "class 2", "class 3"]
    after = next(one for one in data.images.backbones if one.name == "finetuned")
    said = dict(zip(data.tested.ids, data.tested.models["finetuned"].predicted, strict=True))
    wanted = [said[one] - 1 if said[one] > 0 else -1 for one in part.ids]
    assert after.predicted.tolist() == wanted
    assert set(wanted) == {-1, 0, 1, 2}


def test_features_without_test_images_are_no_trouble(study):
    """As where index.csv lists labelled images alone."""
    index = ReportData.read(study).run.index("test")
    labelled = index.part(~index.is_test)
    tested = gather.tested_features(study / "test" / "features-pretrained.npy", labelled)
    assert tested.shape == (0, 12)


def test_an_index_without_splits_is_of_test_images_in_a_test_stage_alone(tmp_path):
    folder = write_study(tmp_path / "study", images=20)
    for stage in ("test", "features"):
        rows = [[row, f"{row}.png", "cat"] for row in range(3)]
        write_csv(folder / stage / "index.csv", ["id", "file", "label"], rows)
    run = ReportData.read(folder).run
    assert run.index("test").is_test.all()
    assert not run.index("features").is_test.any()
    assert run.index("pretrain") == Index([], [], [], [])


@pytest.mark.parametrize(
    ("cell", "expected"), [("0.25", 0.25), ("1", 1.0), ("", None), (None, None), ("x", None), ("1.5", None)]
)
def test_a_fraction_is_a_probability_or_nothing(cell, expected):
    found = fraction(cell)
    assert found == expected if expected is not None else np.isnan(found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("seed0", True),
        ("seed12", True),
        ("labels-0.1", True),
        ("fold-3", True),
        ("seed", False),
        ("study-stl10", False),
    ],
)
def test_parts_of_a_study_are_known_by_name(name, expected):
    assert is_part(name) == expected
