import pytest
from msgspec.structs import replace
from tests.unit.serving.parts import House, Reader, batch_of, engine_with, small_plan, table

from trimtab.core.ids import derived_id
from trimtab.errors import BundleCorrupt, InputError, SchemaError, Unavailable, UnknownName
from trimtab.features.batch import RequestBatch, Watermark
from trimtab.features.plan import ModulePart, Plan, RequestShape
from trimtab.serving.record import decode_record
from trimtab.serving.routing import Arm, Route, RouteTable

IDS = tuple(f"r{index}" for index in range(40))


@pytest.fixture
def house():
    made = House()
    for version, bias in (("a", 10), ("b", 20), ("c", 30)):
        made.add(version, bias)
    return made


def answered(engine, model, batch, **more):
    """The answers of each arm, without the rows."""
    return [answers for answers, _ in engine.answer(model, batch, **more)]


def test_one_arm_answers_everything(house):
    engine = engine_with(house, ("champion", "a", 1.0))
    (answers,) = answered(engine, "m", batch_of("r1", "r2"))
    assert (answers.version, answers.arm, answers.outputs.tolist()) == ("a", "champion", [13, 13])


def test_two_arms_share_the_rows(house):
    engine = engine_with(house, ("champion", "a", 0.5), ("canary", "b", 0.5))
    parts = engine.answer("m", batch_of(*IDS))
    assert sorted(row for _, rows in parts for row in rows) == list(range(40))
    for answers, rows in parts:
        assert list(answers.requests.ids) == [IDS[row] for row in rows]
        assert answers.outputs.tolist() == [{"a": 13, "b": 23}[answers.version]] * len(rows)


def test_units_keep_one_arm(house):
    engine = engine_with(house, ("champion", "a", 0.5), ("canary", "b", 0.5))
    assert len(answered(engine, "m", batch_of(*IDS), units=["user"] * 40)) == 1


def test_an_unknown_model_or_version(house):
    engine = engine_with(house, ("champion", "a", 1.0))
    with pytest.raises(UnknownName, match="no such model"):
        answered(engine, "x", batch_of("r1"))
    with pytest.raises(UnknownName, match="no such version"):
        answered(engine, "m", batch_of("r1"), version="b")


def test_a_pinned_version_is_marked_and_not_mirrored(house):
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    answers = answered(engine, "m", batch_of("r1"), version="b")
    assert (answers[0].arm, answers[0].version) == ("pinned", "b")
    engine.mirror("m", answers)
    assert engine.shadow_rows == 0


def test_a_failing_arm_is_evidence_not_a_crash(house):
    house.add("d", 0, error=RuntimeError("boom"))
    engine = engine_with(house, ("champion", "d", 1.0))
    (answers,) = answered(engine, "m", batch_of("r1"))
    assert answers.error == "RuntimeError"
    (record,) = map(decode_record, engine.records([answers]))
    assert record.status == "error:RuntimeError"
    assert engine.counts["failed", "m", "d", "champion"] == 1


@pytest.mark.parametrize("error", [SchemaError("no such key"), Unavailable("the store is away")])
def test_faults_of_callers_and_stores_are_passed_on(house, error):
    house.add("d", 0, reader=Reader(error=error))
    engine = engine_with(house, ("champion", "d", 1.0))
    with pytest.raises(type(error)):
        answered(engine, "m", batch_of("r1"))


# -- swapping


def test_swap_loads_before_and_frees_after(house):
    engine = engine_with(house, ("champion", "a", 1.0))
    assert engine.swap(table(2, ("champion", "b", 1.0)), house.load) is None
    assert answered(engine, "m", batch_of("r1"))[0].version == "b"
    assert house.made["a"].runtime.closed
    assert not house.made["b"].runtime.closed
    assert sorted(engine.live.deployed) == ["b"]


def test_a_version_that_stays_is_not_loaded_again(house):
    engine = engine_with(house, ("champion", "a", 1.0))
    loads = []
    engine.swap(table(2, ("champion", "a", 0.9), ("canary", "b", 0.1)), lambda v: loads.append(v) or house.load(v))
    assert loads == ["b"]


@pytest.mark.parametrize("generation", [0, 1])
def test_an_older_table_is_ignored(house, generation):
    engine = engine_with(house, ("champion", "a", 1.0))
    assert engine.swap(table(generation, ("champion", "b", 1.0)), house.load) is None
    assert answered(engine, "m", batch_of("r1"))[0].version == "a"


