"""Models that block: one batch of a lane at a time is answered in another thread, and everybody else is looked after."""

import pytest
from tests.unit.serving.parts import Desk, House, engine_with, table
from tests.unit.serving.test_bodies import counted, instances

from trimtab.errors import TooLate, TrimtabError
from trimtab.serving.routing import Arm, Route, RouteTable


class Threads:
    """Runs nothing before it is told to."""

    def __init__(self, desk):
        self.jobs, self.desk = [], desk
        desk.dispatcher.aside = lambda work, back: self.jobs.append((work, back))

    def run_one(self, place=0):
        work, back = self.jobs.pop(place)
        back(work())

    def run(self):
        while self.desk.dispatcher.step() or self.jobs:
            if self.jobs:
                self.run_one()
        return self.desk.run()


@pytest.fixture
def house():
    made = House()
    for version, bias in (("a", 10), ("b", 20)):
        made.add(version, bias).runtime.blocking = True
    made.add("other", 0, model="n").runtime.blocking = True
    made.add("quick", 30)
    made.add("late", 40)
    return made


def desk_for(house, *arms, **more):
    desk = Desk(engine_with(house, *(arms or (("champion", "a", 1.0),))), **more)
    return desk, Threads(desk)


def steps(desk, times=10):
    for _ in range(times):
        desk.dispatcher.step()


def test_one_batch_of_a_lane_is_aside_at_a_time(house):
    desk, threads = desk_for(house, max_batch=2)
    desk.ask(instances(7))
    desk.ask({"id": "small", "shop": "s", "basket": 1})
    steps(desk)
    assert len(threads.jobs) == 1
    assert desk.dispatcher.waiting == 2
    assert len(threads.run()) == 2
    assert sorted(row.request_id for row in desk.records.rows) == sorted([*(f"r{row}" for row in range(7)), "small"])
    assert (desk.dispatcher.waiting, desk.dispatcher._door._waiting, counted(desk)) == (0, {}, {"a": 8})


def test_another_model_goes_aside_meanwhile(house):
    desk, threads = desk_for(house, max_batch=2)
    routes = {"m": Route("m", (Arm("champion", "a", 1.0),)), "n": Route("n", (Arm("champion", "other", 1.0),))}
    assert desk.dispatcher.engine.swap(RouteTable(2, routes), house.load) is None
    desk.ask(instances(7))
    steps(desk)
    desk.ask({"id": "n1", "shop": "s", "basket": 1}, model="n")
    steps(desk)
    assert len(threads.jobs) == 2
    threads.run_one(1)
    assert [row.request_id for row in desk.records.rows] == ["n1"]


def test_a_body_beside_a_row_that_fails_is_recorded_whole(house):
    desk, threads = desk_for(house, max_batch=4)
    desk.ask({"id": "bad", "shop": "poison", "basket": 1})
    desk.ask(instances(9))
    answers = threads.run()
    assert sorted(type(answer) for answer in answers if isinstance(answer, TrimtabError)) == [TrimtabError]
    assert {row.request_id for row in desk.records.rows if row.status == "ok"} == {f"r{row}" for row in range(9)}
    assert counted(desk)["a"] == 9


def test_deadlines_hold_for_who_waits_behind_a_batch_that_is_aside(house):
    desk, threads = desk_for(house, max_batch=1, deadline_ms=1)
    for number in range(5):
        desk.ask({"id": f"q{number}", "shop": "s", "basket": 1})
    steps(desk)
    assert len(threads.jobs) == 1
    for _ in range(200):  # the timer of the tests ticks 10 µs a look: their deadline passes
        desk.dispatcher._timer()
    answers = threads.run()
    assert sum(isinstance(answer, TooLate) for answer in answers) == 4
    assert [row.request_id for row in desk.records.rows] == ["q0"]
    assert desk.dispatcher._door._waiting == {}


def test_a_version_that_is_asked_in_another_thread_is_freed_when_it_has_answered(house, monkeypatch):
    desk, threads = desk_for(house, ("champion", "a", 0.5), ("canary", "quick", 0.5))
    runtime = house.made["a"].runtime
    plain = runtime.run

    def swapped_meanwhile(values):
        assert desk.dispatcher.engine.swap(table(2, ("champion", "b", 1.0)), house.load) is None
        return plain(values)

    monkeypatch.setattr(runtime, "run", swapped_meanwhile)
    desk.ask(instances(8))
    steps(desk)
    threads.run_one()
    (answer,) = desk.run()
    assert {(one["version"], one["status"]) for one in answer["predictions"]} == {("a", "ok"), ("quick", "ok")}
    assert house.made["a"].runtime.closed
    assert house.made["quick"].runtime.closed
    assert not house.made["b"].runtime.closed


