import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trimtab.errors import InputError, SchemaError
from trimtab.stats.bins import Bins, BinSet, fit_bins

RNG = np.random.default_rng(5)
WILD = hnp.arrays(
    np.float32, st.integers(1, 200), elements=st.one_of(st.floats(width=32), st.sampled_from([0.0, -1.0, 7.0]))
)


def test_quantile_bins_hold_equal_shares():
    values = RNG.normal(size=50_000)
    bins = fit_bins(values)
    counts = bins.count(values)
    assert bins.size == 20
    assert counts[:20] == pytest.approx(np.full(20, 2500), abs=60)
    assert counts[20:].tolist() == [0, 0]
    assert bins.coarse(counts)[:10] == pytest.approx(np.full(10, 5000), abs=120)


def test_values_with_mass_of_their_own_get_their_own_bin():
    values = np.where(RNG.random(20_000) < 0.6, 0.0, RNG.exponential(size=20_000))
    values[:2000] = -999.0
    bins = fit_bins(values)
    for heavy in (0.0, -999.0):
        place = int(bins.place(np.array([heavy]))[0])
        assert bins.count(values)[place] == (values == heavy).sum()


def test_few_distinct_values_are_bins_and_anything_else_is_unseen():
    bins = fit_bins(np.array([0.0, 1.0, 2.0, 2.0]))
    assert bins.count(np.array([0.0, 0.5, 2.0, -1.0, 9.0, np.nan])).tolist() == [1, 0, 1, 3, 1]


def test_missing_and_infinite_values():
    bins = fit_bins(np.arange(1000.0))
    counts = bins.count(np.array([np.nan, np.inf, -np.inf]))
    assert counts[-1] == 1
    assert counts[0] == counts[19] == 1


def test_a_reference_without_values_still_counts():
    bins = fit_bins(np.array([np.nan, np.nan]))
    assert bins.count(np.array([1.0, np.nan])).tolist() == [1, 0, 1]


def test_categories_unseen_and_missing():
    bins = fit_bins(np.array(["a", "b", "a", None], dtype=object))
    assert bins.categories == ("a", "b")
    assert bins.count(np.array(["a", "z", "", "b"])).tolist() == [1, 1, 1, 1]
    assert bins.count(np.array(["a", None, float("nan")], dtype=object)).tolist() == [1, 0, 0, 2]


def test_many_categories_are_grouped_into_ten_at_most():
    names = np.array([f"k{int(value)}" for value in RNG.exponential(40, 5000)])
    bins = fit_bins(names)
    assert max(bins.groups) <= 9
    assert bins.coarse(bins.count(names)).sum() == 5000


def test_text_for_a_number_is_refused():
    with pytest.raises(SchemaError, match="text"):
        fit_bins(np.arange(100.0)).count(np.array(["x"]))


def test_bins_survive_json_and_keep_their_id():
    bins = fit_bins(RNG.normal(size=1000))
    again = msgspec.json.decode(msgspec.json.encode(bins), type=Bins)
    assert again == bins
    assert again.id == bins.id != fit_bins(RNG.normal(size=1000)).id


@settings(deadline=None)
@given(WILD, WILD)
def test_counts_are_complete_and_add_up(reference, values):
    bins = fit_bins(reference)
    counts = bins.count(values)
    assert counts.sum() == len(values)
    assert (bins.count(values[::2]) + bins.count(values[1::2])).tolist() == counts.tolist()
    assert bins.coarse(counts).sum() == len(values)
    assert len(bins.coarse(counts)) <= 12
    assert list(bins.edges) == sorted(bins.edges)
    assert bins.count(reference[np.isfinite(reference)])[bins.size] == 0, "nothing in the reference is unseen"


@settings(deadline=None)
@given(WILD, WILD, WILD)
def test_a_matrix_is_counted_exactly_like_its_columns(one, two, values):
    several = {"a": fit_bins(one), "b": fit_bins(two.astype(np.float64) * 1.1), "c": fit_bins(one[:1])}
    matrix = np.stack([values, values[::-1], values], axis=1)
    together = BinSet(several)
    split = together.split(together.count(matrix))
    for place, (name, bins) in enumerate(several.items()):
        assert split[name].tolist() == bins.count(matrix[:, place]).tolist()


def test_a_matrix_of_other_width_is_refused():
    with pytest.raises(InputError, match="1 columns"):
        BinSet({"a": fit_bins(np.arange(9.0))}).count(np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(InputError, match="categories"):
        BinSet({"a": fit_bins(np.array(["x"]))})
