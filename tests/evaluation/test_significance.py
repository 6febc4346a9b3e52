from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.significance import bootstrap_intervals, mcnemar_exact, paired_bootstrap, wilson_interval


def outcomes(both, only_a, only_b, neither):
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    order = np.random.default_rng(0).permutation(len(a))
    return a[order], b[order]


@pytest.mark.parametrize(("only_a", "only_b"), [(12, 3), (3, 12), (7, 7), (8, 7), (1, 0), (400, 320)])
def test_mcnemar_is_the_binomial_test_of_the_differing_images(only_a, only_b):
    a, b = outcomes(50, only_a, only_b, 20)
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert mcnemar_exact(a, b) == pytest.approx(expected)
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_mcnemar_by_hand_and_without_a_difference():
    assert mcnemar_exact(*outcomes(1, 5, 0, 1)) == pytest.approx(2 * 0.5**5)
    assert mcnemar_exact(*outcomes(5, 0, 0, 5)) == 1.0


def test_mcnemar_keeps_its_level_when_models_are_equally_good():
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 2_000, 200)) < 0.7
    assert np.mean([mcnemar_exact(*pair) < 0.05 for pair in zip(a, b, strict=True)]) <= 0.055


def test_bootstrap_equals_drawing_images_one_by_one():
    a, b = outcomes(90, 40, 22, 48)
    points, low, high = paired_bootstrap(a, b, resamples=20_000)
    assert points == pytest.approx(9.0)
    difference = a.astype(int) - b.astype(int)
    drawn = np.random.default_rng(1).integers(0, 200, (20_000, 200))
    expected = np.quantile(100 * difference[drawn].mean(axis=1), [0.025, 0.975])
    np.testing.assert_allclose([low, high], expected, atol=0.51)  # one image is half a point
    assert low < points < high


def test_bootstrap_is_antisymmetric_in_its_models_seeded_and_wider_at_a_higher_level():
    a, b = outcomes(300, 60, 40, 100)
    points, low, high = paired_bootstrap(a, b)
    swapped = paired_bootstrap(b, a)
    np.testing.assert_allclose(swapped, [-points, -high, -low], atol=0.41)
    assert paired_bootstrap(a, b) == (points, low, high)
    _, wider_low, wider_high = paired_bootstrap(a, b, level=0.99)
    assert wider_low < low < high < wider_high


def test_bootstrap_of_models_that_never_or_always_differ():
    assert paired_bootstrap(*outcomes(5, 0, 0, 5)) == (0.0, 0.0, 0.0)
    assert paired_bootstrap(*outcomes(0, 4, 0, 0)) == (100.0, 100.0, 100.0)


def test_bootstrap_of_many_pairs_is_that_of_each():
    counts = np.array([[60, 40, 400], [12, 30, 458]])
    low, high = bootstrap_intervals(counts)
    for row, *ends in zip(counts, low, high, strict=True):
        _, *expected = paired_bootstrap(*outcomes(200, row[0], row[1], row[2] - 200))
        np.testing.assert_allclose(ends, expected, atol=0.21)  # one image is a fifth of a point


@pytest.mark.parametrize(("correct", "images"), [(0, 10), (10, 10), (1, 1), (37, 50), (812, 1_000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_is_scipys(correct, images, level):
    expected = binomtest(correct, images).proportion_ci(level, method="wilson")
    low, high = wilson_interval(correct, images, level)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= low <= correct / images <= high <= 1.0


def test_what_cannot_be_compared_is_refused():
    a = np.ones(5, dtype=bool)
    for function in (mcnemar_exact, paired_bootstrap):
        with pytest.raises(DataError, match="same images"):
            function(a, a[:4])
        with pytest.raises(DataError, match="no images"):
            function(a[:0], a[:0])
    with pytest.raises(DataError, match="no accuracy"):
        wilson_interval(0, 0)
    with pytest.raises(DataError, match="no accuracy"):
        wilson_interval(6, 5)
    with pytest.raises(SettingsError, match="level"):
        wilson_interval(3, 5, level=1.0)
    with pytest.raises(SettingsError, match="resamples"):
        paired_bootstrap(a, a, resamples=0)