def test_a_table_overtaken_while_it_loaded_is_freed(house):
    engine = engine_with(house, ("champion", "a", 1.0))
    slow = engine.prepare(table(2, ("champion", "b", 1.0)), house.load)
    engine.swap(table(3, ("champion", "c", 1.0)), house.load)
    assert engine.switch(slow) == []
    assert answered(engine, "m", batch_of("r1"))[0].version == "c"
    assert house.made["b"].runtime.closed


@pytest.mark.parametrize("error", [BundleCorrupt("a byte changed"), SyntaxError("a module"), Unavailable("no disk")])
def test_a_version_that_cannot_be_loaded_leaves_the_old_table(house, error):
    engine = engine_with(house, ("champion", "a", 1.0))
    house.broken["c"] = error
    problem = engine.swap(table(2, ("champion", "b", 1.0), ("shadow", "c", 0.0)), house.load)
    assert isinstance(problem, Unavailable if isinstance(error, Unavailable) else BundleCorrupt)
    assert engine.live.table.generation == 1
    assert answered(engine, "m", batch_of("r1"))[0].version == "a"
    assert house.made["b"].runtime.closed


def test_a_version_that_cannot_run_never_goes_live(house):
    bad = house.add("d", 0, error=RuntimeError("boom"))
    bad.runtime.rows.append(0)  # fails from the first run on
    engine = engine_with(house, ("champion", "a", 1.0))
    assert "cannot be loaded" in str(engine.swap(table(2, ("champion", "d", 1.0)), house.load))


def test_a_version_of_another_model_is_refused(house):
    house.add("other", 0, model="n")
    engine = engine_with(house, ("champion", "a", 1.0))
    assert isinstance(engine.swap(table(2, ("champion", "other", 1.0)), house.load), BundleCorrupt)


def test_two_answering_arms_must_take_the_same_requests(house):
    shape = RequestShape("visits", "visit", "asked", {"shop": "str"}, {"basket": "float", "new": "int"}, (), {})
    plan = Plan(shape, (ModulePart("pkg.calc", ("basket", "length"), "x"),))
    house.add("wide", 0, plan=plan)
    engine = engine_with(house, ("champion", "a", 1.0))
    half = table(2, ("champion", "a", 0.5), ("canary", "wide", 0.5))
    assert isinstance(engine.swap(half, house.load), InputError)
    house.add("wide", 0, plan=plan)
    assert engine.swap(table(2, ("champion", "a", 1.0), ("shadow", "wide", 0.0)), house.load) is None


def test_a_model_can_leave(house):
    engine = engine_with(house, ("champion", "a", 1.0))
    engine.swap(RouteTable(2, {}), house.load)
    with pytest.raises(UnknownName):
        answered(engine, "m", batch_of("r1"))


def test_two_models_side_by_side(house):
    house.add("n1", 100, model="n")
    engine = engine_with(house, ("champion", "a", 1.0))
    both = RouteTable(
        2, {name: Route(name, (Arm("champion", version, 1.0),)) for name, version in (("m", "a"), ("n", "n1"))}
    )
    assert engine.swap(both, house.load) is None
    assert answered(engine, "n", batch_of("r1"))[0].outputs.tolist() == [103]
    assert answered(engine, "m", batch_of("r1"))[0].outputs.tolist() == [13]


# -- shadow


def test_every_arm_that_did_not_answer_scores(house):
    engine = engine_with(house, ("champion", "a", 0.5), ("canary", "b", 0.5), ("shadow", "c", 0.0))
    given = answered(engine, "m", batch_of(*IDS))
    engine.mirror("m", given)
    scored = engine.run_shadow()
    pairs = {(request, answers.version) for answers in [*given, *scored] for request in answers.requests.ids}
    assert pairs == {(request, version) for request in IDS for version in "abc"}
    assert {answers.arm for answers in scored} == {"shadow"}
    assert engine.shadow_rows == 0
    for answers in scored:
        assert answers.outputs.tolist() == [{"a": 13, "b": 23, "c": 33}[answers.version]] * len(answers.requests)


def test_equal_plans_share_the_features(house):
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    engine.mirror("m", answered(engine, "m", batch_of("r1")))
    (scored,) = engine.run_shadow()
    assert house.made["b"].reader.reads == []
    assert scored.features is not None


def test_another_plan_reads_its_own(house):
    house.add("other", 40, plan=small_plan("y"))
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "other", 0.0))
    engine.mirror("m", answered(engine, "m", batch_of("r1")))
    (scored,) = engine.run_shadow()
    assert house.made["other"].reader.reads == [1]
    assert scored.outputs.tolist() == [43]


