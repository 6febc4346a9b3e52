"""The gallery of best, worst and random queries: what it shows follows from the run's features and labels."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from fixture_explore import add_explorable, read_index
from fixture_study import write_study

from twoviews.report.explore.neighbours import nearest
from twoviews.report.page import write_report

IMAGES = 120


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "study-sample", ["cat", "dog", "<b>bird</b>"], images=IMAGES)
    for stage in ("supervised", "pretrain", "features", "finetune"):
        shutil.rmtree(folder / stage)  # what isn't drawn takes no time
    return add_explorable(folder)


def shown(page):
    """Of each row of the gallery the image asked for, its nearest ones, and the frame of each."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".ex-gallery .ex-asked")].map((row) => {
          const number = (one) => Number(one.dataset.image);
          const near = [...row.querySelectorAll(".ex-strip .ex-pic")];
          const right = near.map((one) => one.classList.contains("is-right"));
          return [number(row.querySelector(".ex-pic")), near.map(number), right];
        })"""
    )


def test_the_gallery_shows_best_and_worst_of_a_backbone_by_hand_and_by_keys(study, open_page):
    labels = np.array([row["label"] for row in read_index(study)])
    page = open_page(write_report(study))
    for backbone, name in (("pretrained", None), ("random_init", "Untrained")):
        if name:
            page.get_by_label("In the features of").select_option(label=name)
        near = nearest(np.load(study / "test" / f"features-{backbone}.npy"))
        alike = (labels[near] == labels[:, None]).sum(axis=1)
        page.get_by_role("tab", name="Best").click()
        for tab, ranked in (("Best", sorted(alike)[::-1]), ("Worst", sorted(alike))):
            rows = shown(page)
            assert len(rows) == 8, tab
            assert [alike[image] for image, _, _ in rows] == ranked[:8]
            for image, found, right in rows:
                assert found == near[image].tolist()
                assert right == (labels[near[image]] == labels[image]).tolist()
            equal = int((alike == ranked[0]).sum())
            assert page.locator(".ex-gallery p.note").inner_text().startswith(f"{equal} test image")
            page.keyboard.press("ArrowRight")
    # The arrow has moved on to the random ones: others when asked again, the same ones when opened again.
    assert page.get_by_role("tab", selected=True).inner_text() == "Random"
    first = shown(page)
    page.keyboard.press("Enter")
    assert {row[0] for row in shown(page)} != {row[0] for row in first}
    page.get_by_role("tab", name="Best").click()
    page.get_by_role("tab", name="Random").click()
    assert shown(page) == first
    # One stop for the tab key, then arrows; Enter keeps an image, as a click does.
    page.locator(".ex-gallery .ex-pic[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator(".ex-kept .ex-file").inner_text() == read_index(study)[first[0][1][0]]["file"]
