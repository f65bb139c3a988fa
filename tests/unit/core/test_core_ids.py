"""Canonical JSON, digests and derived ids."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.core.ids import canonical, derived_id, digest, rounded

text = st.text(st.characters(codec="utf-8"), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def shuffled(value, order):
    if isinstance(value, dict):
        items = list(value.items())
        order.shuffle(items)
        return {key: shuffled(item, order) for key, item in items}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@given(json_values, st.integers(0, 99))
def test_equal_values_give_equal_bytes_and_read_back(value, seed):
    written = canonical(value)
    assert canonical(shuffled(value, random.Random(seed))) == written
    assert json.loads(written) == value
    assert canonical(json.loads(written)) == written


@given(json_values, json_values)
def test_a_digest_tells_values_apart(one, other):
    assert (digest(one) == digest(other)) == (canonical(one) == canonical(other))


@pytest.mark.parametrize("bad", [math.nan, math.inf, {"a": [-math.inf]}])
def test_json_carries_no_nan(bad):
    with pytest.raises(ValueError):
        canonical(bad)


@given(
    st.lists(text.filter(lambda part: "\x1f" not in part), min_size=1),
    st.lists(text.filter(lambda part: "\x1f" not in part), min_size=1),
)
def test_derived_ids_depend_on_every_part(one, other):
    assert (derived_id(*one) == derived_id(*other)) == (one == other)
    assert len(derived_id(*one)) == 20


@given(json_values)
def test_rounding_is_idempotent_and_keeps_the_shape(value):
    once = rounded(value)
    assert rounded(once) == once
    assert type(once) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_rounding_is_relative(value):
    assert rounded(value) == pytest.approx(value, rel=1e-5)


def test_rounding_makes_json_of_what_is_not_finite():
    assert rounded([math.nan, math.inf, True]) == ["nan", "inf", True]
    with pytest.raises(TypeError):
        rounded({"a": object()})
