"""On-request modules: what may be in one, and what happens when one misbehaves."""

import sys

import numpy as np
import pytest

from trimtab.errors import BundleCorrupt, InputError, ProjectError
from trimtab.features.batch import RequestBatch
from trimtab.features.onrequest import inspect_module, load_module, request_columns
from trimtab.features.plan import RequestShape

GOOD = """
from __future__ import annotations
import math
from dataclasses import dataclass
import numpy as np

FEATURES: tuple[str, ...] = ("hour", "double")

@dataclass
class Unused:
    x: int

def compute(columns):
    hour = (columns["due"] - columns["due"].astype("datetime64[D]")) // np.timedelta64(1, "h")
    return {"double": columns["x"] * 2, "hour": hour.astype(float)}
"""


def load(text):
    source = inspect_module("features.mine", text, "features/mine.py")
    return load_module(source.name, text, source.sha256)


def columns(n=2):
    shape = RequestShape("r", "id", "asked", {"k": "str"}, {"due": "time", "x": "float"}, (), {})
    inputs = {"due": np.arange(n) * 3_600_000_000, "x": np.arange(n) / 2}
    return request_columns(RequestBatch(["a"] * n, np.zeros(n, np.int64), {"k": np.array(["u"] * n)}, inputs), shape)


def test_a_module_computes_its_features_in_declared_order():
    module = load(GOOD)
    assert module.features == ("hour", "double")
    np.testing.assert_array_equal(module.compute(columns()), [[0, 0], [1, 1]])
    assert "features.mine" not in sys.modules


def test_two_versions_live_side_by_side():
    one, two = load(GOOD), load(GOOD.replace("* 2", "* 4"))
    assert one.compute(columns())[1, 1] == 1
    assert two.compute(columns())[1, 1] == 2


def test_times_are_datetimes_and_a_missing_one_is_nat():
    shape = RequestShape("r", "id", "asked", {}, {"due": "time"}, ("due",), {})
    batch = RequestBatch(["a", "b"], np.array([0, 1]), {}, {"due": np.array([np.nan, 60e6])})
    found = request_columns(batch, shape)
    assert np.isnat(found["due"]).tolist() == [True, False]
    assert found["at"].dtype == np.dtype("datetime64[us]")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("def compute(:", "not valid Python"),
        ("import pandas\nFEATURES = ('a',)\ndef compute(c): ...", "more than the standard library"),
        ("def f():\n    from . import other\nFEATURES = ('a',)\ndef compute(c): ...", "more than the standard library"),
        ("FEATURES = ('a',)", "no function compute"),
        ("def compute(c): ...", "does not say which features"),
        ("FEATURES = ['a']\ndef compute(c): ...", "no literal tuple"),
        ("FEATURES = tuple('ab')\ndef compute(c): ...", "no literal tuple"),
        ("FEATURES = ('a', 'a')\ndef compute(c): ...", "no literal tuple"),
        ("FEATURES = ()\ndef compute(c): ...", "no literal tuple"),
    ],
)
def test_a_module_that_cannot_travel_is_refused(text, what):
    with pytest.raises(ProjectError, match=what) as error:
        inspect_module("features.mine", text, "features/mine.py")
    assert error.value.where.startswith("features/mine.py")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return {'b': columns['x']}", "did not return the features"),
        ("return columns['x']", "did not return the features"),
        ("return {'a': columns['x'][:1]}", "feature 'a' .* not one number per request"),
        ("return {'a': 3.0}", "feature 'a' .* not one number per request"),
        ("return {'a': columns['k']}", "feature 'a' .* not one number per request"),
        ("return {'a': columns['x'] + float('inf')}", "feature 'a' .* is infinite"),
        ("return {'a': columns['nothing']}", "failed on these requests. Got KeyError"),
    ],
)
def test_a_module_that_misbehaves_is_named(body, what):
    module = load(f"FEATURES = ('a',)\ndef compute(columns):\n    {body}\n")
    with pytest.raises(InputError, match=what) as error:
        module.compute(columns())
    assert "features.mine" in str(error.value)


def test_a_changed_byte_is_refused_and_a_module_that_fails_to_load_is_named():
    with pytest.raises(BundleCorrupt):
        load_module("features.mine", GOOD + " ", inspect_module("features.mine", GOOD, "x").sha256)
    with pytest.raises(ProjectError, match="raises an error when it is loaded"):
        load("FEATURES = ('a',)\n1 / 0\ndef compute(c): ...")
