"""The confusion matrices in a real browser: a press on a cell shows the files that predictions.csv puts there."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from fixture_explore import add_explorable
from fixture_more import several_seeds
from fixture_study import HOSTILE, write_study

from twoviews.report.page import write_report

NAMES = ["cat", "dog", "<b>bird</b>", HOSTILE, "ship"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return add_explorable(write_study(tmp_path_factory.mktemp("runs") / "study-sample", NAMES, images=300))


@pytest.fixture(scope="module")
def file(study):
    return write_report(study / "test")


@pytest.fixture(scope="module")
def rows(study):
    with open(study / "test" / "predictions.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def cell(page, key, true, called):
    return page.locator(f"table.cm[data-key={key}] tbody tr").nth(true).locator("td").nth(called)


def files_shown(page, block=0):
    """Files of the grid's pictures, by their labels."""
    labels = page.locator(".ex-chosen .ex-grid").nth(block).locator(".ex-pic")
    return sorted(labels.evaluate_all("(all) => all.map((one) => one.getAttribute('aria-label').split(', class ')[0])"))


def title(page, block=0):
    return page.locator(".ex-chosen h3").nth(block).inner_text()


def test_a_cells_press_lists_its_files(file, rows, open_page):
    def files(**wanted):
        return [row["file"] for row in rows if all(row[key] == NAMES[k] for key, k in wanted.items())]

    page = open_page(file)
    cell(page, "supervised", 1, 3).locator("button").click()
    there = files(label=1, supervised=3)
    assert files_shown(page) == there
    assert title(page) == f"{len(there)} images of class dog that the baseline calls {HOSTILE}"
    assert page.evaluate("document.querySelector('.ex-chosen').getBoundingClientRect().top") < 900
    # The way back, then two cells on by the keys, past none that is empty.
    page.keyboard.press("Enter")
    for key in ("ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    place = "const td = document.activeElement.closest('td'); return [td.parentNode.sectionRowIndex, td.cellIndex - 1]"
    assert page.evaluate(f"() => {{ {place} }}") == [0, 2]
    page.keyboard.press("Space")
    assert files_shown(page) == files(label=0, supervised=2)
    # The change: images that came into the cell, and those that left it.
    cell(page, "change", 4, 4).locator("button").click()
    came = set(files(label=4, finetuned=4)) - set(files(label=4, supervised=4))
    left = set(files(label=4, supervised=4)) - set(files(label=4, finetuned=4))
    assert [files_shown(page, i) for i in (0, 1)] == [sorted(came), sorted(left)]
    assert title(page, 1) == (
        f"Moved out: {len(left)} images of class ship that the baseline got right and the fine-tuned model does not"
    )
    said = page.locator(".ex-live").inner_text()
    assert title(page, 0) in said
    assert title(page, 1) in said
    page.keyboard.press("Escape")
    assert page.locator(".ex-chosen").inner_text() == ""
    assert page.evaluate("document.activeElement.closest('table').dataset.key") == "change"


@pytest.mark.slow
def test_every_cell_is_a_button_where_it_has_images_and_one_of_a_table_is_reached_by_tab(file, rows, open_page):
    page = open_page(file)
    for key in ("supervised", "finetuned"):
        counts = np.zeros((5, 5), dtype=int)
        for row in rows:
            counts[NAMES.index(row["label"]), NAMES.index(row[key])] += 1
        buttons = page.locator(f"table.cm[data-key={key}] button")
        assert buttons.all_inner_texts() == [str(n) for n in counts.ravel() if n]
        assert buttons.evaluate_all("(all) => all.filter((one) => one.tabIndex === 0).length") == 1
        for true, called in [(0, 0), (3, 3), (2, 0), (4, 2)]:
            if counts[true, called]:
                cell(page, key, true, called).locator("button").click()
                assert len(files_shown(page)) == counts[true, called]
    line = page.locator(".cm-mistakes button").first
    said = line.inner_text()
    line.click()
    assert f": {len(files_shown(page))} images, baseline" in said


@pytest.mark.slow
def test_of_several_seeds_it_says_whose_pictures_they_are(study, rows, tmp_path, open_page):
    page = open_page(write_report(several_seeds(shutil.copytree(study, tmp_path / "study-sample"), 2)))
    pressed = cell(page, "finetuned", 0, 0).locator("button")
    text = pressed.inner_text()
    pressed.click()
    there = sum(row["label"] == row["finetuned"] == "cat" for row in rows)
    assert (len(files_shown(page)), int(text)) == (there, 2 * there)
    note = f"Surest first. Of seed 0 alone: the matrix’s {text} adds up 2 seeds."
    assert page.locator(".ex-chosen .note").first.inner_text() == note


@pytest.mark.slow
def test_of_a_sample_it_says_how_many_are_shown(study, rows, tmp_path, open_page):
    test = shutil.copytree(study / "test", tmp_path / "test")
    lines = (test / "index.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (test / "index.csv").write_text("".join([lines[0], *lines[1::3]]), encoding="utf-8")
    with np.load(test / "maps.npz") as maps:
        some = {name: points[::3] for name, points in maps.items()}
    np.savez(test / "maps.npz", **some)
    page = open_page(write_report(test))
    cell(page, "finetuned", 0, 0).locator("button").click()
    there = [row["file"] for row in rows if row["label"] == row["finetuned"] == "cat"]
    shown = [row["file"] for row in rows[::3] if row["file"] in there]
    assert files_shown(page) == shown
    note = f"Surest first. {len(shown)} of {len(there)} shown: the page has 100 of 300 test images."
    assert page.locator(".ex-chosen .note").first.inner_text() == note


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious_in_the_matrices(file, open_page, serious, scheme, width):
    page = open_page(file, color_scheme=scheme, viewport={"width": width, "height": 844})
    cell(page, "change", 4, 4).locator("button").click()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_without_script_the_matrices_are_plain_tables(file, chromium):
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("table.cm").count() == 3
    assert page.locator("table.cm button").count() == 0
    assert cell(page, "finetuned", 0, 0).get_attribute("title").startswith("cat, right: ")
    assert not page.locator(".cm-hint").is_visible()
    context.close()
