"""Figures show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pytest

from twoviews.report import figures, style
from twoviews.report.confusion.figure import confusion_difference, confusion_matrix
from twoviews.report.features import maps

ROWS = [
    {"epoch": 1, "train_loss": 2.0, "val_loss": 1.9, "train_top1": 0.3, "val_top1": 0.35},
    {"epoch": 2, "train_loss": 1.5, "val_loss": None, "train_top1": 0.4, "val_top1": 0.45},
    {"epoch": 3, "train_loss": 1.0, "val_loss": 1.2, "train_top1": 0.6, "val_top1": 0.55},
]


def drawn(axis, label):
    return next(np.asarray(line.get_ydata(), float) for line in axis.lines if line.get_label() == label)


def words(axis):
    return [text.get_text() for text in axis.texts]


def test_classifier_curves_are_the_rows_and_null_is_a_gap():
    loss, accuracy = figures.classifier_curves(ROWS).axes
    np.testing.assert_array_equal(drawn(loss, "training"), [2.0, 1.5, 1.0])
    np.testing.assert_array_equal(drawn(loss, "validation"), [1.9, np.nan, 1.2])
    np.testing.assert_allclose(drawn(accuracy, "validation"), [35, 45, 55])


def test_shared_limits_hold_all_runs():
    limits = figures.curve_limits(ROWS, [{"epoch": 9, "train_loss": 4.0, "val_top1": 0.9}])
    one, other = (figures.classifier_curves(rows, limits=limits) for rows in (ROWS, ROWS[:1]))
    for a, b in zip(one.axes, other.axes, strict=True):
        assert (a.get_xlim(), a.get_ylim()) == (b.get_xlim(), b.get_ylim())
    assert one.axes[0].get_xlim()[1] == 9
    assert one.axes[0].get_ylim()[1] > 4.0


def test_pretraining_curves_join_what_is_measured_now_and_then():
    rows = [{"epoch": i, "loss": 5.0 - i, "lr": 0.1, "contrastive_top1": 0.1 * i} for i in (1, 2, 3, 4)]
    rows[3]["knn_top1"] = 0.5
    assert figures.measured_panels(rows) == ["loss", "contrastive_top1", "knn_top1", "lr"]
    knn = figures.pretraining_curves(rows, panels=["knn_top1"]).axes[0]
    np.testing.assert_allclose(drawn(knn, "knn top1"), [50])


@pytest.mark.parametrize("rows", [[], [{"epoch": 1, "train_loss": None, "loss": float("nan")}]])
def test_curves_without_numbers_say_so(rows):
    assert words(figures.classifier_curves(rows).axes[0]) == ["nothing measured yet"]
    assert words(figures.pretraining_curves(rows).axes[0]) == ["nothing measured yet"]


def test_accuracy_dots_are_the_accuracies():
    models = {
        "supervised": {"test_top1": 0.6, "ci95": [0.58, 0.62]},
        "finetuned": {"test_top1": 0.65, "ci95": [0.63, 0.67]},
        "knn": {"test_top1": 0.5, "ci95": None},
        "linear_probe": {"test_top1": None, "ci95": None},
    }
    (axis,) = figures.accuracy_dots(models).axes
    dots = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    spans = [[*line.get_xdata()] for line in axis.lines if line.get_linewidth() > 2]
    np.testing.assert_allclose(dots, [60, 65, 50])
    np.testing.assert_allclose(spans, [[58, 62], [63, 67]])
    assert words(axis) == ["60.0", "65.0", "50.0"]


def test_confusion_matrix_counts_and_rates():
    counts = [[8, 2], [0, 10]]
    assert words(confusion_matrix(counts, ["a", "b"]).axes[0]) == ["8", "2", "", "10"]
    assert words(confusion_matrix(counts, ["a", "b"], rates=True).axes[0]) == ["80", "20", "", "100"]
    # A class without images is a row of blanks, not a division by zero.
    assert words(confusion_matrix([[0, 0], [1, 3]], ["a", "b"]).axes[0]) == ["", "", "1", "3"]


def test_confusion_difference_colours_better_and_worse():
    (axis,) = confusion_difference([[8, 2], [0, 10]], [[9, 1], [3, 7]], ["a", "b"]).axes
    assert words(axis) == ["+1", "−1", "+3", "−3"]
    np.testing.assert_array_equal(axis.images[0].get_array(), [[1, 1], [-3, -3]])


@pytest.mark.parametrize(
    ("counts", "changed", "bound"),
    [
        ([[10, 0], [0, 10]], [[9, 1], [0, 10]], 2),  # one image is not the darkest
        ([[10, 0], [0, 10]], [[4, 6], [0, 10]], 6),
        ([[990, 10], [10, 990]], [[980, 20], [10, 990]], 50),  # nor is 1 % of a class
    ],
)
def test_the_darkest_colour_of_a_difference_is_more_than_an_image(counts, changed, bound):
    (axis,) = confusion_difference(counts, changed, ["a", "b"]).axes
    assert axis.images[0].get_clim() == (-bound, bound)
    assert axis.get_title("left") == f"Change (images; darkest: ±{bound})"


def test_classes_that_lie_on_each_other_have_a_name_each():
    points = np.random.default_rng(0).normal(size=(400, 2))
    points -= np.median(points, axis=0)
    labels = np.arange(400) % 4
    for k in range(4):
        points[labels == k] -= np.median(points[labels == k], axis=0)  # all in one place
    names = ["frog", "Kätzchen & Katzen", "dog (big)", "ship"]
    axis = maps.scatter_map(points, labels, names).axes[0]
    assert sorted(words(axis)) == sorted(names)
    heights = sorted(text.get_position()[1] for text in axis.texts)
    assert np.diff(heights).min() > 0.1


def test_a_long_name_is_cut_at_its_end_and_only_where_there_is_no_room():
    assert style.short_names(["Kätzchen & Katzen", "dog"], 18) == ["Kätzchen & Katzen", "dog"]
    assert style.short_names(["Kätzchen & Katzen", "dog"], 10) == ["Kätzchen…", "dog"]
    # Names that differ at their ends alone keep those.
    one, other = style.short_names(["retriever number 1", "retriever number 2"], 10)
    assert (one, other) == ("retrie…r 1", "retrie…r 2")
    points = np.random.default_rng(0).normal(size=(60, 2))
    figure = maps.scatter_map(points, np.zeros(60, int), ["Kätzchen & Katzen", "dog"])
    assert words(figure.axes[0]) == ["Kätzchen & Katzen"]
    assert figure.legends[0].get_texts()[0].get_text() == "Kätzchen & Katzen"


@pytest.mark.parametrize("classes", [2, 10, 37, 100])
def test_figures_for_any_number_of_classes(classes):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 300)
    names = [f"class number {i}" for i in range(classes)]
    figure = maps.scatter_map(random.normal(size=(300, 2)), labels, names, "t-SNE")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    looks = {(line.get_marker(), line.get_color()) for line in figure.legends[0].get_lines()}
    assert len(looks) == classes
    matrix = confusion_matrix(random.integers(0, 9, (classes, classes)), names)
    for one in (figure, matrix):
        assert [picture[:5] for picture in style.png_and_svg(one)] == [b"\x89PNG\r", b"<?xml"]


def test_maps_leave_out_what_is_not_finite_and_sample_what_is_too_much(monkeypatch):
    monkeypatch.setattr(maps, "MOST_POINTS", 50)
    points = np.random.default_rng(0).normal(size=(200, 2))
    points[:170] = np.nan
    (axis,) = maps.scatter_map(points, np.zeros(200, int), ["a"]).axes
    assert len(axis.collections[0].get_offsets()) == 30
    (axis,) = maps.scatter_map(np.nan_to_num(points), np.zeros(200, int), ["a"]).axes
    assert len(axis.collections[0].get_offsets()) == 50
    with pytest.raises(ValueError, match="200 points but 3 labels"):
        maps.scatter_map(points, [0, 1, 2], ["a"])


def test_kmeans_map_gives_a_cluster_its_class_colour():
    points = np.arange(12.0).reshape(6, 2)
    figure = maps.kmeans_map(points, [5, 5, 5, 7, 7, 9], [1, 1, 1, 0, 0, 0], ["a", "b"], {5: 1, 7: 0})
    left, right = (axis.collections[0].get_facecolors()[:, :3] for axis in figure.axes)
    assert (left == right).all(axis=1).sum() == 5
