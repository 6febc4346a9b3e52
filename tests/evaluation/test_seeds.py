from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t, ttest_1samp, ttest_rel
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.random_effects import grand_mean, mean_squares
from twoviews.evaluation.seeds import difference_over_seeds, mean_over_seeds
from twoviews.evaluation.significance import mcnemar_exact, paired_bootstrap


def drawn(seeds, images, spread_seeds=0.05, spread_images=0.3, seed=0):
    generator = np.random.default_rng(seed)
    easy = generator.normal(0, spread_images, (2, 1, images)) + generator.normal(0, spread_images, (1, 1, images))
    chance = 0.65 + easy + generator.normal(0, spread_seeds, (2, seeds, 1))
    return generator.random((2, seeds, images)) < chance


@pytest.mark.parametrize(("seeds", "images"), [(2, 7), (3, 40), (10, 25)])
def test_mean_squares_are_those_of_statsmodels(seeds, images):
    a, b = drawn(seeds, images).astype(int)
    values = a - b
    table = pd.DataFrame(
        {"y": values.ravel(), "s": np.repeat(range(seeds), images), "i": np.tile(range(images), seeds)}
    )
    expected = anova_lm(ols("y ~ C(s) + C(i)", table).fit())["mean_sq"]
    np.testing.assert_allclose(mean_squares(values), expected[["C(s)", "C(i)", "Residual"]], rtol=1e-9)
    batch = mean_squares(np.stack([values, 2 * values + 5]))
    np.testing.assert_allclose(batch.seeds, [expected["C(s)"], 4 * expected["C(s)"]])


def test_interval_follows_its_formula():
    a, b = drawn(3, 300, spread_seeds=0.1)
    of_seeds, of_images, rest = mean_squares(a.astype(int) - b)
    assert of_images > rest  # so that no limit applies
    limit = of_seeds * 2 / (-2 * np.log(0.75))  # a chi-square with 2 degrees of freedom is exponential
    share = limit / (limit + of_images - rest)
    others = (of_images**2 / 299 + rest**2 / (2 * 299)) / (limit + of_images - rest) ** 2
    df = 1 / (share**2 / 2 + others)
    error = np.sqrt((of_seeds + of_images - rest) / 900)
    found = difference_over_seeds(a, b)
    assert found.degrees_of_freedom == pytest.approx(df)
    assert found.points == pytest.approx(100 * (a.mean() - b.mean()))
    half = 100 * t.ppf(0.975, df) * error
    assert (found.low, found.high) == pytest.approx((found.points - half, found.points + half))


def test_without_an_image_effect_it_is_the_paired_t_test_of_the_seeds():
    # Each image favours a model as often as another over the seeds: only seeds differ, beyond the rest.
    a = np.array([[1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 1, 1]], dtype=bool)
    b = ~np.roll(a, 2, axis=1)
    of_seeds, of_images, rest = mean_squares(a.astype(int) - b)
    assert of_images <= rest < of_seeds
    low, high = ttest_rel(100 * a.mean(axis=1), 100 * b.mean(axis=1)).confidence_interval(0.95)
    found = difference_over_seeds(a, b)
    assert (found.low, found.high) == pytest.approx((max(low, -100), min(high, 100)))
    assert found.degrees_of_freedom == pytest.approx(3)


def test_many_seeds_or_alike_ones_leave_the_images_alone():
    a, b = drawn(1, 400).repeat(3, axis=1)
    found = difference_over_seeds(a, b)
    differences = 100.0 * (a[0].astype(int) - b[0])
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.degrees_of_freedom == pytest.approx(399)
    assert found.std == 0.0


def test_one_seed_is_the_paired_bootstrap_with_mcnemar():
    a, b = drawn(1, 400)
    found = difference_over_seeds(a, b, seed=3)
    assert (found.points, found.low, found.high) == pytest.approx(paired_bootstrap(a[0], b[0], seed=3))
    assert (found.std, found.degrees_of_freedom) == (None, None)
    assert "this pair of models" in found.method
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    assert found.mcnemar_p == pytest.approx(mcnemar(table, exact=True).pvalue)
    error = np.std(100.0 * (a.astype(int) - b), ddof=1) / 20
    assert found.detectable == pytest.approx((1.959964 + 0.841621) * error, rel=1e-6)


