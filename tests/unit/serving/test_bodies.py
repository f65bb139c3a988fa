"""Bodies of several batches: answered and recorded as a whole or not at all, whatever meets them on their way."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.parts import Desk, House, engine_with, table
from tests.unit.serving.test_dispatch import infer_body

from trimtab.errors import ModelFailed, TooLate, TrimtabError, Unavailable
from trimtab.serving.meter import ANSWERED, ARM, FAILED


@pytest.fixture
def house():
    made = House()
    made.add("a", 10)
    made.add("b", 20)
    made.add("two", 20, outputs=2)
    return made


def desk_for(house, *arms, **more):
    return Desk(engine_with(house, *(arms or (("champion", "a", 1.0),))), **{"max_batch": 2} | more)


def instances(count, *, poison=(), name="r"):
    return {"instances": [
        {"id": f"{name}{row}", "shop": "poison" if row in poison else "s", "basket": row} for row in range(count)
    ]}  # fmt: skip


def swap(desk, house, generation, *arms):
    assert desk.dispatcher.engine.swap(table(generation, *arms), house.load) is None


def swap_between(desk, house, generation):
    """Both versions stay loaded, one of them answers."""
    one, other = "ab" if generation % 2 else "ba"
    swap(desk, house, generation, ("champion", one, 1.0), ("shadow", other, 0.0))


def counted(desk, at=ANSWERED):
    found = Counter()
    for (kind, labels), cells in desk.cells.blocks.items():
        if kind == ARM:
            found[labels[1]] += cells[at]
    return found


def test_nothing_is_recorded_before_all_of_a_body_is_answered(house):
    desk = desk_for(house)
    desk.ask(instances(5))
    desk.ask({"id": "small", "shop": "s", "basket": 1})
    for _ in range(2):
        desk.dispatcher.step()
    assert [row.request_id for row in desk.records.rows] == ["small"]
    assert counted(desk) == {"a": 1}
    desk.run()
    assert sorted(row.request_id for row in desk.records.rows) == ["r0", "r1", "r2", "r3", "r4", "small"]
    assert [len(batch) for batch in desk.records.batches] == [1, 5]
    assert counted(desk) == {"a": 6}
    assert desk.dispatcher.engine.counts["answered", "m", "a", "champion"] == 6


@pytest.mark.parametrize("poison", [0, 3, 6])
def test_of_a_body_that_fails_only_what_failed_is_recorded(house, poison):
    desk = desk_for(house)
    desk.ask(instances(7, poison=(poison,)))
    desk.ask({"id": "small", "shop": "s", "basket": 1})
    answers = desk.run()
    assert Counter(type(answer) for answer in answers) == {TrimtabError: 1, dict: 1}
    said = {row.request_id: row.status for row in desk.records.rows}
    failed = set(said) - {"small"}
    assert f"r{poison}" in failed
    assert len(failed) <= 2
    assert said == {"small": "ok"} | dict.fromkeys(failed, "error:ZeroDivisionError")
    assert (counted(desk), counted(desk, FAILED)) == ({"a": 1}, {"a": len(failed)})
    assert len(desk.dispatcher.queue) == 0


def test_a_body_of_which_one_arm_fails_leaves_no_answer_of_the_other(house):
    house.add("broken", 0, error=ModelFailed("no", got="died: at once"))
    desk = desk_for(house, ("champion", "a", 0.5), ("canary", "broken", 0.5), max_batch=32)
    desk.ask(instances(12))
    (answer,) = desk.run()
    assert isinstance(answer, TrimtabError)
    assert {row.version for row in desk.records.rows} == {"broken"}
    assert 0 < len(desk.records.rows) < 12
    assert counted(desk)["broken"] == 0


def test_what_cannot_be_recorded_at_the_end_fails_the_body_and_leaves_nothing(house):
    desk = desk_for(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    desk.ask(instances(5))
    desk.dispatcher.step()
    desk.records.full = True
    assert [type(answer) for answer in desk.run()] == [Unavailable]
    assert (desk.records.rows, counted(desk), desk.dispatcher.engine.shadow_rows) == ([], {}, 0)


def test_all_of_a_body_is_scored_in_the_shadow(house):
    desk = desk_for(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    desk.ask(instances(5))
    desk.run()
    assert desk.dispatcher.engine.shadow_rows == 5


@pytest.mark.parametrize("after", ["b", "two"])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_tensor_body_that_a_swap_meets_is_answered_by_one_version(house, after, steps):
    desk = desk_for(house)
    desk.infer(infer_body((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), id="t"))
    for _ in range(steps):
        desk.dispatcher.step()
    swap(desk, house, 2, ("champion", after, 1.0))
    (answer,) = desk.run()
    sums = [23.0, 27.0, 31.0, 35.0, 39.0]
    wanted = sums if after == "b" else [value for one in sums for value in (one, one + 1)]
    assert (answer["model_version"], answer["outputs"][0]["data"]) == (after, wanted)
    assert Counter(row.version for row in desk.records.rows) == {after: 5}
    assert desk.dispatcher._door._waiting == {}


def test_a_kill_switch_meets_a_tensor_body(house):
    desk = desk_for(house)
    desk.infer(infer_body((1, 2), (3, 4), (5, 6), id="t"))
    desk.dispatcher.step()
    now = table(2, ("champion", "a", 1.0))
    route = msgspec.structs.replace(now.route("m"), constant=(0.25,))
    assert desk.dispatcher.engine.swap(msgspec.structs.replace(now, routes={"m": route}), house.load) is None
    (answer,) = desk.run()
    assert answer["outputs"][0]["data"] == [0.25] * 3
    assert {row.arm for row in desk.records.rows} == {"constant"}


def test_a_body_that_is_met_again_and_again_is_given_up(house):
    desk = desk_for(house)
    desk.infer(infer_body((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), id="t"))
    generation = 1
    while not desk.answers:
        desk.dispatcher.step()
        generation += 1
        assert generation < 100
        swap_between(desk, house, generation)
    assert isinstance(desk.answers[0], Unavailable)
    assert "changes faster" in str(desk.answers[0])
    assert (desk.records.rows, len(desk.dispatcher.queue), desk.dispatcher._door._waiting) == ([], 0, {})


def test_the_rows_of_a_friendly_body_name_each_its_version(house):
    desk = desk_for(house)
    desk.ask(instances(5))
    desk.dispatcher.step()
    swap(desk, house, 2, ("champion", "two", 1.0))
    (answer,) = desk.run()
    said = [(one["version"], one["prediction"]) for one in answer["predictions"]]
    assert said == [("a", 11.0), ("a", 12.0)] + [("two", [21.0 + row + one for one in (0, 1)]) for row in (2, 3, 4)]
    assert [row.version for row in sorted(desk.records.rows, key=lambda row: row.request_id)] == ["a"] * 2 + ["two"] * 3


def test_a_body_whose_deadline_passes_on_its_way_ends_then(house):
    desk = desk_for(house, deadline_ms=1)  # the timer of the tests ticks 10 µs a look
    desk.ask(instances(200))
    (answer,) = desk.run()
    assert isinstance(answer, TooLate)
    assert desk.records.rows == []
    assert 1 < len(house.made["a"].runtime.rows) < 60


def test_a_body_that_takes_too_many_batches_is_refused_before_it_waits(house):
    desk = desk_for(house, deadline_ms=1)
    desk.ask({"id": "first", "shop": "s", "basket": 1})
    desk.run()
    desk.ask({"id": "second", "shop": "s", "basket": 1})
    with pytest.raises(TooLate, match="send fewer rows at a time"):
        desk.ask(instances(200))
    assert len(desk.dispatcher.queue) == 1


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    tensors=st.lists(st.booleans(), min_size=6, max_size=6),
    poison=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=2),
    swaps=st.sets(st.integers(0, 12), max_size=4),
    max_batch=st.integers(1, 5),
)
def test_records_and_counts_are_those_of_what_was_answered(sizes, tensors, poison, swaps, max_batch):
    house = House()
    house.add("a", 10)
    house.add("b", 20)
    desk = desk_for(house, ("champion", "a", 0.5), ("canary", "b", 0.5), max_batch=max_batch)
    for body, size in enumerate(sizes):
        if tensors[body]:
            desk.infer(infer_body(*[(row, 1) for row in range(size)], id=f"{body}-"))
        else:
            desk.ask(instances(size, poison={row for one, row in poison if one == body}, name=f"{body}-"))
    step = 0
    waiting = True
    while waiting:
        if step in swaps:
            swap_between(desk, house, step + 2)
        waiting = desk.dispatcher.step()
        step += 1
    answers = [one if isinstance(one, Exception) else msgspec.json.decode(one) for one in desk.answers]
    assert len(answers) == len(sizes)
    given = Counter()
    for answer in answers:
        if isinstance(answer, dict) and "outputs" in answer:
            rows = answer["outputs"][0]["shape"][0]
            given[answer["model_version"]] += rows
        elif isinstance(answer, dict):
            given.update(one["version"] for one in answer["predictions"])
    recorded = Counter(row.version for row in desk.records.rows if row.status == "ok")
    assert recorded == given
    assert +Counter(counted(desk)) == given
    assert desk.dispatcher._door._waiting == {}
