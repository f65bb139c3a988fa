import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import InputError
from trimtab.stats.tails import chi_squared_tail, incomplete_beta, kolmogorov_tail, normal_tail, t_quantile


# scipy 1.17.1: chi2.sf
@pytest.mark.parametrize(
    ("x", "k", "expected"),
    [
        (3.841458820694124, 1, 0.05),
        (30.143527205646155, 19, 0.05),
        (40.0, 20, 0.004995412310439647),
        (200.0, 30, 3.7640887566955e-27),
        (0.001, 19, 1.0),
    ],
)
def test_chi_squared_tail(x, k, expected):
    assert chi_squared_tail(x, k) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(st.floats(0.01, 500), st.integers(1, 200))
def test_chi_squared_tail_is_a_falling_probability(x, k):
    assert 0 <= chi_squared_tail(x * 1.1, k) <= chi_squared_tail(x, k) <= 1


# scipy 1.17.1: kstwo.sf
@pytest.mark.parametrize(
    ("d", "n", "expected", "tolerance"),
    [
        (0.35, 5, 0.46975, 1e-9),
        (0.15667, 27, 0.47417666499662636, 1e-9),
        (0.0601, 400, 0.10673301713251937, 1e-7),
        (0.04, 900, 0.10926229955663425, 1e-3),
        (0.02, 5000, 0.03613941395325637, 1e-3),
    ],
)
def test_kolmogorov_tail(d, n, expected, tolerance):
    assert kolmogorov_tail(d, n) == pytest.approx(expected, abs=tolerance)


@settings(deadline=None)
@given(st.floats(0.001, 0.999), st.integers(1, 3000))
def test_kolmogorov_tail_is_a_probability(d, n):
    assert 0 <= kolmogorov_tail(d, n) <= 1


# scipy 1.17.1: t.ppf
@pytest.mark.parametrize(
    ("p", "k", "expected"),
    [
        (0.99, 7, 2.9979515668685277),
        (0.95, 3, 2.3533634348018264),
        (0.3, 4, -0.5686490624444214),
        (0.999, 1, 318.3088389855504),
    ],
)
def test_t_quantile(p, k, expected):
    assert t_quantile(p, k) == pytest.approx(expected, rel=1e-8)


def test_t_quantile_refuses_nonsense():
    with pytest.raises(InputError, match="probability"):
        t_quantile(1.0, 3)


@settings(deadline=None)
@given(st.floats(0.5, 30), st.floats(0.5, 30), st.floats(0.01, 0.99))
def test_incomplete_beta_is_symmetric(a, b, x):
    assert incomplete_beta(a, b, x) == pytest.approx(1 - incomplete_beta(b, a, 1 - x), abs=1e-9)


def test_normal_tail_is_two_sided():
    assert normal_tail(-1.959963984540054) == pytest.approx(0.05)
    assert normal_tail(0.0) == 1.0
    assert math.isclose(normal_tail(3.0), normal_tail(-3.0))