def test_what_was_retired_later_waits_for_no_one_who_came_after(house):
    desk, threads = desk_for(house)
    desk.ask({"id": "q0", "shop": "s", "basket": 1})
    steps(desk)
    assert desk.dispatcher.engine.swap(table(2, ("champion", "b", 1.0)), house.load) is None
    threads.run_one()
    desk.ask({"id": "q1", "shop": "s", "basket": 1})
    steps(desk)
    assert house.made["a"].runtime.closed
    assert not house.made["b"].runtime.closed
    assert len(threads.run()) == 2


def test_it_is_known_which_versions_may_be_answering_aside(house):
    desk, threads = desk_for(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
    assert not desk.dispatcher.busy_aside({"a"})
    desk.ask({"id": "q0", "shop": "s", "basket": 1})
    steps(desk)
    assert desk.dispatcher.busy_aside({"a"})
    assert not desk.dispatcher.busy_aside({"b"})
    threads.run()
    assert not desk.dispatcher.busy_aside({"a"})


def test_a_thread_that_cannot_be_started_fails_its_batch_and_no_other(house):
    desk, threads = desk_for(house, max_batch=1)
    plain, broken = desk.dispatcher.aside, [True]

    def aside(work, back):
        if broken.pop() if broken else False:
            raise RuntimeError("can't start new thread")
        plain(work, back)

    desk.dispatcher.aside = aside
    for number in range(3):
        desk.ask({"id": f"q{number}", "shop": "s", "basket": 1})
    assert [isinstance(answer, TrimtabError) for answer in threads.run()] == [True, False, False]
    assert (desk.dispatcher.waiting, desk.dispatcher._door._waiting) == (0, {})
    assert desk.dispatcher.engine.swap(table(2, ("champion", "b", 1.0)), house.load) is None
    assert house.made["a"].runtime.closed


@pytest.mark.parametrize("constant", [(), (0.5,)])
def test_nobody_waits_behind_a_batch_that_the_table_no_longer_sends_aside(house, constant):
    desk, threads = desk_for(house)
    for number in range(2):
        desk.ask({"id": f"q{number}", "shop": "s", "basket": 1})
        steps(desk)
    arm = Arm("champion", "a" if constant else "quick", 1.0)
    now = RouteTable(2, {"m": Route("m", (arm,), constant=constant)})
    assert desk.dispatcher.engine.swap(now, house.load) is None
    desk.ask({"id": "q2", "shop": "s", "basket": 1})
    steps(desk)
    assert [row.request_id for row in desk.records.rows] == ["q1", "q2"]
    threads.run()
    assert sorted(row.request_id for row in desk.records.rows) == ["q0", "q1", "q2"]
    assert (desk.dispatcher.waiting, desk.dispatcher._door._waiting) == (0, {})


def test_who_waits_behind_a_batch_that_hangs_is_told_when_his_time_is_over(house):
    desk, threads = desk_for(house, deadline_ms=1)
    for number in range(2):
        desk.ask({"id": f"q{number}", "shop": "s", "basket": 1})
        steps(desk)
    desk.dispatcher.look_aside()
    assert desk.answers == []
    for _ in range(200):  # the timer of the tests ticks 10 µs a look
        desk.dispatcher._timer()
    desk.dispatcher.look_aside()
    assert [type(answer) for answer in desk.answers] == [TooLate]
    assert len(threads.run()) == 2
    assert (desk.dispatcher.waiting, desk.dispatcher._door._waiting) == (0, {})


def test_in_the_shadow_what_blocks_stands_alone(house):
    desk, _ = desk_for(house, ("champion", "quick", 1.0), ("shadow", "a", 0.0), ("shadow2", "late", 0.0))
    for number in range(3):
        desk.ask({"id": f"q{number}", "shop": "s", "basket": 1})
        desk.dispatcher.step()
    engine, taken = desk.dispatcher.engine, []
    while engine.shadow_rows:
        taken.append([work.version for work in engine.take_shadow(32)])
    assert sorted(version for versions in taken for version in versions) == ["a"] * 3 + ["late"] * 3
    assert all(len(versions) == 1 for versions in taken if "a" in versions)


def test_a_runtime_that_cannot_be_freed_keeps_no_other(house, monkeypatch, caplog):
    desk, _ = desk_for(house, ("champion", "a", 0.5), ("canary", "quick", 0.5))
    monkeypatch.setattr(house.made["a"].runtime, "close", lambda: 1 / 0)
    assert desk.dispatcher.engine.swap(table(2, ("champion", "b", 1.0)), house.load) is None
    assert house.made["quick"].runtime.closed
    assert "cannot be freed" in caplog.text
