"""Answers computed ahead: found rows from there, the others live, whatever becomes of the store."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from tests.unit.serving.parts import Desk, House, Reader, batch_of, engine_with, small_plan, table

from trimtab.adapters.online.precomputed import LmdbPrecomputed, OpenedWhenThere
from trimtab.core.clock import VirtualClock
from trimtab.errors import IntegrityError, Unavailable
from trimtab.monitoring.rebuild import answers_from_records
from trimtab.serving.cache_key import row_key
from trimtab.serving.meter import LocalCells, Meter
from trimtab.serving.recording import statuses
from trimtab.serving.shortcuts import take_shortcuts


class Store:
    def __init__(self):
        self.rows, self.error, self.after = {}, None, 0

    def put(self, version, batch, outputs, *, model="m"):
        self.rows[model, version, row_key(version, batch, 0)] = outputs

    def get(self, model, version, key):
        if self.error is not None:
            self.after -= 1
            if self.after < 0:
                raise self.error
        return self.rows.get((model, version, key))


@pytest.fixture
def house():
    made = House()
    made.add("v", 0.5)
    return made


@pytest.fixture
def store():
    return Store()


def desk_with(house, store, *arms, cells=None):
    engine = engine_with(house, *(arms or [("champion", "v", 1.0)]))
    take_shortcuts(engine, Meter(cells or LocalCells()), cache_bytes=0, cache_ttl_ms=1, ahead=lambda: store)
    return Desk(engine)


def body(name, basket=1.0):
    return {"id": name, "shop": "aa", "basket": basket}


def test_what_is_there_is_answered_from_there_and_the_rest_live(house, store):
    store.put("v", batch_of("x", basket=1.0), (0.125,))
    cells = LocalCells()
    desk = desk_with(house, store, cells=cells)
    for name, basket in (("a", 1.0), ("b", 2.0), ("c", 1.0)):
        desk.ask(body(name, basket))
    said = {answer["id"]: (answer["prediction"], answer["status"], answer["arm"]) for answer in desk.run()}
    assert said == {
        "a": (0.125, "precomputed", "champion"), "b": (4.5, "ok", "champion"), "c": (0.125, "precomputed", "champion")
    }  # fmt: skip
    rows = {row.request_id: row for row in desk.records.rows}
    assert len(rows) == len(desk.records.rows) == 3
    assert [rows[name].status for name in "abc"] == ["precomputed", "ok", "precomputed"]
    assert (rows["a"].features, rows["a"].version, rows["a"].outputs) == (b"", "v", (0.125,))
    assert (rows["a"].keys, rows["a"].inputs) == ({"shop": "aa"}, {"basket": 1.0})  # training reads these
    name = "trimtab_precomputed_requests_total"
    assert cells.blocks["count", (name, "model", "m", "result", "hit")] == [2]
    assert cells.blocks["count", (name, "model", "m", "result", "miss")] == [1]


def test_many_rows_of_one_body_come_back_in_their_order(house, store):
    store.put("v", batch_of("x", basket=2.0), (0.25,))
    desk = desk_with(house, store)
    desk.ask({"instances": [body(f"r{n}", float(n)) for n in range(5)]})
    found = desk.run()[0]["predictions"]
    assert [row["prediction"] for row in found] == [2.5, 3.5, 0.25, 5.5, 6.5]
    assert [row["status"] for row in found] == ["ok", "ok", "precomputed", "ok", "ok"]


def test_another_version_is_never_answered_from_there(house, store):
    house.add("w", 9.5)
    store.put("v", batch_of("x"), (0.125,))
    desk = desk_with(house, store)
    assert desk.dispatcher.engine.swap(table(2, ("champion", "w", 1.0)), house.load) is None
    desk.ask(body("a"))
    assert desk.run()[0]["prediction"] == 12.5


@pytest.mark.parametrize("error", [Unavailable("gone"), IntegrityError("damaged")])
@pytest.mark.parametrize("after", [0, 1])
def test_a_store_that_fails_is_no_outage(house, store, error, after):
    store.put("v", batch_of("x", basket=0.0), (0.25,))
    store.error, store.after = error, after
    desk = desk_with(house, store)
    desk.ask({"instances": [body("a", 0.0), body("b", 1.0)]})
    assert [row["prediction"] for row in desk.run()[0]["predictions"]] == [0.25 if after else 2.5, 3.5]


def test_answers_of_other_lengths_are_computed(house, store):
    store.put("v", batch_of("x", basket=0.0), (0.25,))
    store.put("v", batch_of("x", basket=1.0), (0.25, 0.75))
    desk = desk_with(house, store)
    desk.ask({"instances": [body("a", 0.0), body("b", 1.0)]})
    assert [row["prediction"] for row in desk.run()[0]["predictions"]] == [0.25, 3.5]


def test_several_outputs(store):
    house = House()
    house.add("v", 0.5, outputs=2)
    store.put("v", batch_of("x"), (0.25, 0.75))
    desk = desk_with(house, store)
    desk.ask(body("a"))
    assert desk.run()[0]["prediction"] == [0.25, 0.75]


def test_a_store_that_feeds_no_features_still_answers_what_it_has(store):
    """What was foreseen is answered also while the online rows cannot be read."""
    house = House()
    reader = Reader()
    house.add("v", 0.5, reader=reader)
    store.put("v", batch_of("x", basket=1.0), (0.25,))
    desk = desk_with(house, store)
    reader.error = Unavailable("no online rows")
    desk.ask(body("a", 1.0))
    desk.ask(body("b", 2.0))
    said = desk.answers
    while desk.dispatcher.step():
        pass
    assert [type(one) for one in said] == [bytes, Unavailable]
    assert msgspec.json.decode(said[0])["prediction"] == 0.25


def test_a_shadow_scores_with_features_of_its_own(house, store):
    house.add("w", 9.5)
    store.put("v", batch_of("x"), (0.125,))
    desk = desk_with(house, store, ("champion", "v", 1.0), ("shadow", "w", 0.0))
    house.made["w"].reader.read = lambda batch: _without_marks(Reader().read(batch))
    desk.ask(body("a"))
    desk.run()
    while desk.dispatcher.settling.step_shadow():
        pass
    shadow = next(row for row in desk.records.rows if row.arm == "shadow")
    assert (shadow.version, shadow.status, shadow.outputs) == ("w", "ok", (12.5,))


def _without_marks(found):
    return type(found)(found.values, found.ages, {}, ())


def test_the_unit_of_a_test_is_recorded(house, store):
    house.add("w", 9.5)
    for version, said in (("v", 0.1), ("w", 0.9)):
        store.put(version, batch_of("x"), (said,))
    desk = desk_with(house, store)
    made = table(2, ("champion", "v", 0.5), ("b", "w", 0.5), rollout="t")
    routes = {"m": msgspec.structs.replace(made.routes["m"], unit="shop")}
    assert desk.dispatcher.engine.swap(type(made)(2, routes), house.load) is None
    for name in "abcd":
        desk.ask(body(name))
    desk.run()
    assert {(row.unit, row.status) for row in desk.records.rows} == {("aa", "precomputed")}
    assert len({row.arm for row in desk.records.rows}) == 1


def test_records_come_back_as_answers_without_features(house, store):
    store.put("v", batch_of("x", basket=1.0), (0.125,))
    desk = desk_with(house, store)
    desk.ask(body("a", 1.0))
    desk.ask(body("b", 2.0))
    desk.run()
    found = list(answers_from_records(desk.records.rows, small_plan()))
    assert sorted((answers.requests.ids[0], answers.features.values.shape[1]) for answers in found) == [
        ("a", 0), ("b", 2)
    ]  # fmt: skip
    assert all(statuses(answers) for answers in found)


def test_what_is_written_after_the_start_is_found_within_a_second(tmp_path):
    ticks = itertools.count(step=400_000_000)
    clock = VirtualClock(0)
    find = OpenedWhenThere(tmp_path / "p", clock=clock, timer=lambda: next(ticks))
    assert [find() for _ in range(5)] == [None] * 5

    def write(outputs):
        writer = LmdbPrecomputed(tmp_path / "p", clock=clock)
        writer.put_many("m", "v", {b"k": outputs}, until=10)
        writer.close()

    write((1.0,))
    store = next(found for _ in range(4) if (found := find()) is not None)
    assert store.get("m", "v", b"k") == (1.0,)
    assert find() is store
    for path in (tmp_path / "p").iterdir():
        path.rename(tmp_path / f"old-{path.name}")  # somebody threw them away
    assert None in [find() for _ in range(4)]
    write((2.0,))
    store = next(found for _ in range(4) if (found := find()) is not None)
    assert store.get("m", "v", b"k") == (2.0,)
    clock.advance_to(10)
    assert store.get("m", "v", b"k") is None
    store.close()


def test_what_cannot_be_opened_is_left_alone(tmp_path, caplog):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "data.mdb").write_bytes(b"rubbish" * 4096)
    ticks = itertools.count(step=2_000_000_000)
    find = OpenedWhenThere(tmp_path / "p", clock=VirtualClock(0), timer=lambda: next(ticks))
    assert [find() for _ in range(3)] == [None] * 3
    assert len(caplog.records) == 1
