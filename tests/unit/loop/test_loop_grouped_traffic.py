"""A canary whose requests come in groups that stay with one arm: from the dispatcher to the guardrails, without sockets."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tests.unit.loop.test_loop_failing_canary import in_canary
from tests.unit.serving.parts import Desk, House, engine_with, small_plan

from trimtab.core.clock import DAY
from trimtab.gates.guardrails import Tally, judge_counts
from trimtab.loop import events as e
from trimtab.loop.counting import StepCounts
from trimtab.loop.observations import Counted
from trimtab.loop.sentences import describe
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.monitoring.rebuild import answers_from_records, failures
from trimtab.serving.ask import Steer
from trimtab.serving.routing import Arm, Route, RouteTable, choose

CONFIG = ObserverConfig("late", "binary", "log_loss", matures=2 * DAY)
REQUESTS = 4000


class Canary:
    """A world in its first canary step, and a worker that answers for both versions."""

    def __init__(self, *, routed: float | None = None, canary_fails: bool = False) -> None:
        self.world = in_canary()
        self.rollout = self.world.state.rollout
        house = House()
        house.add(self.rollout.champion, 0.0)
        house.add(self.rollout.version, 0.1, error=ValueError("no") if canary_fails else None)
        share = self.rollout.share if routed is None else routed
        arms = (Arm("champion", self.rollout.champion, 1 - share), Arm("canary", self.rollout.version, share))
        engine = engine_with(house, ("champion", self.rollout.champion, 1.0))
        self.route = Route("m", arms, self.rollout.id, self.rollout.id)
        assert engine.swap(RouteTable(2, {"m": self.route}), house.load) is None
        self.desk, self.observer, self.counts = Desk(engine), Observer(CONFIG), StepCounts()
        self.counts.observe(self.observer, self.world.state)

    def ask(self, name: str, unit: str = "", *, shop: str = "a") -> None:
        body = msgspec.json.encode({"id": name, "shop": shop, "basket": 1})
        self.desk.dispatcher.submit("m", body, self.desk.answers.append, steer=Steer(unit=unit))
        self.answer()

    def ask_rows(self, name: str, rows: int) -> None:
        datum = {"name": "features", "datatype": "FP32", "shape": [rows, 2], "data": [1.0, 2.0] * rows}
        self.desk.infer({"id": name, "inputs": [datum]})
        self.answer()

    def answer(self) -> None:
        while self.desk.dispatcher.step():
            pass

    def counted(self) -> Counted:
        """What the observer makes of the records, told in pieces, with a restart behind each."""
        rows, whole = self.desk.records.rows, Observer(CONFIG)
        StepCounts().observe(whole, self.world.state)
        tell(whole, rows)
        for first in range(0, len(rows), 1500):
            tell(self.observer, rows[first : first + 1500])
            self.observer = Observer.restore(CONFIG, self.observer.snapshot())
        found = self.counts.observe(self.observer, self.world.state)
        assert found is not None
        assert found == StepCounts().observe(whole, self.world.state)
        return found

    def judged(self) -> list[str]:
        """Why the canary went back; empty while it has not."""
        self.world.step(self.counted(), days=1)
        return [describe(event) for event in self.world.events(e.ROLLED_BACK)]

    def split_by_rows(self, counted: Counted) -> str:
        """What the split looks like to who takes every row for a draw."""
        canary, champion = (Tally(arm.answered + arm.errors, arm.errors, arm.slow) for arm in counted.arms)
        return judge_counts(champion, canary, share=self.rollout.share)[0].state


def tell(observer, rows):
    for answers in answers_from_records(rows, small_plan()):
        observer.answered(answers)
    for (rollout, arm, version), lost in failures(rows).items():
        observer.failed(rollout, arm, version, count=lost.rows, together=lost.together, units=lost.units)


def units(counted):
    """Units that asked and that met an error, of both arms."""
    return [sum(arm.answered + arm.errors - arm.repeats[0] for arm in counted.arms),
            sum(arm.errors - arm.repeats[1] for arm in counted.arms)]  # fmt: skip


def test_a_few_users_with_many_requests_do_not_send_a_sound_canary_back():
    canary = Canary()
    draws = np.random.default_rng(1).pareto(0.8, REQUESTS) + 1
    for number, draw in enumerate(draws):
        canary.ask(f"r{number}", f"user-{int(min(draw, 1e9)) % 500}")
    counted = canary.counted()
    assert canary.split_by_rows(counted) == "stop"
    assert sum(arm.answered for arm in counted.arms) == sum(arm.together for arm in counted.arms) == REQUESTS
    assert units(counted) == [len({int(min(draw, 1e9)) % 500 for draw in draws}), 0]
    canary.world.step(counted, days=1)
    assert canary.world.events(e.ROLLED_BACK) == []
    assert canary.world.state.rollout.phase == "canary"


def test_bodies_of_many_rows_count_for_the_split_once_each():
    canary = Canary()
    for number in range(150):
        canary.ask_rows(f"b{number}", 1000 if number < 5 else 1)
    counted = canary.counted()
    assert canary.split_by_rows(counted) == "stop"
    assert sum(arm.answered for arm in counted.arms) == 5000 + 145
    assert sum(arm.answered - arm.together for arm in counted.arms) == 150
    assert units(counted) == [150, 0]
    canary.world.step(counted, days=1)
    assert canary.world.events(e.ROLLED_BACK) == []


def test_a_user_whose_every_request_fails_does_not_send_a_sound_canary_back():
    """His features raise whichever version reads them, and he falls to the canary."""
    canary = Canary()
    his = next(name for name in map("user-{}".format, range(99)) if choose(canary.route, name).name == "canary")
    for number in range(1500):
        canary.ask(f"r{number}")
        if number % 5 == 0:
            canary.ask(f"h{number}", his, shop="poison")
            canary.ask("sent again", shop="poison")
    counted = canary.counted()
    assert sum(arm.errors for arm in counted.arms) == 600
    assert units(counted) == [1502, 2]
    canary.world.step(counted, days=1)
    assert canary.world.events(e.ROLLED_BACK) == []


def test_a_canary_that_fails_a_single_user_s_every_request_goes_back():
    canary = Canary(canary_fails=True)
    his = next(name for name in map("user-{}".format, range(99)) if choose(canary.route, name).name == "canary")
    for number in range(60):
        canary.ask(f"r{number}", his)
    (why,) = canary.judged()
    assert "every request that it was asked failed, and its 60 requests are of 1 unit (" in why


def test_a_canary_that_waits_for_want_of_units_says_so_when_its_time_is_over():
    canary = Canary()
    for number in range(REQUESTS):
        canary.ask(f"r{number}", f"user-{number % 40}")
    counted = canary.counted()
    canary.world.step(counted, days=1)
    assert canary.world.events(e.STEP_PASSED) == canary.world.events(e.ROLLED_BACK) == []
    canary.world.step(counted, days=60)
    (why,) = [describe(event) for event in canary.world.events(e.ROLLED_BACK)]
    asked = sum(arm.answered for arm in counted.arms if arm.arm == "canary")
    assert "its canary did not gather enough evidence within" in why
    assert f": its {asked} requests are of " in why
    assert "only units count as evidence" in why


def test_a_step_that_passes_says_of_how_many_units_its_requests_were():
    world = in_canary()
    for _ in range(9):
        world.clock.advance_to(world.clock.now() + DAY)
        counted = world.counted()
        arms = tuple(msgspec.structs.replace(arm, repeats=(arm.answered // 9, 0, 0)) for arm in counted.arms)
        world.loop.step([world.matured(gain=0.03), Counted(arms, counted.step)])
        if passed := world.events(e.STEP_PASSED):
            evidence = passed[0].data["evidence"]
            assert evidence["units"] == evidence["answered"] - evidence["answered"] // 9
            assert f"0 errors (all requests are of {evidence['units']} units), 0 slow" in describe(passed[0])
            return
    raise AssertionError


@pytest.mark.parametrize("with_users", [False, True], ids=["alone", "among users"])
def test_a_split_that_is_wrong_is_still_found_by_the_requests_that_stand_for_themselves(with_users):
    canary = Canary(routed=0.4)
    for number in range(1500):
        canary.ask(f"r{number}", f"user-{number % 7}" if with_users and number % 3 == 0 else "")
    (why,) = canary.judged()
    assert "its share of the traffic is not what it should be" in why


@pytest.mark.parametrize("unit", ["", "user-{}"], ids=["alone", "with users"])
def test_a_canary_that_fails_goes_back_for_its_errors_whoever_its_callers_are(unit):
    canary = Canary(canary_fails=True)
    for number in range(1000):
        canary.ask(f"r{number}", unit.format(number))
    (why,) = canary.judged()
    assert "it has more errors than the champion" in why
