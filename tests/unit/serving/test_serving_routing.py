import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import InputError
from trimtab.serving.routing import Arm, Route, RouteTable, choose, decode_table, encode_table, split

HALF = Route("m", (Arm("champion", "a", 0.5), Arm("canary", "b", 0.5), Arm("shadow", "c", 0.0)), "r", "salt")


@given(st.lists(st.text(max_size=5), max_size=30))
def test_split_says_what_choose_says(units):
    parts = split(HALF, units)
    assert sorted(row for _, rows in parts for row in rows) == list(range(len(units)))
    for arm, rows in parts:
        assert rows == sorted(rows)
        assert all(choose(HALF, units[row]).name == arm.name for row in rows)


def test_shares_are_kept_and_a_growing_canary_keeps_its_units():
    units = [f"r{index}" for index in range(4000)]
    small = Route("m", (Arm("champion", "a", 0.9), Arm("canary", "b", 0.1)), "r", "salt")
    answered = {route: {u for u in units if choose(route, u).name == "canary"} for route in (small, HALF)}
    assert 300 < len(answered[small]) < 500
    assert answered[small] < answered[HALF]


def test_a_table_survives_its_file():
    table = RouteTable(3, {"m": HALF})
    assert decode_table(encode_table(table)) == table
    assert table.versions() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "arms",
    [
        (),
        (Arm("champion", "a", 0.9),),
        (Arm("champion", "a", 1.5), Arm("canary", "b", -0.5)),
        (Arm("champion", "a", 0.5), Arm("champion", "b", 0.5)),
    ],
)
def test_a_table_that_cannot_be_obeyed_is_refused(arms):
    with pytest.raises(InputError):
        decode_table(msgspec.json.encode(RouteTable(1, {"m": Route("m", arms)})))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"generation": "x", "routes": {}}', b"\xff"])
def test_a_torn_table_is_refused(data):
    with pytest.raises(InputError, match="not a route table"):
        decode_table(data)


def test_a_route_under_another_models_name_is_refused():
    with pytest.raises(InputError, match="contradicts"):
        decode_table(msgspec.json.encode(RouteTable(1, {"other": HALF})))
