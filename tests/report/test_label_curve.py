"""The label curve's figure and files show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pytest
from test_label_points import CLEAR, TOPS, read_off, results

from twoviews.errors import DataError
from twoviews.report.labels.curve import alt_text, label_curve, label_curve_data
from twoviews.report.labels.points import label_points

PROBE = {"linear_probe": (0.43, 0.49, 0.524)}


def curve(found=None, **more):
    made = results(found, tops={**TOPS, **PROBE}, **more)
    for point in made["label_curve"]:
        for row in point["models"].values():
            top1 = row["test_top1"]
            row.update(ci95=[top1 - 0.03, top1 + 0.04], std=0.01, per_seed=[top1 - 0.01, top1, top1 + 0.01])
    return made


def lines(axis, label):
    return next(line for line in axis.lines if line.get_label() == label)


def texts(axis):
    return [text.get_text().strip() for text in axis.texts if text.get_text()]


def test_lines_intervals_and_seeds_are_the_numbers():
    (axis,) = label_curve(curve()).axes
    assert axis.get_xscale() == "log"
    assert [text.get_text() for text in axis.get_xticklabels()] == [
        "10\n100 in all",
        "30\n300 in all",
        "100\n1,000 in all",
    ]
    np.testing.assert_array_equal(axis.get_xticks(), [100, 300, 1000])
    for name, tops in (
        ("Supervised baseline", TOPS["supervised"]),
        ("SimCLR, fine-tuned", TOPS["finetuned"]),
        ("SimCLR, linear probe", PROBE["linear_probe"]),
    ):
        line = lines(axis, name)
        np.testing.assert_allclose(line.get_ydata(), 100 * np.array(tops))
        np.testing.assert_allclose(line.get_xdata(), [100, 300, 1000], rtol=0.03)
        same = [other for other in axis.lines if other.get_color() == line.get_color() and other is not line]
        intervals = [np.ptp(bar.get_ydata()) for bar in same if len(bar.get_xdata()) == 2]
        seeds = [rings.get_ydata() for rings in same if len(rings.get_xdata()) == 3]
        np.testing.assert_allclose(intervals, 7)
        np.testing.assert_allclose(np.ptp(seeds, axis=1), 2)
    looks = [(line.get_color(), line.get_marker()) for line in axis.lines if not line.get_label().startswith("_")]
    assert [len(set(one)) for one in zip(*looks, strict=True)] == [3, 3]


def arrows(axis):
    return [text for text in axis.texts if text.arrow_patch is not None]


def test_the_arrow_leads_from_the_baseline_to_the_labels_that_are_enough():
    (axis,) = label_curve(curve(read_off())).axes
    [arrow] = arrows(axis)
    np.testing.assert_allclose(arrow.xyann, (1000, 54.2))
    np.testing.assert_allclose(arrow.xy, (310, 54.2))
    assert texts(axis) == ["31 labels a class\n 69% fewer"]
    broad = max(axis.lines, key=lambda line: line.get_linewidth())
    np.testing.assert_allclose(broad.get_xdata(), [270, 384])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (read_off(same=100.0, bound="at most", ci95=None), ["≤ 10 labels a class\n at least 90% fewer"]),
        (read_off(same=None, bound="none", ci95=None), ["the baseline’s accuracy, never reached"]),
        (read_off(same=1000.0, ci95=None), ["no labels saved"]),
        (None, []),
    ],
)
def test_what_the_arrow_says_at_the_ends(found, said):
    (axis,) = label_curve(curve(found)).axes
    assert texts(axis) == said
    assert len(arrows(axis)) == ("fewer" in "".join(said))
    assert max(line.get_linewidth() for line in axis.lines) < 5  # no interval, no broad bar


def test_crowded_ticks_are_named_sparsely():
    tops = dict.fromkeys(("supervised", "finetuned"), (0.3, 0.31, 0.5))
    (axis,) = label_curve(results(per_class=(10, 11, 100), tops=tops, intervals=CLEAR)).axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["", "11\n110 in all", "100\n1,000 in all"]


def test_fewer_than_two_points_are_refused():
    found = curve()
    del found["label_curve"][1:]
    with pytest.raises(DataError, match="two numbers of labels"):
        label_curve(found)


def test_its_data_hold_the_curve():
    header, lines = label_curve_data(label_points(curve(read_off())))
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert len(rows) == 9
    last = rows[-1]
    assert (last["labels"], last["labels_per_class"], last["model"]) == ("1000", "100", "finetuned")
    assert [float(last[key]) for key in ("test_top1", "ci95_low", "ci95_high", "low", "high")] == pytest.approx(
        [0.611, 0.581, 0.651, 0.1, 13.7]
    )
    assert float(last["minus_supervised"]) == pytest.approx(6.9)
    assert [float(value) for value in last["per_seed"].split()] == pytest.approx([0.601, 0.611, 0.621])
    assert {row["minus_supervised"] for row in rows if row["model"] != "finetuned"} == {""}


def test_the_numbers_are_there_for_those_who_cannot_see_the_figure():
    text = alt_text(label_points(curve()))
    assert "100 labels a class: Supervised baseline 54.2%, SimCLR, linear probe 52.4%, SimCLR, fine-tuned 61.1%" in text
