"""Which models a test stage compares with the baseline, and what a class without test images scores."""

from __future__ import annotations

import numpy as np
import pytest

from twoviews.evaluation.seeds import difference_over_seeds
from twoviews.stages.combine import comparison


def drawn(models, seeds=1, images=80):
    random = np.random.default_rng(5)
    return [{model: random.random(images) < 0.6 for model in models} for _ in range(seeds)]


@pytest.mark.parametrize("seeds", [1, 3])
def test_fine_tuning_and_the_linear_probe_are_paired_with_the_baseline(seeds):
    correct = drawn(("supervised", "finetuned", "linear_probe", "knn"), seeds)
    found = comparison(correct, seed=2)
    assert set(found) == {"finetuned_minus_supervised", "linear_probe_minus_supervised"}
    probe, baseline = (np.stack([one[model] for one in correct]) for model in ("linear_probe", "supervised"))
    assert found["linear_probe_minus_supervised"] == difference_over_seeds(probe, baseline, seed=2).as_record()


def test_what_is_not_there_is_not_compared():
    assert comparison(drawn(("finetuned", "linear_probe")), seed=0) == {}
    assert set(comparison(drawn(("supervised", "finetuned")), seed=0)) == {"finetuned_minus_supervised"}
