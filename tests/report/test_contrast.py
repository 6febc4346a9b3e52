"""Words in figures can be read: each has AA contrast (4.5 to 1) on white, and on the card that dark pages have."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fixture_more import add_feature_checks, add_folds, add_label_curve, several_seeds
from fixture_study import write_study
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from twoviews import report
from twoviews.report import figures
from twoviews.report.data import ReportData
from twoviews.report.labels.points import label_points
from twoviews.report.several.figures import several_dots, several_label_curves
from twoviews.report.study_figures import _figures
from twoviews.report.style import ORANGE

ROOT = Path(report.__file__).parent


def luminance(colour):
    """Of sRGB, as WCAG 2.2 defines it."""
    parts = np.array(to_rgb(colour))
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def variables(css, scheme):
    """Custom properties of a sheet's light or dark part."""
    light, _, dark = (ROOT / css).read_text(encoding="utf-8").partition("(prefers-color-scheme: dark)")
    return dict(re.findall(r"--([\w-]+): (#\w+);", dark.partition("\n}\n")[0] if scheme == "dark" else light))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    study = write_study(tmp_path_factory.mktemp("runs") / "study-sample", images=200)
    rows = [
        {"epoch": i, "train_loss": 1 / i, "val_loss": 1.0, "loss": 2.0, "alignment": 0.1, "uniformity": 1.0}
        for i in (1, 2)
    ]
    for add in (several_seeds, add_label_curve, add_folds, add_feature_checks):
        add(study)
    data = ReportData.read(study)
    results = data.run.results
    models, points = [results["models"]] * 7, label_points(results)
    found = {name: figure for name, figure, _ in _figures(data)}
    names = [f"study {i}" for i in range(7)]
    return found | {
        "curves": figures.classifier_curves(rows),
        "pretraining": figures.pretraining_curves(rows),
        "several": several_dots(names, models, ["finetuned", "supervised"]),
        "several curves": several_label_curves(names, [points] * 7),
    }


def test_words_in_figures_stand_out_from_their_ground(drawn):
    assert len(drawn) > 12
    grounds = ["#ffffff", variables("style.css", "dark")["card"]]
    faint, said = set(), 0
    for name, figure in drawn.items():
        for text in figure.findobj(Text):
            # The numbers of a confusion matrix stand on its cells.
            if text.get_visible() and text.get_text().strip() and not (text.axes is not None and text.axes.images):
                said += 1
                faint |= {
                    (name, text.get_text(), to_hex(text.get_color()))
                    for one in grounds
                    if contrast(text.get_color(), one) < 4.5
                }
    assert faint == set()
    assert said > 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_of_the_page_stand_out_from_it(scheme):
    page = variables("style.css", "light") | (variables("style.css", "dark") if scheme == "dark" else {})
    for ink in ("ink", "soft", "good", "bad"):
        assert contrast(page[ink], page["paper"]) >= 4.5, ink
    assert contrast(page["warn-ink"], page["warn"]) >= 4.5


def test_orange_is_for_lines_and_words_beside_them_are_darker():
    assert contrast(ORANGE, "#ffffff") >= 3
    sheet = (ROOT / "charts" / "charts.css").read_text(encoding="utf-8")
    line, text = re.search(r"\.ch-orange { --line: (#\w+); --text: (#\w+); }", sheet).groups()
    assert line == ORANGE
    assert contrast(text, "#ffffff") >= 4.5
    # Nothing else in the page's sheets and scripts knows it.
    others = [
        path for path in ROOT.rglob("*") if path.suffix in (".css", ".js", ".j2") and ORANGE in path.read_text("utf-8")
    ]
    assert [path.name for path in others] == ["charts.css"]
