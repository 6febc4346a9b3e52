"""The clusters' table against counts by hand, and the pictures that the page picks for each cluster."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twoviews.files import write_csv, write_json
from twoviews.report import picture_atlas
from twoviews.report.clusters.rows import by_distance, cluster_rows, purity
from twoviews.report.clusters.section import FARTHEST, MOST_WITH_PICTURES, ClusterSection, Shot, cluster_section
from twoviews.report.data import ReportData
from twoviews.report.page import template

SIDE, COLUMNS = 16, 40


def colour_of(image: int) -> tuple[int, int, int]:
    """Far enough apart to be told after lossy compression."""
    return 40 * (image % 6) + 20, 40 * (image // 6 % 6) + 20, 40 * (image // 36 % 6) + 20


def write_test(folder: Path, labels: Any, names: list[str], clusters: dict[str, Any], train: int = 0) -> Path:
    """A test stage whose index.csv has ``train`` training images behind the test images, under the same ids."""
    test = folder / "test"
    test.mkdir(parents=True)
    count = len(labels)
    rows = [(i, "test", f"test/{i}.png", names[k], names[0]) for i, k in enumerate(labels)]
    rows += [(i, "train", f"train/{i}.png", names[0], "") for i in range(train)]
    write_csv(test / "index.csv", ["id", "split", "file", "label", "prediction"], rows)
    points = np.zeros((count + train, 2), np.float32)
    np.savez(test / "maps.npz", **{f"{name}_pca": points for name in clusters if not name.endswith("_distance")})
    np.savez(test / "clusters.npz", **clusters)
    ids = [*range(count), *(f"train/{i}" for i in range(train))]
    cells = np.full((-(-len(ids) // COLUMNS) * COLUMNS, 3), 255, np.uint8)
    cells[:count] = [colour_of(i) for i in range(count)]
    pixels = cells.reshape(-1, COLUMNS, 3).repeat(SIDE, 0).repeat(SIDE, 1)
    Image.fromarray(pixels).save(test / "thumbnails.webp", lossless=True)
    write_json(test / "thumbnails.json", {"size": SIDE, "columns": COLUMNS, "ids": ids, "order": "row by row"})
    write_json(test / "results.json", {"schema": 1, "models": {}})
    write_json(folder / "results.json", {"schema": 1, "data": {"classes": names}})
    return folder


def drawn(count: int, classes: int, k: int, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    found: dict[str, Any] = {}
    for name in ("random_init", "pretrained", "supervised"):
        found[name] = random.integers(0, k, count).astype(np.int16)
        found[f"{name}_distance"] = random.random(count).astype(np.float32)
    return labels, found


def section_of(folder: Path) -> ClusterSection:
    found = cluster_section(ReportData.read(folder))
    assert found is not None
    return found


def test_rows_are_the_crosstab() -> None:
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, -1, 2])
    labels = np.array([1, 1, 0, 0, -1, 1, 1, 0, 1])
    distances = np.array([0.3, 0.1, 0.2, 0.5, 0.4, np.nan, 0.2, 0.0, 0.2])
    rows = cluster_rows(clusters, distances, labels, 3, nearest=2, odd=2)
    # By class, and of class 1 the cluster with three images of it before the one with two.
    assert [row.number for row in rows] == [1, 2, 0]
    assert [row.counts.tolist() for row in rows] == [[1, 0, 0], [0, 3, 0], [1, 2, 0]]
    assert [row.images for row in rows] == [2, 3, 3]
    assert [row.purity for row in rows] == [1.0, 1.0, pytest.approx(2 / 3)]
    assert purity(rows) == pytest.approx(6 / 7)
    # Of equally far ones the first; one whose distance isn't known can't be near.
    assert [row.nearest for row in rows] == [[4, 3], [6, 8], [1, 2]]
    assert [row.odd for row in rows] == [[], [], []]
    assert cluster_rows(clusters, distances, labels, 3, nearest=1, odd=2)[2].odd == [2]
    assert by_distance(np.arange(9), distances, farthest_first=True)[:2].tolist() == [3, 4]
    assert cluster_rows(clusters, None, labels, 3, 2, 2)[0].nearest == []


def picture(section: ClusterSection, shot: Shot) -> Any:
    """What the page shows for an image, cut from the sheet as the style does."""
    assert section.atlas is not None
    with Image.open(io.BytesIO(base64.b64decode(section.atlas.src.partition(",")[2])), formats=["WEBP"]) as image:
        sheet = np.asarray(image.convert("RGB")).astype(int)
    assert sheet.shape == (section.atlas.lines * section.atlas.step, section.atlas.columns * section.atlas.step, 3)
    x, y = (1 + section.atlas.step * place for place in shot.place)
    return sheet[y : y + SIDE, x : x + SIDE]


@pytest.mark.parametrize("train", [0, 7])
def test_the_page_s_table_and_pictures_are_of_the_test_images(tmp_path: Path, train: int) -> None:
    labels, found = drawn(200, 4, 5)
    more = {name: np.concatenate([rows, np.zeros(train, rows.dtype)]) for name, rows in found.items()}
    section = section_of(write_test(tmp_path / "run", labels, ["ant", "bee", "cat", "dog"], more, train))
    clusters, away = found["pretrained"], found["pretrained_distance"]
    assert section.first.name == "SimCLR"
    assert [other.name for other in section.others] == ["Untrained", "Baseline"]
    for row in section.first.rows:
        number = int(row.title.split()[0])
        members = [i for i in range(200) if clusters[i] == number]
        counts = [sum(labels[i] == k for i in members) for k in range(4)]
        assert [cell[0] for cell in row.cells] == counts
        assert [cell[1] for cell in row.cells] == pytest.approx([n / len(members) for n in counts])
        assert row.images == str(len(members))
        commonest = counts.index(max(counts))
        near = sorted(members, key=lambda i: away[i])
        odd = [i for i in near[8:] if labels[i] != commonest][:6]
        for shots, wanted in ((row.nearest, near[:8]), (row.odd, odd)):
            assert [shot.file for shot in shots] == [f"test/{i}.png" for i in wanted]
            assert [shot.is_alike for shot in shots] == [labels[i] == commonest for i in wanted]
            for shot, image in zip(shots, wanted, strict=True):
                assert np.abs(picture(section, shot).mean(axis=(0, 1)) - colour_of(image)).max() < 15
    far = sorted(range(200), key=lambda i: -away[i])[:FARTHEST]
    assert [shot.file for shot in section.first.far] == [f"test/{i}.png" for i in far]
    pure = sum(max(np.bincount(labels[clusters == c])) for c in range(5)) / 200
    assert f"{100 * pure:.1f}% of the images" in section.first.says


def test_runs_without_clusters_have_no_section_and_damaged_ones_say_so(tmp_path: Path) -> None:
    labels, found = drawn(40, 3, 3)
    folder = write_test(tmp_path / "run", labels, ["a", "b", "c"], found)
    file = folder / "test" / "clusters.npz"
    file.write_bytes(b"no archive")
    data = ReportData.read(folder)
    assert cluster_section(data) is None
    assert "clusters.npz can't be read" in data.run.problems[0]
    np.savez(file, pretrained=np.full(40, -1, np.int16))
    assert cluster_section(ReportData.read(folder)) is None
    np.savez(file, pretrained=found["pretrained"])  # no distances: a table, no pictures
    section = section_of(folder)
    assert len(section.first.rows) == 3
    assert section.atlas is None
    assert not any(row.nearest or row.odd for row in section.first.rows)
    np.savez(file, **found)
    sheet = folder / "test" / "thumbnails.webp"
    sheet.write_bytes(sheet.read_bytes()[:-60])
    data = ReportData.read(folder)
    cut = cluster_section(data)
    assert cut is not None
    assert cut.atlas is None
    assert "thumbnails.webp can't be read" in data.run.problems[0]
    sheet.unlink()
    assert section_of(folder).atlas is None
    file.unlink()
    assert cluster_section(ReportData.read(folder)) is None


def rendered(section: ClusterSection) -> str:
    text: str = template("clusters/section.html.j2").render(clusters=section, count=str)
    return text


def test_many_classes_are_named_and_many_clusters_have_pictures_for_the_largest(tmp_path: Path) -> None:
    names = [f"class {k}" for k in range(24)]
    labels, found = drawn(1000, 24, 30)
    section = section_of(write_test(tmp_path / "run", labels, names, found))
    assert section.first.classes == []
    assert len(section.first.rows) == 30
    assert re.fullmatch(r"class \d+ \d+%, class \d+ \d+%, class \d+ \d+%", section.first.rows[0].classes)
    assert sum(bool(row.nearest) for row in section.first.rows) == MOST_WITH_PICTURES
    page = rendered(section)
    assert "10 more clusters have no pictures here" in page
    assert page.count('<th scope="col">') == 4 * 3


def test_pictures_stay_within_their_bytes_and_names_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["<b>cat</b>", *(f"class {k}" for k in range(9))]
    labels, found = drawn(200, 10, 10)
    folder = write_test(tmp_path / "run", labels, names, found)
    noise = np.random.default_rng(0).integers(0, 256, (5 * SIDE, COLUMNS * SIDE, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "test" / "thumbnails.webp", lossless=True)
    monkeypatch.setattr(picture_atlas, "QUALITIES", (80, 0))
    shown = []
    # Enough; enough at a lower quality; enough for the first backbone's alone; for none.
    for most in (10**9, 20_000, 6_000, 1_000):
        monkeypatch.setattr("twoviews.report.clusters.section.MOST_BYTES", most)
        section = section_of(folder)
        size = len(section.atlas.src) if section.atlas else 0
        assert size <= most
        shown.append((size, bool(section.first.far), bool(section.others[0].far)))
    assert [one[1:] for one in shown] == [(True, True), (True, True), (True, False), (False, False)], shown
    assert shown[0][0] > shown[1][0] > shown[2][0] > shown[3][0] == 0
    page = rendered(section)
    assert len(page) < 100_000
    assert "<b>cat" not in page
    assert "mostly &lt;b&gt;cat&lt;/b&gt;" in page
