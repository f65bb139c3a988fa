"""The kill switch on the file level, and the route file that control and switch both write."""

from __future__ import annotations

import pytest

from trimtab.adapters.wire.routefile import write_routes
from trimtab.adapters.wire.status import WorkerStatus
from trimtab.app import killing
from trimtab.app.asked import read_request
from trimtab.app.home import Home
from trimtab.app.killing import KillOrder, check_constant, close_order, pull, standing_orders, workers_at
from trimtab.app.routes import Routes
from trimtab.errors import InputError, Unavailable, UnknownName
from trimtab.loop.state import Version
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.serving.routing import Arm, Route, RouteTable, decode_table

FIRST = Route("m", (Arm("champion", "b", 1.0),), held=("a",))
OTHER = Route("n", (Arm("champion", "x", 1.0),))
ORDER = KillOrder("o1", "m", "operator:ann", "it is wrong", (0.2,))


@pytest.fixture
def place(tmp_path):
    (tmp_path / "run").mkdir()
    write_routes(tmp_path / "route.json", RouteTable(7, {"m": FIRST, "n": OTHER}))
    return tmp_path


def now(place):
    return decode_table((place / "route.json").read_bytes())


def test_it_is_in_force_and_waits_to_be_recorded(place):
    table = pull(place / "route.json", place / "run", ORDER)
    assert now(place) == table
    assert table.generation == 8
    assert (table.route("m").constant, table.route("n")) == ((0.2,), OTHER)
    assert standing_orders(place / "run") == [ORDER]
    assert standing_orders(place / "run")[0].asked().data == {"constant": [0.2]}


def test_control_writes_no_route_past_an_order(place):
    routes = Routes(place / "route.json", place / "run", models=["m", "n"])
    pull(place / "route.json", place / "run", ORDER)
    routes.apply(Route("n", (Arm("champion", "y", 1.0),)), generation=3)
    assert (now(place).generation, now(place).route("m").constant) == (9, (0.2,))
    routes.apply(Route("m", (Arm("champion", "c", 1.0),), held=("b",)), generation=4)
    assert now(place).route("m").constant == (0.2,)  # the promotion is there, behind the switch
    assert now(place).route("m").arms[0].version == "c"
    close_order(place / "run", "o1")
    routes.apply(Route("m", (Arm("champion", "c", 1.0),), held=("b",)), generation=5)
    assert now(place).route("m").constant == ()


def test_a_control_process_that_starts_finds_the_order(place):
    pull(place / "route.json", place / "run", ORDER)
    routes = Routes(place / "route.json", place / "run", models=["m", "n"])
    routes.apply(FIRST, generation=1)  # what the ledger says, which knows of no switch yet
    assert now(place).route("m").constant == (0.2,)


def test_back_to_what_is_held_and_only_once(place):
    back = KillOrder("o2", "m", "operator:ann", "it is wrong")
    pull(place / "route.json", place / "run", back)
    killed = now(place).route("m")
    assert [(arm.name, arm.version) for arm in killed.arms] == [("previous", "a")]
    Routes(place / "route.json", place / "run", models=["m", "n"]).apply(killed, generation=1)
    assert now(place).route("m") == killed


def test_what_cannot_be_killed(place, tmp_path):
    run = place / "run"
    with pytest.raises(UnknownName, match="no such model"):
        pull(place / "route.json", run, KillOrder("o", "z", "a", "r", (1.0,)))
    with pytest.raises(InputError, match="no earlier version"):
        pull(place / "route.json", run, KillOrder("o", "n", "a", "r"))
    with pytest.raises(Unavailable, match="nothing is deployed"):
        pull(tmp_path / "nowhere.json", run, ORDER)
    assert standing_orders(run) == []


def deployed(tmp_path, *dtypes, task="tensors"):
    """A home where a model is deployed that has one output of two values for each dtype."""
    outputs = tuple(Tensor(dtype, dtype, (-1, 2)) for dtype in dtypes)
    parity = ExportParity(0, 0.0, 0.0, 0, 0.0)
    manifest = Manifest(1, "m", task, "onnx", {}, (), outputs, "", "", 0, "", {}, parity)
    home = Home(tmp_path).made()
    version = home.blobs().put(manifest.to_json())
    write_routes(home.route_file, RouteTable(1, {"m": Route("m", (Arm("champion", version, 1.0),))}))
    return home


