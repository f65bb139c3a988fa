import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import InputError
from trimtab.serving.routing import Arm, Route, RouteTable, choose, decode_table, encode_table, killed, split

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


def route_of(shares, salt="salt"):
    return Route("m", tuple(Arm(f"arm{n}", f"v{n}", share) for n, share in enumerate(shares)), "r", salt)


parts = st.lists(st.integers(1, 20), min_size=2, max_size=4).map(lambda w: [one / sum(w) for one in w])


@given(parts, st.text(max_size=8))
def test_shares_converge_whatever_they_are(shares, salt):
    route = route_of(shares, salt)
    rows = {arm.name: len(rows) for arm, rows in split(route, [f"u{n}" for n in range(2000)])}
    for arm in route.arms:
        spread = (arm.share * (1 - arm.share) / 2000) ** 0.5
        assert abs(rows.get(arm.name, 0) / 2000 - arm.share) < 6 * spread


@given(st.text(max_size=12), st.text(max_size=8), st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6))
def test_a_unit_of_a_growing_canary_never_leaves_it(unit, salt, shares):
    """Over generations of one rollout: what once fell to the canary stays there while its share grows."""
    named = [
        choose(Route("m", (Arm("champion", "a", 1 - share), Arm("canary", "b", share)), "r", salt), unit).name
        for share in sorted(shares)
    ]
    assert named == sorted(named, reverse=True)  # champion … champion, canary … canary


@given(st.text(max_size=12), st.integers(1, 1000))
def test_a_generation_changes_nothing_for_a_unit(unit, generation):
    table = RouteTable(generation, {"m": HALF})
    assert choose(decode_table(encode_table(table)).route("m"), unit) == choose(HALF, unit)


def test_the_next_rollout_splits_anew():
    units = [f"u{n}" for n in range(2000)]
    chosen = [{unit for unit in units if choose(route_of([0.5, 0.5], salt), unit).name == "arm0"} for salt in "xy"]
    assert 400 < len(chosen[0] & chosen[1]) < 600


def test_a_kill_switch_is_pulled_once():
    """On the file level and by the loop: the second pull must not swap back to what was killed."""
    one = Route("m", (Arm("champion", "b", 1.0),), held=("a",))
    back = killed(one)
    assert [(arm.name, arm.version) for arm in back.arms] == [("previous", "a")]
    assert killed(back) == back
    said = killed(back, constant=(0.5, 0.5))
    assert killed(said, constant=(0.5, 0.5)) == said
    with pytest.raises(InputError, match="no earlier version"):
        killed(Route("m", (Arm("champion", "b", 1.0),)))
    for constant in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="finite"):
            killed(one, constant=(constant,))


def test_a_table_of_an_older_version_still_reads():
    old = b'{"generation":3,"routes":{"m":{"model":"m","arms":[{"name":"champion","version":"a","share":1.0}],'
    old += b'"rollout":"","salt":""}}}'
    route = decode_table(old).route("m")
    assert (route.held, route.constant, route.unit) == ((), (), "")


def test_what_is_held_is_not_what_must_be_there():
    table = RouteTable(1, {"m": Route("m", (Arm("champion", "a", 1.0),), held=("b", "a"))})
    assert (table.versions(), table.held()) == (["a"], ["b"])
