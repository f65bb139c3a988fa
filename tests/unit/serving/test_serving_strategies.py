"""The engine behind a kill switch, in an A/B test, and with versions that are only held."""

import numpy as np
import pytest
from msgspec.structs import replace
from tests.unit.serving.parts import House, Reader, batch_of, engine_with

from trimtab.errors import BundleCorrupt, Unavailable, UnknownName
from trimtab.features.batch import RequestBatch
from trimtab.serving.record import decode_record
from trimtab.serving.routing import Arm, Route, RouteTable

TEST = Route("m", (Arm("a", "a", 0.5), Arm("b", "b", 0.5)), "t1", "t1", unit="shop")


@pytest.fixture
def house():
    made = House()
    for version, bias in (("a", 10), ("b", 20), ("c", 30)):
        made.add(version, bias)
    return made


@pytest.fixture
def engine(house):
    return engine_with(house, ("champion", "a", 1.0))


def switch(engine, house, route, generation=2):
    assert engine.swap(RouteTable(generation, {"m": route}), house.load) is None


def shops(count=40):
    batch = batch_of(*(f"r{n}" for n in range(count)))
    return replace(batch, keys={"shop": np.array([f"s{n % 7}" for n in range(count)])})


def test_a_constant_asks_no_model_and_no_store(engine, house):
    house.add("broken", 0, reader=Reader(error=Unavailable("the store is away")))
    route = Route("m", (Arm("champion", "broken", 1.0),), constant=(0.25,))
    switch(engine, house, route)
    ((answers, rows),) = engine.answer("m", batch_of("r1", "r2"))
    assert (answers.arm, answers.version, answers.outputs.tolist()) == ("constant", "constant", [0.25, 0.25])
    assert rows == [0, 1]
    records = [decode_record(row) for row in engine.records([answers])]
    assert [(one.arm, one.version, one.status, one.model) for one in records] == [
        ("constant", "constant", "constant", "m")
    ] * 2
    assert engine.answer("m", batch_of("r1"), version="broken")[0][0].arm == "constant"  # who names a version too
    engine.mirror("m", [answers])
    assert engine.shadow_rows == 0


@pytest.mark.parametrize(("constant", "said"), [((0.5,), [0.5, 0.5]), ((0.2, 0.8), [0.2, 0.8])])
def test_a_constant_of_several_outputs(engine, house, constant, said):
    house.add("wide", 0, outputs=2)
    switch(engine, house, Route("m", (Arm("champion", "wide", 1.0),), constant=constant))
    assert engine.answer("m", batch_of("r1"))[0][0].outputs.tolist() == [said]


def test_what_is_held_is_loaded_and_answers_nothing(engine, house):
    switch(engine, house, Route("m", (Arm("champion", "a", 1.0),), held=("b",)))
    assert sorted(engine.live.deployed) == ["a", "b"]
    with pytest.raises(UnknownName):
        engine.answer("m", batch_of("r1"), version="b")
    (answers, _), *_ = engine.answer("m", batch_of("r1"))
    engine.mirror("m", [answers])
    assert engine.shadow_rows == 0
    runtime = house.made["b"].runtime
    switch(engine, house, Route("m", (Arm("champion", "b", 1.0),)), generation=3)
    assert engine.live.deployed["b"].runtime is runtime  # it was not loaded a second time
    assert house.made["a"].runtime.closed


def test_a_held_version_that_cannot_be_loaded_keeps_nothing_from_answering(engine, house):
    house.broken["c"] = BundleCorrupt("a byte has changed")
    switch(engine, house, Route("m", (Arm("champion", "b", 1.0),), held=("c",)))
    assert engine.answer("m", batch_of("r1"))[0][0].version == "b"
    assert "a byte has changed" in engine.live.missing["c"]


def test_a_table_that_is_refused_frees_what_was_held_for_it(engine, house):
    house.add("other", 0, model="another")
    route = Route("m", (Arm("champion", "other", 1.0),), held=("b",))
    assert isinstance(engine.swap(RouteTable(2, {"m": route}), house.load), BundleCorrupt)
    assert house.made["b"].runtime.closed


def test_units_of_a_test_come_from_the_field_that_it_names(engine, house):
    switch(engine, house, TEST)
    where: dict[str, set[str]] = {}
    for answers, rows in engine.answer("m", shops()):
        assert len(answers.units) == len(rows)
        for row, unit in zip(rows, answers.units, strict=True):
            assert unit == f"s{row % 7}"
            where.setdefault(unit, set()).add(answers.arm)
        stored = [decode_record(row) for row in engine.records([answers])]
        assert [one.unit for one in stored] == list(answers.units)
        assert {one.arm for one in stored} == {answers.version}  # arm a is version a
    assert all(len(found) == 1 for found in where.values())
    assert set().union(*where.values()) == {"a", "b"}


def test_a_unit_that_the_caller_sends_wins(engine, house):
    switch(engine, house, TEST)
    sent = ["user-1"] * 20 + [""] * 20
    units = {row: unit for answers, rows in engine.answer("m", shops(), units=sent)
             for row, unit in zip(rows, answers.units, strict=True)}  # fmt: skip
    assert [units[row] for row in (0, 19, 20, 39)] == ["user-1", "user-1", "s6", "s4"]


def test_without_the_field_a_request_stands_for_itself(engine, house):
    switch(engine, house, TEST)
    raw = RequestBatch(["x", "y"], np.zeros(2, np.int64), {}, {})
    features = engine.pipeline.features(house.made["a"], batch_of("x", "y"))
    units = {unit for answers, _ in engine.answer("m", raw, features=features) for unit in answers.units}
    assert units == {"x", "y"}


def test_the_arms_of_a_test_do_not_score_each_other(engine, house):
    switch(engine, house, TEST)
    engine.mirror("m", [answers for answers, _ in engine.answer("m", shops())])
    assert engine.shadow_rows == 0
