from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.label_savings import CurvePoint, label_savings
from twoviews.evaluation.seeds import difference_over_seeds


def curve(labels, baseline, finetuned, spread=(-0.01, 0.0, 0.01)):
    around = np.array(spread)
    return [
        CurvePoint(n, before + around, after + np.roll(around, 1) / 2)
        for n, before, after in zip(labels, baseline, finetuned, strict=True)
    ]


def enough_labels(goal, first, last):
    """Labels, between 100 and 1000, from which on the seeds' t interval of fine-tuned − baseline leaves out zero."""
    around = np.array((-0.01, 0.0, 0.01))
    for share in np.linspace(0, 1, 201):
        values = first + share * (last - first) + np.roll(around, 1) / 2 - goal - around
        if ttest_1samp(values, 0).confidence_interval(0.95).low > 0:
            return 100 * 10**share
    raise AssertionError


def test_labels_are_read_off_between_two_points_over_their_logarithm():
    points = curve((100, 300, 1000), (0.40, 0.50, 0.60), (0.52, 0.58, 0.66))
    found = label_savings(points)
    share = (0.60 - 0.58) / (0.66 - 0.58)
    assert found.same_accuracy_labels == pytest.approx(300 * (1000 / 300) ** share)
    assert (found.labels, found.baseline_top1, found.bound) == (1000, pytest.approx(0.60), None)
    assert found.saved == pytest.approx(1 - found.same_accuracy_labels / 1000)
    assert found.low < found.same_accuracy_labels < found.high
    assert label_savings(points[::-1]) == found


def test_a_baseline_that_fewest_labels_beat_gives_an_upper_bound():
    found = label_savings(curve((100, 300, 1000), (0.40, 0.50, 0.60), (0.70, 0.75, 0.80)))
    assert (found.same_accuracy_labels, found.bound) == (100.0, "at most")
    assert found.saved == pytest.approx(0.9)
    assert found.as_record()["ci95"] == [None, 100.0]  # every number tried is more than enough
    unsure = label_savings(curve((100, 300, 1000), (0.40, 0.50, 0.60), (0.605, 0.7, 0.8)))
    assert unsure.bound == "at most"
    assert unsure.low is None
    assert 100 < unsure.high < 300


def test_a_baseline_that_is_never_reached_saves_nothing():
    found = label_savings(curve((100, 1000), (0.40, 0.70), (0.40, 0.50)))
    assert found.as_record() == {
        "labels": 1000,
        "baseline_top1": pytest.approx(0.7),
        "same_accuracy_labels": None,
        "bound": "none",
        "saved": None,
        "ci95": [1000.0, None],  # every number tried is ruled out as too few: not an interval without ends
        "per_point": [
            {
                "labels": 100,
                "baseline_top1": pytest.approx(0.4),
                "same_accuracy_labels": pytest.approx(100),
                "bound": "at most",
                "saved": pytest.approx(0.0),
                "ci95": [None, pytest.approx(enough_labels(0.4, 0.4, 0.5), rel=0.02)],
            }
        ],
    }
    close = label_savings(curve((100, 1000), (0.40, 0.70), (0.40, 0.699)))
    assert (close.bound, close.same_accuracy_labels, close.high) == ("none", None, None)
    assert 100 < close.low < 1000


def test_a_curve_that_falls_is_pooled_where_it_falls():
    points = curve((100, 200, 400, 800), (0.3, 0.4, 0.5, 0.62), (0.50, 0.66, 0.58, 0.70))
    found = label_savings(points)
    # 200 and 400 labels share 0.62, which is reached at the first of them, not at the lucky crossing before.
    assert found.same_accuracy_labels == pytest.approx(200)
    first_crossing = 100 * 2 ** ((0.62 - 0.50) / (0.66 - 0.50))
    assert first_crossing < found.same_accuracy_labels
    rising = curve((100, 200, 400, 800), (0.3, 0.4, 0.5, 0.62), (0.50, 0.62, 0.62, 0.70))
    assert label_savings(rising).same_accuracy_labels == pytest.approx(found.same_accuracy_labels)
    falling = label_savings(curve((100, 200), (0.3, 0.5), (0.62, 0.58)))
    assert (falling.bound, falling.same_accuracy_labels) == ("at most", 100.0)


def test_interval_holds_what_the_test_of_differences_does_not_rule_out(coverage):
    study = coverage.simulate(coverage.WORLDS["seeds as much as images"], 1, 3, 400, coverage.CURVE).correct[:, 0]
    found = label_savings([CurvePoint(n, study[-1], one) for n, one in zip((100, 300, 1000), study, strict=False)])
    for i, n in enumerate((100, 300, 1000)):
        difference = difference_over_seeds(study[i], study[-1])
        holds = difference.low <= 0 <= difference.high
        assert holds == ((found.low or 0) <= n <= (found.high or np.inf)), n
    per_seed = [CurvePoint(n, study[-1].mean(1), one.mean(1)) for n, one in zip((100, 300, 1000), study, strict=False)]
    assert label_savings(per_seed).same_accuracy_labels == pytest.approx(found.same_accuracy_labels)


def test_each_baseline_point_has_its_own_savings():
    found = label_savings(curve((100, 300, 1000), (0.40, 0.54, 0.60), (0.52, 0.58, 0.66)))
    assert [one.labels for one in found.per_point] == [100, 300]
    assert found.per_point[0].bound == "at most"
    assert found.per_point[1].same_accuracy_labels == pytest.approx(100 * 3 ** ((0.54 - 0.52) / 0.06))
    record = found.as_record()
    assert [one["labels"] for one in record["per_point"]] == [100, 300]
    assert all(set(one) == set(record) - {"per_point"} for one in record["per_point"])


def test_one_seed_needs_its_images_for_an_interval():
    points = curve((100, 1000), (0.4, 0.6), (0.5, 0.7), spread=(0.0,))
    found = label_savings(points)
    assert found.same_accuracy_labels == pytest.approx(100 * 10**0.5)
    assert found.as_record()["ci95"] is None
    generator = np.random.default_rng(0)
    images = [
        CurvePoint(p.labels, *(generator.random((1, 500)) < x for x in (p.baseline, p.finetuned))) for p in points
    ]
    with_images = label_savings(images)
    assert with_images.low < with_images.same_accuracy_labels < with_images.high


def test_what_is_no_curve():
    one, two = curve((100, 1000), (0.4, 0.6), (0.5, 0.7))
    assert label_savings([one]) is None
    assert label_savings([]) is None
    with pytest.raises(DataError, match="different numbers"):
        label_savings([one, one])
    with pytest.raises(DataError, match="different numbers"):
        label_savings([CurvePoint(0, one.baseline, one.finetuned), two])
    with pytest.raises(DataError, match="same seeds"):
        label_savings([one, CurvePoint(1000, [0.5], [0.5])])
    with pytest.raises(DataError, match="same seeds"):
        label_savings([CurvePoint(n, [0.5, 0.6], [0.5]) for n in (100, 200)])
    with pytest.raises(SettingsError, match="level"):
        label_savings([one, two], level=2)


def test_intervals_hold_the_true_number_of_labels(coverage):
    assert coverage.covered_savings(coverage.WORLDS["seeds as much as images"], 120, 3, 80) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_the_true_number_of_labels_in_every_world(coverage, seeds):
    for name, world in coverage.WORLDS.items():
        assert coverage.covered_savings(world, 400, seeds, 200) >= 0.92, name  # ± 1 % by chance
