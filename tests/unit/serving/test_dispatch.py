import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.parts import Desk, House, Reader, engine_with, small_plan, table

from trimtab.errors import BundleCorrupt, InputError, Overloaded, SchemaError, TrimtabError, Unavailable, UnknownName
from trimtab.features.plan import ModulePart, Plan, RequestShape
from trimtab.features.sent import SentReader
from trimtab.serving.ask import Steer
from trimtab.serving.latency import BUCKETS
from trimtab.serving.meter import ANSWERED, ARM, Meter, stage_at


@pytest.fixture
def house():
    made = House()
    made.add("a", 10)
    made.add("b", 20)
    return made


def desk_for(house, *arms, unit="", **more):
    return Desk(engine_with(house, *(arms or (("champion", "a", 1.0),)), unit=unit), **more)


def total_of(cells):
    """Bodies whose whole time was counted."""
    first = stage_at("total") + 1
    return sum(cells[first : first + BUCKETS])


def test_one_request(house):
    desk = desk_for(house)
    desk.ask({"id": "r1", "shop": "aa", "basket": 1})
    assert desk.run() == [
        {"id": "r1", "prediction": 13.0, "version": "a", "arm": "champion", "status": "ok", "model": "m"}
    ]
    (record,) = desk.records.rows
    assert (record.request_id, record.asked_at, record.keys) == ("r1", 1_000, {"shop": "aa"})
    assert record.timings[0] > 0
    assert record.timings[5] > 0


def test_a_list_and_made_up_ids(house):
    desk = desk_for(house)
    desk.ask({"instances": [{"shop": "a", "basket": 1}, {"id": "mine", "shop": "b", "basket": 2}]})
    (answer,) = desk.run()
    assert answer["model"] == "m"
    assert [(one["id"], one["prediction"]) for one in answer["predictions"]] == [("new0", 12.0), ("mine", 13.0)]
    assert [row.request_id for row in desk.records.rows] == ["new0", "mine"]


def test_what_waits_together_is_answered_together_and_written_once(house):
    desk = desk_for(house, max_batch=3)
    for index in range(5):
        desk.ask({"id": f"r{index}", "shop": "a", "basket": index})
    assert [answer["prediction"] for answer in desk.run()] == [11.0 + index for index in range(5)]
    assert [len(batch) for batch in desk.records.batches] == [3, 2]
    assert house.made["a"].runtime.rows[1:] == [3, 2]


def test_a_large_body_is_answered_in_slices_and_in_order(house):
    desk = desk_for(house, ("champion", "a", 0.5), ("canary", "b", 0.5), max_batch=4)
    desk.ask({"instances": [{"id": f"r{index}", "shop": "a", "basket": index} for index in range(10)]})
    desk.ask({"id": "small", "shop": "a", "basket": 0})
    found = {len(answer): answer for answer in desk.run()}
    predictions = found[2]["predictions"]
    assert [one["id"] for one in predictions] == [f"r{index}" for index in range(10)]
    assert {one["arm"] for one in predictions} == {"champion", "canary"}
    bias = {"a": 11.0, "b": 21.0}
    assert [one["prediction"] for one in predictions] == [bias[one["version"]] + i for i, one in enumerate(predictions)]
    assert len(desk.records.rows) == 11
    assert max(house.made["a"].runtime.rows + house.made["b"].runtime.rows) <= 4


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    max_batch=st.integers(1, 12),
    unit=st.sampled_from(["", "shop"]),
)
def test_bodies_of_any_size_are_answered_recorded_and_counted_once(sizes, max_batch, unit):
    house = House()
    house.add("a", 10)
    house.add("b", 20)
    desk = desk_for(house, ("champion", "a", 0.5), ("canary", "b", 0.5), max_batch=max_batch, unit=unit)
    for body, size in enumerate(sizes):
        desk.ask({"instances": [{"id": f"{body}-{row}", "shop": f"s{row}", "basket": row} for row in range(size)]})
    answers = desk.run()
    names = {f"{body}-{row}" for body, size in enumerate(sizes) for row in range(size)}
    assert {one["id"] for answer in answers for one in answer["predictions"]} == names
    assert sorted(row.request_id for row in desk.records.rows) == sorted(names)
    blocks = [cells for (kind, _), cells in desk.cells.blocks.items() if kind == ARM]
    assert sum(cells[ANSWERED] for cells in blocks) == sum(sizes)
    assert sum(total_of(cells) for cells in blocks) == len(sizes)


