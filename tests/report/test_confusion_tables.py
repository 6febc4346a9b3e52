"""The page's confusion matrices: the tables say what results.json says, to eyes and to screen readers."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fixture_study import CLASSES, HOSTILE

import twoviews.report
from twoviews.report.confusion.section import MOST_CLASSES, confusion_section
from twoviews.report.page import template
from twoviews.report.run import Run
from twoviews.report.stage_files import Stage


def run_of(names, seeds=1, shown=None, **tables):
    """A run whose results hold these matrices; ``shown``: those of the first seed's test stage."""

    def models(tables):
        return {name: {"confusion": np.asarray(table).tolist()} for name, table in tables.items()}

    results = {"data": {"classes": list(names)}, "seeds": list(range(seeds)), "models": models(tables)}
    test = Stage("test", Path("test"), results={"models": models(shown or tables)})
    folders = [f"seed{i}" for i in range(seeds)] if seeds > 1 else []
    return Run(folder=Path("study"), kind="study", results=results, stages={"test": test}, seeds=folders)


class Tables(HTMLParser):
    """Every table of a page: its attributes and its rows of (tag, attributes, text)."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.cell = [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "table":
            self.tables.append((given, []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.cell = [tag, given, ""]
            self.tables[-1][1][-1].append(self.cell)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell[2] += data


def drawn(run):
    section = confusion_section(run, [])
    return {given["data-key"]: rows for given, rows in Tables(render(section)).tables}


def render(section):
    return template("confusion/section.html.j2").render(confusion=section)


def numbers(rows):
    """The counts of a table: commas and true minus signs as people read them."""
    return [[int(text.replace(",", "").replace("−", "-")) for _, _, text in row[1:]] for row in rows[1:]]


@pytest.fixture(scope="module")
def matrices():
    random = np.random.default_rng(5)
    before, after = random.integers(0, 40, (2, 10, 10)) * (random.random((2, 10, 10)) < 0.8)
    before[2, 2], after[4, 4] = 1234, 2345
    return before, after


def test_tables_hold_the_numbers_and_name_their_rows_and_columns(matrices):
    before, after = matrices
    found = drawn(run_of(CLASSES, supervised=before, finetuned=after))
    assert list(found) == ["supervised", "finetuned", "change"]
    assert numbers(found["supervised"]) == before.tolist()
    assert numbers(found["finetuned"]) == after.tolist()
    assert numbers(found["change"]) == (after - before).tolist()
    for rows in found.values():
        heads = rows[0][1:]
        assert [(tag, given["scope"], text) for tag, given, text in heads] == [("th", "col", name) for name in CLASSES]
        assert [(row[0][0], row[0][1]["scope"], row[0][2]) for row in rows[1:]] == [
            ("th", "row", name) for name in CLASSES
        ]


def test_each_cell_says_its_rate(matrices):
    before, after = matrices
    found = drawn(run_of(CLASSES, supervised=before, finetuned=after))
    for i, j in [(0, 3), (2, 2), (4, 4), (9, 1)]:
        if not after[i, j]:
            continue
        given = found["finetuned"][1 + i][1 + j][1]
        pair = f"{CLASSES[i]} called {CLASSES[j]}" if i != j else f"{CLASSES[i]}, right"
        total = after[i].sum()
        assert given["title"] == f"{pair}: {after[i, j]:,} of {total:,}, {100 * after[i, j] / total:.1f}%"
        points = 100 * (after[i, j] / total - before[i, j] / before[i].sum())
        said = found["change"][1 + i][1 + j][1]["title"]
        assert f"{before[i, j]:,} → {after[i, j]:,}, {points:+.1f} points".replace("-", "−") in said


def test_colour_is_the_share_of_the_row_and_better_or_worse():
    # Rows of 200, 200 and no image.
    before = [[100, 98, 2], [20, 170, 10], [0, 0, 0]]
    after = [[120, 76, 4], [32, 158, 10], [0, 0, 0]]
    found = drawn(run_of("abc", supervised=before, finetuned=after))
    looks = {key: [[cell[1].get("class", "") for cell in row[1:]] for row in rows[1:]] for key, rows in found.items()}
    assert looks["supervised"] == [["s6 cm-right", "s6", "s1"], ["s4", "s8 cm-right", "s3"], ["", "", ""]]
    assert looks["change"][0] == ["better4 cm-right", "better4", "worse2"]
    assert looks["change"][1] == ["worse4", "worse4 cm-right", ""]
    assert "title" not in found["change"][3][1][1]
    assert found["change"][2][3][1]["title"] == "b called c: 10 → 10, 0.0 points"


@pytest.mark.parametrize(
    ("images", "moved", "looks", "ranges"),
    [
        # A class of ten: one image is 10 points and no strong colour, three are the strongest.
        (10, (1, 2, 3), ("2", "3", "4"), ["0–5", "5–12.5", "12.5–25", "25+"]),
        # Many images and small changes: the strongest begins at five points.
        (1000, (4, 26, 60), ("1", "3", "4"), ["0–1", "1–2.5", "2.5–5", "5+"]),
        # Large changes: it begins near the largest, so that they differ.
        (1000, (60, 150, 700), ("1", "2", "4"), ["0–8", "8–20", "20–40", "40+"]),
    ],
)
def test_the_colours_of_the_change_fit_its_size(images, moved, looks, ranges):
    before = np.diag([images] * 3)
    after = before.copy()
    for row, many in enumerate(moved):
        after[row, row] -= many
        after[row, (row + 1) % 3] += many
    found = run_of("abc", supervised=before, finetuned=after)
    change = drawn(found)["change"]
    assert [change[1 + i][1 + i][1]["class"] for i in range(3)] == [f"worse{look} cm-right" for look in looks]
    section = confusion_section(found, [])
    assert [text for _, text in section.worse_steps] == [text for _, text in section.better_steps] == ranges
    said = "Points of the row (one image is about 10), better:" if images == 10 else "Points of the row, better:"
    assert said in render(section)


def test_of_several_seeds_the_sum_is_shown_and_what_the_shown_seed_has(matrices):
    before, after = matrices
    shown = {"supervised": before // 3, "finetuned": after // 3}
    section = confusion_section(run_of(CLASSES, 3, shown, supervised=before, finetuned=after), [])
    assert (section.seeds, section.shown, section.tested) == (3, "seed 0", (before // 3).sum())
    found = {given["data-key"]: rows for given, rows in Tables(render(section)).tables}
    assert numbers(found["finetuned"]) == after.tolist()
    here = [[int(cell[1].get("data-here", 0)) for cell in row[1:]] for row in found["finetuned"][1:]]
    assert here == (after // 3).tolist()
    html = render(section)
    assert "added up over 3 seeds" in html
    assert "those of seed 0 alone" in html
    assert 'data-shown="seed 0"' in html


def test_many_classes_are_pictures_and_a_longer_list_of_mistakes(monkeypatch):
    size = MOST_CLASSES + 1
    table = np.random.default_rng(0).integers(1, 9, (size, size))
    names = [f"kind{i}" for i in range(size)]
    monkeypatch.setattr("twoviews.report.confusion.section.confusions", lambda run: (["two"], "change"))
    section = confusion_section(run_of(names, supervised=table, finetuned=table.T), [])
    assert (section.matrices, section.change, section.pictures, section.change_picture) == ([], None, ["two"], "change")
    off = table.T * (1 - np.eye(size, dtype=int))
    assert [it.images for it in section.mistakes] == sorted(off.ravel().tolist(), reverse=True)[:12]
    assert all(off[it.true, it.called] == it.images == it.here for it in section.mistakes)
    fewer = confusion_section(run_of(names[:20], finetuned=table[:20, :20]), [])
    assert len(fewer.matrices) == 1
    assert fewer.is_wide
    assert fewer.pictures == []


def test_one_model_has_no_change_and_none_no_section(matrices):
    assert list(drawn(run_of(CLASSES, finetuned=matrices[1]))) == ["finetuned"]
    assert confusion_section(run_of(CLASSES, knn=matrices[1]), []) is None
    assert confusion_section(run_of(CLASSES, finetuned=matrices[1][:3]), []) is None


def test_names_are_text():
    html = render(confusion_section(run_of([HOSTILE, '" onclick="x'], finetuned=[[1, 2], [3, 4]]), []))
    assert "<img" not in html
    rows = Tables(html).tables[0][1]
    assert [row[0][2] for row in rows[1:]] == [HOSTILE, '" onclick="x']
    assert not any(name.startswith("on") for row in rows for cell in row for name in cell[1])


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_numbers_can_be_read_on_every_colour():
    css = (Path(twoviews.report.__file__).parent / "confusion/confusion.css").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{([^}]*)\}", css)]
    looks = re.findall(r"\.(\w+) \{ background: var\(--(\w+)\); color: var\(--(\w+)\); \}", css)
    assert len(themes) == 3
    assert {look for look, _, _ in looks} == {f"s{i}" for i in range(1, 9)} | {
        f"{verdict}{i}" for verdict in ("better", "worse") for i in range(1, 5)
    }
    for theme in themes:
        for look, ground, ink in looks:
            bright, dark = sorted((luminance(theme[ground]), luminance(theme[ink])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (look, theme[ground])
