"""Bins, calibration error and intervals: against plain loops, and against draws whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from twoviews.report.calibration.reliability import BINS, equal_mass, equal_width, reliability


@pytest.fixture
def random():
    """The same numbers for each test, whichever others run."""
    return np.random.default_rng(8)


def drawn(random, images, shift=0.0):
    """Confidences, and answers that are right that often plus a shift."""
    confidence = random.uniform(0.3, 0.95, images)
    return confidence, random.random(images) < confidence + shift


def test_bins_and_error_are_those_of_the_paper(random):
    """Guo et al. 2017, section 2: bin m holds confidences in ((m-1)/M, m/M]."""
    confidence = np.round(random.random(500), 4)
    correct = random.random(500) < confidence**2
    error = 0.0
    for m in range(1, BINS + 1):
        inside = (confidence > (m - 1) / BINS) & (confidence <= m / BINS)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert equal_width(confidence, correct).error == pytest.approx(error)


def test_confidence_on_an_edge_belongs_to_the_bin_below():
    edges = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    bins = equal_width(edges, np.ones(6, dtype=bool))
    assert bins.high.tolist() == pytest.approx([1 / BINS, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert bins.images.tolist() == [1] * 6


def test_bins_of_equal_mass_do_not_depend_on_the_order_and_keep_equal_confidences_together(random):
    confidence = np.r_[random.random(300), np.full(150, 0.9999)]
    correct = np.r_[np.ones(300, dtype=bool), random.random(150) < 0.5]
    bins = equal_mass(confidence, correct)
    assert bins.images.sum() == 450
    assert bins.images[bins.high < 0.99].tolist() == [30] * 9  # ties alone make a bin larger
    order = random.permutation(450)
    again = equal_mass(confidence[order], correct[order])
    assert again.images.tolist() == bins.images.tolist()
    assert again.error == pytest.approx(bins.error)
    free = random.permutation(450) / 450
    assert equal_mass(free, correct).images.tolist() == [30] * 15


def test_intervals_of_bins_are_wilsons(random):
    bins = equal_width(*drawn(random, 200))
    low, high = bins.accuracy_interval()
    right = np.rint(bins.accuracy * bins.images)
    expected = proportion_confint(right, bins.images, method="wilson")
    assert np.allclose([low, high], expected, atol=1e-9)


def test_the_error_that_chance_makes_covers_a_calibrated_model_and_not_one_that_is_too_sure(random):
    """Of models whose confidence is exactly right 95 % stay below chance_high; few images make the error large."""
    fair = [reliability(*drawn(random, 250), draws=200, seed=i) for i in range(60)]
    below = sum(one.error <= one.chance_high for one in fair)
    assert 51 <= below <= 60  # 57 expected, standard deviation 1.7
    mean = np.mean([one.error for one in fair])
    assert mean == pytest.approx(np.mean([one.chance for one in fair]), rel=0.08)
    assert mean > 0.05
    unfair = [reliability(*drawn(random, 250, -0.25), draws=200, seed=i) for i in range(10)]
    assert all(one.error > one.chance_high for one in unfair)


def test_the_interval_of_over_confidence_holds_the_truth(random):
    held = 0
    for _ in range(100):
        one = reliability(*drawn(random, 200, -0.2), draws=1)
        held += one.gap_interval[0] <= 0.2 <= one.gap_interval[1]
        assert one.gap == pytest.approx(one.confidence - one.accuracy)
    assert 87 <= held <= 99  # 95 expected, standard deviation 2.2


def test_few_images_that_are_all_right_are_no_proof_of_under_confidence(random):
    """20 of 20 right at 90 %: a calibrated model does that in 12 % of cases."""
    confidence = random.uniform(0.88, 0.92, 20)
    low, high = reliability(confidence, np.ones(20, dtype=bool), draws=1).gap_interval
    assert -1 < low < -0.1 < 0 < high
    mirrored = reliability(1 - confidence, np.zeros(20, dtype=bool), draws=1).gap_interval
    assert mirrored == pytest.approx((-high, -low))
    low, high = reliability(np.full(2000, 0.9), np.ones(2000, dtype=bool), draws=1).gap_interval
    assert low < -0.1 < high < -0.09  # many images are


@pytest.mark.parametrize(("images", "around"), [(10, 0.9), (30, 0.95), (100, 0.97), (1000, 0.6)])
def test_the_interval_of_over_confidence_holds_zero_for_a_calibrated_model(random, images, around):
    held = 0
    for _ in range(150):
        confidence = random.uniform(2 * around - 1, 1, images)
        low, high = reliability(confidence, random.random(images) < confidence, draws=1).gap_interval
        held += low <= 0 <= high
    assert held >= 136  # 142 expected, standard deviation 2.7


def test_groups_of_nearly_equal_confidences_draw_what_single_draws_would(random):
    confidence, correct = drawn(random, 400)
    one = reliability(confidence, correct, draws=2000)
    errors = [equal_width(confidence, random.random(400) < confidence).error for _ in range(400)]
    assert one.chance == pytest.approx(np.mean(errors), rel=0.03)
    assert one.chance_high == pytest.approx(np.quantile(errors, 0.95), rel=0.06)


def test_no_image_and_one_image():
    assert reliability(np.zeros(0), np.zeros(0, dtype=bool)) is None
    one = reliability(np.ones(1), np.ones(1, dtype=bool), draws=5)
    assert (one.gap, one.error, one.chance_high, one.gap_interval) == (0, 0, 0, (-1.0, 1.0))