def test_record_and_each_seed():
    a, b = drawn(3, 200)
    found = difference_over_seeds(a, b)
    assert found.per_seed == pytest.approx(100 * (a.mean(axis=1) - b.mean(axis=1)))
    assert found.std == pytest.approx(np.std(found.per_seed, ddof=1))
    for p, one, other in zip(found.mcnemar_p_per_seed, a, b, strict=True):
        only_a = int(np.sum(one & ~other))
        assert p == pytest.approx(binomtest(only_a, int(np.sum(one != other))).pvalue)
    assert found.mcnemar_p == found.mcnemar_p_per_seed[0]
    record = found.as_record()
    assert record["ci95"] == [found.low, found.high]
    assert set(record) == {
        *("points", "std", "per_seed", "ci95", "ci95_method", "degrees_of_freedom", "detectable"),
        *("mcnemar_p", "mcnemar_p_per_seed"),
    }
    swapped = difference_over_seeds(b, a)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    assert difference_over_seeds(a, b, level=0.99).high > found.high
    assert "folds" in difference_over_seeds(a, b, repeats="folds").method


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_detectable_differences_are_found_in_80_percent_of_studies(seeds):
    a, b = drawn(seeds, 400, spread_seeds=0.02, spread_images=0.1)
    found = difference_over_seeds(a, b)
    df = found.degrees_of_freedom
    error = (found.high - found.low) / 2 / t.ppf(0.975, df)
    effect = found.detectable / error / np.sqrt(seeds)
    assert -100 < found.low < found.high < 100
    assert found.detectable < 100
    assert TTestPower().power(effect, seeds, 0.05, df=df) == pytest.approx(0.8, abs=0.001)


def test_models_that_never_differ_may_still_differ_on_other_images():
    a, _ = drawn(3, 60)
    for seeds in (1, 3):
        found = difference_over_seeds(a[:seeds], a[:seeds])
        upper = 100 * binomtest(0, 60).proportion_ci(0.95, method="exact").high
        assert (found.points, found.low, found.high) == pytest.approx((0.0, -upper, upper))
        assert found.detectable > upper
        assert found.mcnemar_p == 1.0
    right = np.ones((3, 60), dtype=bool)
    always = difference_over_seeds(right, ~right)
    assert (always.points, always.high) == (100.0, 100.0)
    assert 85 < always.low < 100
    mean = mean_over_seeds(right)
    assert (mean.low, mean.high) == pytest.approx(tuple(binomtest(60, 60).proportion_ci(0.95, method="exact")))
    assert (mean_over_seeds(~right).low, mean_over_seeds(~right).high) == pytest.approx((0.0, 1 - mean.low))


def test_few_images_that_all_favour_one_model_do_not_rule_the_other_out():
    a, b = np.ones((1, 60), dtype=bool), np.ones((1, 60), dtype=bool)
    b[0, :2] = False
    found, swapped = difference_over_seeds(a, b), difference_over_seeds(b, a)
    upper = 100 * binomtest(0, 60).proportion_ci(0.95, method="exact").high
    assert paired_bootstrap(a[0], b[0])[1] == 0.0
    assert found.low == pytest.approx(-upper)
    assert found.high == paired_bootstrap(a[0], b[0])[2]
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    b[0, :12] = False
    assert difference_over_seeds(a, b).low == paired_bootstrap(a[0], b[0])[1] > 0  # twelve do


@pytest.mark.parametrize(("images", "can_be_found"), [(1, False), (3, False), (5, False), (6, True)])
def test_nothing_is_detectable_where_the_exact_test_could_never_reach_the_level(images, can_be_found):
    """Five images that all favour one model have p = 0.0625: the verdict could not follow, whatever the difference."""
    a = np.ones((1, images), dtype=bool)
    b = np.zeros_like(a)
    b[0, 0] = images > 1
    assert (mcnemar_exact(a[0], ~a[0]) < 0.05) is can_be_found
    assert (difference_over_seeds(a, b).detectable < 100) is can_be_found