@pytest.mark.parametrize(
    ("dtype", "constant", "hint"),
    [
        ("int64", 0.2, "a whole number from -9223372036854775808 to 9223372036854775807"),
        ("int64", 2.0**63, "a whole number"),
        ("int8", -129, "a whole number from -128 to 127"),
        ("uint8", -1, "a whole number from 0 to 255"),
        ("bool", 0.2, "0 or 1"),
        ("bool", 2, "0 or 1"),
        ("float16", 65_520, "a number from -65504 to 65504"),
        ("float32", -1e39, "a number from -3.40282e"),
    ],
)
def test_a_constant_that_an_output_cannot_hold_is_refused(tmp_path, dtype, constant, hint):
    home = deployed(tmp_path, dtype)
    for given in ((constant,), (1.0, constant)):
        with pytest.raises(InputError, match=f"'{dtype}' is of {dtype}, which cannot hold the constant") as refused:
            check_constant(home, "m", given)
        assert hint in str(refused.value)
        assert f"Got {float(constant)!r}" in str(refused.value)


@pytest.mark.parametrize(
    ("dtype", "constant"),
    [
        ("int64", -(2.0**63)),
        ("int8", 127),
        ("uint64", 2.0**63),
        ("bool", 1),
        ("float16", 65_504),
        ("float32", 0.2),
        ("float64", 1e300),
    ],
)
def test_a_constant_that_an_output_holds(tmp_path, dtype, constant):
    check_constant(deployed(tmp_path, dtype), "m", (constant,))


def test_one_constant_for_each_of_several_outputs(tmp_path):
    home = deployed(tmp_path, "float32", "int64", "bool")
    check_constant(home, "m", (0.2, 0.3, 4, -5, 0, 1))
    with pytest.raises(InputError, match=r"'int64' is of int64.*Got 0\.2.*one for each output"):
        check_constant(home, "m", (0.2,))
    with pytest.raises(InputError, match="'bool' is of bool"):
        check_constant(home, "m", (0.2, 0.3, 4, -5, 0, 3))


VERSIONS = {
    digest: Version(digest, number, 0, (), None, ()) for number, digest in enumerate(["1f" * 32, "2f" * 32], start=1)
}


def asked(kind="deploy", **fields):
    return read_request(kind, {"reason": "r", **fields}, VERSIONS).data


def test_strategies_are_read():
    assert asked(version="1") == {}
    assert asked(strategy="canary", share="0.1") == {"strategy": "canary", "share": 0.1}
    tested = asked(strategy="ab", arms="a=1:0.5, b=2f2f2f2f:0.5", unit="user")
    assert [arm["version"] for arm in tested["arms"]] == list(VERSIONS)
    assert tested["unit"] == "user"
    assert asked(winner="b") == {"winner": "b"}
    assert asked("kill", to="constant", value="0.2,0.8") == {"constant": [0.2, 0.8]}
    assert asked("kill", to="previous") == {}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("deploy", {"strategy": "red"}),
        ("deploy", {"strategy": "canary"}),
        ("deploy", {"strategy": "canary", "share": "1"}),
        ("deploy", {"strategy": "canary", "share": "nan"}),
        ("deploy", {"share": "0.1"}),
        ("deploy", {"strategy": "shadow", "unit": "user"}),
        ("deploy", {"strategy": "ab", "arms": "a=1"}),
        ("deploy", {"strategy": "ab", "arms": "a=1:0.5,b=2:0.5", "unit": "no such/field"}),
        ("kill", {}),
        ("kill", {"to": "constant"}),
        ("kill", {"to": "constant", "value": "much"}),
        ("kill", {"to": "constant", "value": "inf"}),
        ("kill", {"to": "previous", "value": "0.2"}),
        ("kill", {"to": "previous", "reason": " "}),
        ("kill", {"to": "previous", "colour": "red"}),
        ("kill", {"to": "previous", "reason": 7}),
    ],
)
def test_what_makes_no_sense_is_refused(kind, fields):
    with pytest.raises(InputError):
        asked(kind, **fields)


def test_a_worker_obeys_an_order_whose_table_waits_for_another_model(place, monkeypatch):
    def says(generation, problem="", **ahead):
        return WorkerStatus(1, 1, 0, "127.0.0.1", 1, generation, (), problem, ahead=ahead)

    stand = [says(8), says(7, m=8), says(7, "x cannot be loaded", m=8)]
    monkeypatch.setattr(killing, "living", lambda _: iter(stand))
    assert workers_at(place / "run", 8, model="m") == (3, 3, "")
    assert workers_at(place / "run", 8, model="n") == (3, 1, "x cannot be loaded")
    assert workers_at(place / "run", 8) == (3, 1, "x cannot be loaded")
    stand.append(None)
    assert workers_at(place / "run", 8, model="m") == (4, 3, "")
