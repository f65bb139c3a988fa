"""Prediction limits: how often one more observation lies above."""

import math

import numpy as np
import pytest

from trimtab.errors import InputError
from trimtab.stats.limits import prediction_limit


@pytest.mark.parametrize(("reference", "level", "alpha"), [(8, 1, 0.05), (4, 1, 0.01), (8, 3, 0.05), (20, 3, 0.05)])
def test_it_is_passed_as_often_as_it_says_whatever_the_level_of_the_reference(reference, level, alpha):
    rng = np.random.default_rng(14)
    passed = 0
    for _ in range(4000):
        limit = prediction_limit(
            rng.normal(0.44, 0.02, reference).tolist(), rng.normal(0.48, 0.02, level).tolist(), alpha=alpha
        )
        passed += rng.normal(0.48, 0.02) > limit
    assert passed / 4000 == pytest.approx(alpha, abs=3.5 * math.sqrt(alpha / 4000))


@pytest.mark.parametrize(
    ("reference", "level"), [([0.4], [0.4]), ([], [0.4, 0.5, 0.6]), ([0.4, 0.5, 0.6], []), ([0.4, 0.5], [math.nan])]
)
def test_it_needs_values(reference, level):
    with pytest.raises(InputError, match="finite values"):
        prediction_limit(reference, level, alpha=0.05)
