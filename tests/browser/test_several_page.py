"""The page that compares studies, in a real browser: no error, nothing outside the screen, nothing that axe minds."""

from __future__ import annotations

import pytest
from fixture_more import add_label_curve
from fixture_several import another, comparable_study

from twoviews.settings import ReportCommand
from twoviews.stages.report import run_report


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    first = add_label_curve(comparable_study(folder / "study-resnet18"), seeds=1)
    others = [another(first, folder / f"study-{i}", gained=9 * i, pretrain__epochs=60 + i) for i in (1, 2)]
    return run_report(ReportCommand(runs=(first, *others)))


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_the_comparison_is_accessible_in_light_and_dark_and_on_a_phone(file, open_page, serious, scheme, width):
    page = open_page(file, ready="#again", color_scheme=scheme, viewport={"width": width, "height": 844})
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