def test_what_was_recorded_is_answered_although_nobody_could_count_it(house, monkeypatch):
    desk = desk_for(house)
    monkeypatch.setattr(Meter, "answered", lambda *_, **__: 1 / 0)
    desk.ask({"id": "r1", "shop": "a", "basket": 1})
    with pytest.raises(ZeroDivisionError):
        desk.run()
    (answer,) = desk.answers
    assert (b'"r1"' in answer, len(desk.records.rows)) == (True, 1)


def test_nothing_leaves_that_is_not_recorded(house):
    desk = desk_for(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    desk.records.full = True
    desk.ask({"shop": "a", "basket": 1})
    (answer,) = desk.run()
    assert isinstance(answer, Unavailable)
    assert desk.dispatcher.engine.shadow_rows == 0
    desk.records.full = False
    desk.ask({"shop": "a", "basket": 1})
    assert desk.run()[1]["prediction"] == 12.0


def test_the_rest_of_a_body_that_ended_early_waits_no_more(house):
    """Else its model would be refused more and more, though nobody waits for it."""
    desk = desk_for(house, ("champion", "a", 1.0), ("shadow", "b", 0.0), max_batch=2)
    dispatcher = desk.dispatcher
    desk.records.full = True
    for body in range(3):
        desk.ask({"instances": [{"id": f"{body}-{index}", "shop": "a", "basket": 1} for index in range(7)]})
        desk.infer(infer_body((1, 2), id=f"t{body}"), version="b")
        dispatcher.step()
    desk.records.full = False
    while dispatcher.step():
        assert dispatcher._door._waiting == {"m": len(dispatcher.queue)}
    assert dispatcher._door._waiting == {}
    assert len(desk.answers) == 6


def test_a_value_that_no_float32_holds_refuses_a_body_before_any_of_it_is_answered():
    house = House()
    shape = RequestShape("m", "id", "at", {}, {"basket": "float"}, (), {})
    house.add("sent", 0.5, plan=Plan(shape, ()), reader=SentReader(shape))
    desk = Desk(engine_with(house, ("champion", "sent", 1.0)), max_batch=4)
    rows = [{"id": f"r{row}", "basket": 1e39 if row == 9 else 1.0} for row in range(12)]
    with pytest.raises(SchemaError, match="past the range of float32"):
        desk.ask({"instances": rows})
    assert desk.run() == []
    assert desk.records.rows == []


def test_one_callers_request_does_not_fail_anothers(house):
    desk = desk_for(house)
    for shop in ("a", "poison", "b"):
        desk.ask({"id": shop, "shop": shop, "basket": 1})
    good, bad, fine = desk.run()
    assert (good["prediction"], fine["prediction"]) == (12.0, 12.0)
    assert isinstance(bad, TrimtabError)
    assert bad.got == "ZeroDivisionError"
    assert {row.request_id: row.status for row in desk.records.rows} == {
        "a": "ok",
        "poison": "error:ZeroDivisionError",
        "b": "ok",
    }


def test_a_request_that_no_features_exist_for_is_the_callers_fault(house):
    house.add("c", 0, reader=Reader(error=SchemaError("no such shop")))
    desk = desk_for(house, ("champion", "c", 1.0))
    desk.ask({"shop": "a", "basket": 1})
    assert isinstance(desk.run()[0], SchemaError)
    assert desk.records.rows == []


def test_an_unexpected_error_leaves_nobody_waiting(house):
    desk = desk_for(house)
    desk.ask({"shop": "a", "basket": 1})
    desk.records.write = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        desk.dispatcher.step()
    assert isinstance(desk.answers[0], TrimtabError)


def test_a_full_queue_refuses(house):
    desk = desk_for(house, max_queue=1)
    desk.ask({"shop": "a", "basket": 1})
    with pytest.raises(Unavailable, match="too many"):
        desk.ask({"shop": "a", "basket": 1})


def test_a_request_past_its_deadline_is_refused(house):
    desk = desk_for(house, max_batch=1, deadline_ms=1)  # the timer of the tests ticks 10 µs a look
    for index in range(40):
        desk.ask({"id": str(index), "shop": "a", "basket": 1})
    answers = desk.run()
    late = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert 0 < len(late) < 40
    assert len(desk.records.rows) == 40 - len(late)


def test_bad_input_is_refused_before_it_waits(house):
    desk = desk_for(house)
    with pytest.raises(SchemaError):
        desk.ask({"shop": 1, "basket": 1})
    with pytest.raises(UnknownName):
        desk.ask({"shop": "a", "basket": 1}, model="x")
    assert len(desk.dispatcher.queue) == 0


def test_waiting_requests_are_answered_by_the_table_in_force(house):
    desk = desk_for(house)
    desk.ask({"shop": "a", "basket": 1})
    desk.dispatcher.engine.swap(table(2, ("champion", "b", 1.0)), house.load)
    assert desk.run()[0]["version"] == "b"


def test_a_table_that_takes_other_requests_sends_waiting_ones_back(house):
    shape = RequestShape("visits", "visit", "asked", {"shop": "str"}, {"basket": "float", "new": "int"}, (), {})
    house.add("wide", 0, plan=Plan(shape, (ModulePart("pkg.calc", ("basket", "length"), "x"),)))
    desk = desk_for(house)
    desk.ask({"shop": "a", "basket": 1})
    assert desk.dispatcher.engine.swap(table(2, ("champion", "wide", 1.0)), house.load) is None
    assert isinstance(desk.run()[0], Unavailable)
    desk.ask({"shop": "a", "basket": 1, "new": 2})
    assert desk.run()[1]["version"] == "wide"


def test_shadow_scores_are_recorded(house):
    desk = desk_for(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    for name in "xy":
        desk.ask({"id": name, "shop": "a", "basket": 1})
    desk.run()
    assert desk.dispatcher.engine.shadow_rows == 2
    assert desk.dispatcher.settling.step_shadow() == 0
    assert [(row.request_id, row.arm, row.outputs[0]) for row in desk.records.batches[1]] == [
        ("x", "shadow", 22.0),
        ("y", "shadow", 22.0),
    ]


# -- Open Inference Protocol


def infer_body(*rows, **more):
    data = [value for row in rows for value in row]
    tensor = {"name": "features", "shape": [len(rows), 2], "datatype": "FP32", "data": data}
    return {"inputs": [tensor]} | more


def test_tensors_skip_the_features(house):
    desk = desk_for(house)
    desk.infer(infer_body((1, 2), (3, 4), id="t"))
    (answer,) = desk.run()
    assert answer["id"] == "t"
    assert answer["model_version"] == "a"
    assert answer["outputs"] == [{"name": "probability", "datatype": "FP32", "shape": [2, 1], "data": [13.0, 17.0]}]
    assert house.made["a"].reader.reads == []
    assert [(row.request_id, row.keys, row.feature_values().tolist()) for row in desk.records.rows] == [
        ("t/0", {}, [1, 2]),
        ("t/1", {}, [3, 4]),
    ]


def test_one_body_gets_one_version(house):
    desk = desk_for(house, ("champion", "a", 0.5), ("canary", "b", 0.5))
    for index in range(20):
        desk.infer(infer_body((1, 2), (3, 4), (5, 6), id=f"t{index}"))
    assert {answer["model_version"] for answer in desk.run()} == {"a", "b"}


def test_tensors_of_several_callers_share_a_batch(house):
    desk = desk_for(house)
    desk.infer(infer_body((1, 2)))
    desk.infer(infer_body((3, 4)))
    assert [answer["outputs"][0]["data"] for answer in desk.run()] == [[13.0], [17.0]]
    assert house.made["a"].runtime.rows[1:] == [2]


def test_a_version_can_be_named(house):
    desk = desk_for(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    desk.infer(infer_body((1, 2)), version="b")
    assert desk.run()[0]["model_version"] == "b"
    assert desk.records.rows[0].arm == "pinned"
    with pytest.raises(UnknownName):
        desk.infer(infer_body((1, 2)), version="c")


def test_tensors_for_a_model_that_changed_meanwhile(house):
    house.add("three", 0, plan=small_plan("z", features=("basket", "length", "third")))
    desk = desk_for(house)
    desk.infer(infer_body((1, 2)))
    assert desk.dispatcher.engine.swap(table(2, ("champion", "three", 1.0)), house.load) is None
    assert isinstance(desk.run()[0], InputError)


def test_a_unit_stays_with_its_arm_whatever_the_request_is_called(house):
    desk = desk_for(house, ("champion", "a", 0.5), ("canary", "b", 0.5))
    for row in range(12):
        desk.infer(infer_body((1, 2), id=f"r{row}"), unit="user-7")
    assert len({answer["model_version"] for answer in desk.run()}) == 1


HALVES = (("champion", "a", 0.5), ("canary", "b", 0.5))


def fell_together(desk):
    desk.run()
    assert all(row.together == (row.unit != "") for row in desk.records.rows)
    return {row.request_id: row.unit for row in desk.records.rows}


def test_rows_whose_arm_was_not_drawn_for_them_alone_say_in_their_records_by_what_they_fell(house):
    desk = desk_for(house, *HALVES)
    desk.infer(infer_body((1, 2), id="alone"))
    desk.infer(infer_body((1, 2), (3, 4), (5, 6), id="body"))
    desk.infer(infer_body((1, 2), id="tensor"), unit="user-7")
    for unit, name in (("", "json"), ("user-7", "with header")):
        body = msgspec.json.encode({"instances": [{"id": f"{name} {row}", "shop": "a", "basket": 1} for row in (0, 1)]})
        desk.dispatcher.submit("m", body, desk.answers.append, steer=Steer(unit=unit))
    assert fell_together(desk) == {
        "alone": "", "body/0": "", "body/1": "body/0", "body/2": "body/0", "tensor": "user-7",
        "json 0": "", "json 1": "", "with header 0": "user-7", "with header 1": "user-7",
    }  # fmt: skip


def test_rows_of_a_body_that_fail_as_one_are_of_one_unit_in_both_arms(house):
    desk = desk_for(house, *HALVES)
    for shops in (["aa"] * 9 + ["poison"], ["poison"] * 10, ["aa"] * 10):
        rows = [
            {"id": f"{shops[0]} {row} {len(set(shops))}", "shop": shop, "basket": 1} for row, shop in enumerate(shops)
        ]
        desk.dispatcher.submit("m", msgspec.json.encode({"instances": rows}), desk.answers.append)
        desk.run()
    found = {}
    for row in desk.records.rows:
        assert row.together == row.status.startswith("error")
        found.setdefault(row.unit, []).append(row.arm)
    assert len(set(found["aa 0 2"])) == 1  # that of the bad row
    assert found["poison 0 1"] == sorted(found["poison 0 1"], reverse=True)  # the champion is told of first
    assert len(found["poison 0 1"]) == 10
    assert len(set(found["poison 0 1"])) == 2
    assert len(found[""]) == 10


@pytest.mark.parametrize("unit", ["", "user-7"])
def test_a_plain_row_says_so_too(house, unit):
    desk = desk_for(house, *HALVES)
    body = msgspec.json.encode(infer_body((1, 2), id="r1"))
    assert desk.dispatcher.submit_plain("m", body, desk.answers.append, steer=Steer(unit=unit))
    assert fell_together(desk) == {"r1": unit}


@pytest.mark.parametrize("arms", [[("champion", "a", 1.0)], [("champion", "a", 1.0), ("shadow", "b", 0.0)]])
def test_where_nothing_is_drawn_nothing_falls_together(house, arms):
    desk = desk_for(house, *arms)
    desk.infer(infer_body((1, 2), (3, 4), id="body"), unit="user-7")
    assert fell_together(desk) == {"body/0": "", "body/1": ""}


def test_in_a_test_the_unit_is_said_and_nothing_else(house):
    desk = desk_for(house, *HALVES, unit="shop")
    desk.infer(infer_body((1, 2), (3, 4), id="body"), unit="user-7")
    desk.run()
    assert [(row.unit, row.together) for row in desk.records.rows] == [("user-7", False)] * 2


def test_an_arm_can_be_named(house):
    desk = desk_for(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    desk.infer(infer_body((1, 2)), arm="shadow")
    assert [answer["model_version"] for answer in desk.run()] == ["b"]
    assert [row.arm for row in desk.records.rows] == ["pinned"]
    with pytest.raises(UnknownName, match="no such arm"):
        desk.infer(infer_body((1, 2)), arm="other")


class Aside:
    """Keeps what should run beside the loop, until it is told to."""

    def __init__(self, dispatcher):
        self.jobs = []
        dispatcher.aside = lambda work, back: self.jobs.append((work, back))

    def finish(self):
        work, back = self.jobs.pop(0)
        back(work())


def test_a_version_that_blocks_is_asked_aside_and_the_others_go_on(house):
    house.add("slow", 30)
    house.made["slow"].runtime.blocking = True
    desk = desk_for(house, ("champion", "a", 1.0), ("shadow", "slow", 0.0))
    aside = Aside(desk.dispatcher)
    desk.infer(infer_body((1, 2), id="r1"), version="slow")
    desk.infer(infer_body((1, 2), id="r2"), version="a")
    assert [answer["id"] for answer in desk.run()] == ["r2"]
    desk.infer(infer_body((1, 2), id="r3"), version="slow")  # joins the next batch, not the one that is out
    assert len(desk.run()) == 1
    assert len(aside.jobs) == 1
    aside.finish()
    assert [answer["id"] for answer in desk.run()] == ["r2", "r1"]
    aside.finish()
    assert [answer["id"] for answer in desk.run()] == ["r2", "r1", "r3"]
    assert [row.request_id for row in desk.records.rows if row.arm == "pinned"] == ["r2", "r1", "r3"]


def test_an_error_aside_is_an_answer_and_the_next_are_answered(house):
    house.made["a"].runtime.blocking = True
    desk = desk_for(house)
    aside = Aside(desk.dispatcher)
    desk.ask({"id": "r1", "shop": "poison", "basket": 1})
    desk.ask({"id": "r2", "shop": "b", "basket": 1})
    desk.run()
    aside.finish()  # both; the batch fails, and each is asked alone
    while aside.jobs:
        aside.finish()
    poisoned, fine = desk.run()
    assert isinstance(poisoned, TrimtabError)
    assert fine["id"] == "r2"


def test_who_cannot_be_answered_in_time_is_refused_before_he_waits(house):
    desk = desk_for(house, max_batch=1)
    body = infer_body((1, 2))
    desk.infer(body, version="a")
    desk.run()
    desk.infer(body, version="a")
    with pytest.raises(Unavailable, match="too late"):
        desk.infer(body, version="a", within_ns=1_000)
    desk.infer(body, version="a", within_ns=10**12)
    assert len(desk.run()) == 3


def test_more_than_the_queue_holds_is_refused(house):
    desk = desk_for(house, max_queue=2)
    for _ in range(2):
        desk.ask({"shop": "a", "basket": 1})
    with pytest.raises(Overloaded, match="too many requests are waiting"):
        desk.ask({"shop": "a", "basket": 1})
    assert len(desk.run()) == 2
    desk.ask({"shop": "a", "basket": 1})
    assert len(desk.run()) == 3


def test_what_only_the_canary_refuses_is_its_failure_and_what_both_refuse_the_callers(house, monkeypatch):
    desk = desk_for(house, ("champion", "a", 0.5), ("canary", "b", 0.5))
    run = house.made["b"].runtime.run

    def picky(values):
        if (values > 1000).any():
            raise InputError("past the range of float16")
        return run(values)

    monkeypatch.setattr(house.made["b"].runtime, "run", picky)
    for row in range(20):
        desk.ask({"id": f"r{row}", "shop": "a", "basket": 2000})
    answers = desk.run()
    arms = {record.request_id: (record.arm, record.status) for record in desk.records.rows}
    assert len(arms) == 20
    assert set(arms.values()) == {("champion", "ok"), ("canary", "error:InputError")}
    failed = [one for one in answers if isinstance(one, TrimtabError)]
    assert len(failed) == sum(arm == "canary" for arm, _ in arms.values())
    monkeypatch.setattr(house.made["a"].runtime, "run", picky)
    before = len(desk.records.rows)
    desk.answers.clear()
    for row in range(20, 30):
        desk.ask({"id": f"r{row}", "shop": "a", "basket": 2000})
    assert {type(one) for one in desk.run()} == {InputError}
    assert len(desk.records.rows) == before


def test_why_a_version_fails_is_logged_once(house, monkeypatch, caplog):
    desk = desk_for(house)

    def run(values):
        raise BundleCorrupt("model.onnx is not what was registered")

    monkeypatch.setattr(house.made["a"].runtime, "run", run)
    for row in range(3):
        desk.ask({"id": f"r{row}", "shop": "a", "basket": 1})
        desk.run()
    assert [record.status for record in desk.records.rows] == ["error:BundleCorrupt"] * 3
    assert caplog.text.count("model.onnx is not what was registered") == 1