def test_features_brought_by_the_caller_cannot_be_read_for_another_plan(house):
    house.add("other", 40, plan=small_plan("y"))
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "other", 0.0))
    full = answered(engine, "m", batch_of("r1"))[0]
    raw = RequestBatch(["r1"], full.requests.at, {}, {})
    engine.mirror("m", answered(engine, "m", raw, features=full.features))
    assert engine.run_shadow() == []
    assert engine.counts["dropped", "m", "other", "shadow"] == 1


def test_the_shadow_queue_drops_and_counts_when_full(house):
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "b", 0.0), shadow_limit=3)
    for name in ("r1", "r2", "r3", "r4"):
        engine.mirror("m", answered(engine, "m", batch_of(name)))
    assert engine.shadow_rows == 3
    assert engine.counts["dropped", "m", "b", "shadow"] == 1
    assert [answers.requests.ids[0] for answers in engine.run_shadow()] == ["r1", "r2", "r3"]


def test_shadow_work_comes_in_small_steps(house):
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    for name in ("r1", "r2", "r3"):
        engine.mirror("m", answered(engine, "m", batch_of(name)))
    assert len(engine.run_shadow(2)) == 2
    assert engine.shadow_rows == 1
    engine.mirror("m", answered(engine, "m", batch_of(*IDS)))
    assert len(engine.run_shadow(2)) == 1
    assert len(engine.run_shadow(2)[0].requests) == 40


def test_a_shadow_that_fails_is_recorded_as_failed(house):
    house.add("d", 0, error=RuntimeError("boom"))
    house.add("e", 0, plan=small_plan("y"), reader=Reader(error=SchemaError("no")))
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "d", 0.0), ("second", "e", 0.0))
    engine.mirror("m", answered(engine, "m", batch_of("r1")))
    assert {answers.version: answers.error for answers in engine.run_shadow()} == {
        "d": "RuntimeError",
        "e": "SchemaError",
    }


def test_work_for_a_version_that_left_is_dropped(house):
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    engine.mirror("m", answered(engine, "m", batch_of("r1")))
    engine.swap(table(2, ("champion", "a", 1.0)), house.load)
    assert engine.run_shadow() == []
    assert engine.shadow_rows == 0


# -- records


def test_a_record_says_everything(house):
    house.add("d", 40, reader=Reader(stale=("sales",)))
    engine = engine_with(house, ("champion", "d", 1.0))
    engine.swap(table(2, ("champion", "d", 1.0), rollout="ro"), house.load)
    first, second = map(
        decode_record, engine.records(answered(engine, "m", batch_of("r1", "r2", shop="abc", basket=2.0)))
    )
    assert (first.request_id, second.request_id) == ("r1", "r2")
    assert first.prediction_id == derived_id("r1", "d", "champion")
    assert (first.asked_at, first.model, first.version, first.arm, first.rollout) == (5, "m", "d", "champion", "ro")
    assert first.keys == {"shop": "abc"}
    assert first.feature_values().tolist() == [2, 3]
    assert first.watermarks == {"sales": (7, 70)}
    assert first.outputs == (45.0,)
    assert len(first.timings) == 6
    assert first.status == "stale:sales"


def test_an_answer_that_is_no_number_is_an_error(house):
    engine = engine_with(house, ("champion", "a", 1.0))
    answers = answered(engine, "m", batch_of("r1", basket=float("nan")))
    assert decode_record(engine.records(answers)[0]).status == "error:not_finite"


def test_several_outputs_are_recorded_all(house):
    house.add("k", 0, outputs=3)
    engine = engine_with(house, ("champion", "k", 1.0))
    (record,) = map(decode_record, engine.records(answered(engine, "m", batch_of("r1"))))
    assert record.outputs == (3.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("own", "scored"),
    [
        ({"sales": Watermark(7, 70)}, True),
        ({"sales": Watermark(6, 60)}, True),
        ({"sales": Watermark(8, 71)}, False),  # an event came between the answer and the score
        ({"sales": Watermark(7, 70), "stock": Watermark(3, 5)}, True),  # asked at 5
        ({"stock": Watermark(3, 6)}, False),
    ],
)
def test_a_shadow_of_another_plan_must_not_know_more_than_the_answer(house, own, scored):
    class Own(Reader):
        def read(self, batch):
            return replace(super().read(batch), watermarks=own)

    house.add("d", 40, plan=small_plan("y"), reader=Own())
    engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "d", 0.0))
    engine.mirror("m", answered(engine, "m", batch_of("r1", "r2")))
    assert [len(answers.requests) for answers in engine.run_shadow()] == ([2] if scored else [])
    assert engine.counts["dropped", "m", "d", "shadow"] == (0 if scored else 2)
