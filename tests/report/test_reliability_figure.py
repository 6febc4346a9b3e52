"""The reliability diagram's layout holds for any confidences: panels fill the figure, words stay inside."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from twoviews.report.calibration.figure import _WIDTHS, _labels, reliability_diagram
from twoviews.report.calibration.reliability import reliability


def model(confidence, right):
    """A model with these confidences, of which the first so many answers are right."""
    sure = np.asarray(confidence, dtype=np.float64)
    return reliability(sure, np.arange(len(sure)) < right, draws=5)


CASES = {
    "one_bin": model(np.linspace(0.334, 0.35, 39), 18),
    "all_sure": model(np.full(39, 1.0), 39),
    "never_right": model([0.01], 0),
    "few_and_many": model(np.r_[np.full(5, 0.2), np.full(50, 0.97)], 20),
    "middle": model(np.linspace(0.34, 0.66, 400), 200),
}


def laid_out(*names):
    """The upper and the lower panels of a figure drawn once; what matplotlib warns of is an error."""
    figure = reliability_diagram([(name, CASES[name]) for name in names])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    shown = [axis for axis in figure.axes if axis.axison]
    return [[axis for axis in shown if axis.get_ylabel().startswith(word)] for word in ("Right", "Images")]


@pytest.fixture(scope="module")
def several():
    """More than a row of them."""
    return laid_out(*CASES)


def test_panels_fill_the_figure_whatever_the_confidences(several):
    above, below = several
    assert len(above) == len(below) == len(CASES)
    assert all(axis.get_position().width > 0.27 for axis in above + below)
    assert all(axis.get_position().height > 0.18 for axis in above)
    assert all(axis.get_position().height > 0.05 for axis in below)


@pytest.mark.parametrize("names", [["one_bin"], ["one_bin", "middle"]])
def test_one_and_two_models_fill_the_figure_too(names):
    above, below = laid_out(*names)
    for axis in above + below:
        assert axis.get_position().width > 0.8 / len(names)


def test_words_stay_in_their_panel_and_the_scale_ends_at_100(several):
    for axis in several[1]:
        frame = axis.get_window_extent()
        words = [text.get_window_extent() for text in axis.texts]
        assert len(words) == 2
        for box in words:
            assert frame.x0 <= box.x0
            assert box.x1 <= frame.x1
            assert box.y1 <= frame.y1
        assert not words[0].overlaps(words[1])
        assert max(axis.get_yticks()) <= 100


def test_no_line_crosses_the_words_of_the_other():
    for confidence in range(101):
        for right in range(0, 101, 2):
            one = replace(CASES["one_bin"], confidence=confidence / 100, accuracy=right / 100)
            first, second = _labels(one)
            assert first.is_upper != second.is_upper
            for label, other in ((first, second), (second, first)):
                width = _WIDTHS["right" if label.words.startswith("right") else "confidence"]
                ends = (label.value - width, label.value) if label.is_left else (label.value, label.value + width)
                assert 0 <= ends[0] < ends[1] <= 100
                assert not (other.is_upper and ends[0] < other.value < ends[1]), (confidence, right)


def test_the_words_along_the_diagonal_keep_off_the_points(several):
    for axis in several[0]:
        (words,) = axis.texts
        box = words.get_window_extent()
        for line in axis.lines:
            if line.get_marker() == "o":
                assert not any(box.contains(*point) for point in axis.transData.transform(line.get_xydata()))