def test_one_image_says_nothing_about_others():
    for seeds in (1, 3):
        found = difference_over_seeds(np.ones((seeds, 1), dtype=bool), np.zeros((seeds, 1), dtype=bool))
        assert (found.low, found.high) == (-100.0, 100.0)
    several = mean_over_seeds(np.ones((3, 1), dtype=bool))
    assert (several.low, several.high) == (0.0, 1.0)
    assert 0 < mean_over_seeds(np.ones((1, 1), dtype=bool)).low < 1


def test_seeds_that_agree_by_chance_do_not_make_an_interval_vanish():
    a = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    b = np.zeros_like(a)
    assert len(set(difference_over_seeds(a, b).per_seed)) == 1
    found = grand_mean(a.astype(int) - b, 0.95)
    assert found.standard_error == 0
    rest = mean_squares(a).rest
    assert found.half_width == pytest.approx(np.sqrt(rest / 16))


def test_mean_of_one_seed_is_wilsons_and_of_several_inside_0_and_1():
    correct = drawn(3, 120)[0]
    one = mean_over_seeds(correct[:1])
    assert (one.low, one.high) == pytest.approx(proportion_confint(correct[0].sum(), 120, method="wilson"))
    assert (one.std, one.per_seed) == (None, (correct[0].mean(),))
    several = mean_over_seeds(correct)
    assert several.test_top1 == pytest.approx(correct.mean())
    assert several.std == pytest.approx(correct.mean(axis=1).std(ddof=1))
    assert several.low < correct.mean() < several.high
    assert several.as_record()["ci95"] == [several.low, several.high]
    almost = np.ones((3, 50), dtype=bool)
    almost[0, :4] = False
    assert mean_over_seeds(almost).high == 1.0


def test_what_cannot_be_compared_is_refused():
    a = np.ones((3, 5), dtype=bool)
    with pytest.raises(DataError, match="same seeds and images"):
        difference_over_seeds(a, a[:2])
    for wrong in (a[0], a[:0], a[:, :0]):
        with pytest.raises(DataError):
            difference_over_seeds(wrong, wrong)
        with pytest.raises(DataError):
            mean_over_seeds(wrong)
    for refuses in (lambda: difference_over_seeds(a, a, level=1.0), lambda: mean_over_seeds(a, level=0)):
        with pytest.raises(SettingsError, match="level"):
            refuses()


FAST = ("seeds alike", "seeds as much as images", "seeds dominate", "models of a kind")


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("name", FAST)
def test_intervals_of_several_seeds_hold_the_truth_in_95_percent_of_studies(coverage, name, seeds):
    _, ours, mean = coverage.several(coverage.WORLDS[name], 2_000, seeds, 200, seed=1)
    assert 0.93 <= ours <= 0.97
    assert 0.93 <= mean <= 0.97


def test_intervals_of_one_seed_hold_the_truth_of_their_pair(coverage):
    for name in ("seeds alike", "seeds dominate"):
        studies = coverage.simulate(coverage.WORLDS[name], 2_000, 1, 500, seed=1)
        of_pair, of_model = coverage.covered_by_one_seed(studies, resamples=200)
        assert 0.93 <= of_pair <= 0.97
        assert 0.93 <= of_model <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3, 5, 10])
def test_intervals_hold_the_truth_in_every_world(coverage, seeds):
    for name, world in coverage.WORLDS.items():
        if seeds == 1:
            found = coverage.covered_by_one_seed(coverage.simulate(world, 2_000, 1, 500, seed=2), resamples=2_000)
        else:
            found = np.mean([coverage.several(world, 500, seeds, 500, seed=s)[1:] for s in range(8)], axis=0)
        assert np.all((np.array(found) >= 0.93) & (np.array(found) <= 0.97)), (name, found)


def test_satterthwaites_plain_degrees_of_freedom_hold_it_less_often(coverage):
    plain, ours, _ = coverage.several(coverage.WORLDS["images as much as seeds"], 2_000, 2, 500, seed=1)
    assert plain < 0.935 < 0.945 < ours < 0.97
