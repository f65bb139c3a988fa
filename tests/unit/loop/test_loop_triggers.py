"""Triggers: what fires, what holds back, and what is said about it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.loop.world import POLICY, START, World

from trimtab.core.clock import DAY
from trimtab.loop import events as e
from trimtab.loop.declare import Budget, every, when_drifts, when_new_labels, when_quality_drops
from trimtab.loop.quality import weekly_limit
from trimtab.loop.sentences import describe
from trimtab.loop.state import Drift, JudgedWeek, Reign, State
from trimtab.loop.triggers import should_retrain


def state(**changes) -> State:
    base = State("model:late", policy=POLICY.digest, reigns=(Reign("a", START),), cutoffs=(START,), learned=START)
    return replace(base, **changes)


def test_dry_run_says_no_retraining_needed():
    answer = should_retrain(POLICY, state(), START + DAY)
    assert (answer.fire, answer.reason) == (False, "no retraining needed")


def test_time_fires_at_its_period_and_not_before():
    assert not should_retrain(POLICY, state(), START + 28 * DAY - 1).fire
    answer = should_retrain(POLICY, state(), START + 28 * DAY)
    assert (answer.fire, answer.trigger) == (True, "time")


def test_quality_fires_on_a_drop_unless_the_training_knew_that_week():
    drop = JudgedWeek(START + 10 * DAY, 0.55, 0.5, "drop")
    answer = should_retrain(POLICY, state(weeks=(drop,)), START + 20 * DAY)
    assert (answer.fire, answer.trigger) == (True, "quality")
    known = replace(state(weeks=(drop,)), learned=START + 17 * DAY)
    assert not should_retrain(POLICY, known, START + 40 * DAY).fire
    ok = JudgedWeek(START + 17 * DAY, 0.45, 0.5, "ok")
    assert not should_retrain(POLICY, state(weeks=(drop, ok)), START + 26 * DAY).fire


@pytest.mark.parametrize(
    ("drift", "fires"),
    [
        (Drift("critical", START, confirmed=True), True),
        (Drift("critical", START), False),
        (Drift("warning", START, confirmed=True), False),
    ],
)
def test_drift_fires_only_when_critical_and_confirmed(drift, fires):
    assert should_retrain(POLICY, state(drift={"prediction": drift}), START + 20 * DAY).fire is fires
    assert not should_retrain(POLICY, state(drift={"dist": drift}), START + 20 * DAY).fire


def test_volume_fires_at_its_count():
    assert not should_retrain(POLICY, state(labels=99_999), START + 8 * DAY).fire
    assert should_retrain(POLICY, state(labels=100_000), START + 8 * DAY).trigger == "volume"


def test_triggers_are_tried_in_the_declared_order():
    both = state(labels=200_000, drift={"prediction": Drift("critical", START, confirmed=True)})
    forward = replace(POLICY, triggers=(when_drifts(), when_new_labels(100_000)))
    backward = replace(POLICY, triggers=(when_new_labels(100_000), when_drifts()))
    assert should_retrain(forward, both, START + 20 * DAY).trigger == "drift"
    assert should_retrain(backward, both, START + 20 * DAY).trigger == "volume"
    assert should_retrain(forward, both, START + 10 * DAY).trigger == "volume", "drift is still cooling down"


def test_a_held_trigger_says_why_once():
    policy = replace(POLICY, triggers=(when_new_labels(100, cooldown="7d"),))
    world = World(policy)
    world.first_champion()
    for _ in range(4):
        world.day()
    (held,) = world.events(e.TRIGGER_HELD)
    assert held.data["because"] == "cooldown"
    assert "cooldown 7d" in describe(held)


def test_a_rollout_under_way_holds_triggers_back_as_busy():
    world = World(replace(POLICY, triggers=(when_new_labels(100, cooldown="1d"),)))
    world.first_champion()
    while not world.state.trainings:
        world.day()
    world.finish()
    for _ in range(6):
        world.day()
    held = [event for event in world.events(e.TRIGGER_HELD) if event.data["because"] == "busy"]
    assert len(held) == 1
    assert "a rollout is under way (shadow)" in describe(held[0])


def test_the_budget_bounds_trainings_whatever_triggers_say_and_a_person_too():
    world = World(replace(POLICY, triggers=(when_new_labels(1, cooldown="1d"),), budget=Budget(3, 28 * DAY)))
    world.first_champion()
    for _ in range(27):
        world.day()
        if world.state.trainings:
            world.finish(metrics={"roc_auc": 0.1})
    assert len(world.events(e.TRAINING_REQUESTED)) == 3
    spent = [event for event in world.events(e.TRIGGER_HELD) if event.data["because"] == "budget"]
    assert len(spent) == 1
    assert "until 2013-04-01" in describe(spent[0])
    world.step(world.asked("train"))
    assert "budget" in describe(world.events(e.REQUEST_REFUSED)[0])
    world.day()
    assert world.state.trainings, "the first run has left the period"


def test_a_person_need_not_wait_for_a_cooldown():
    world = World()
    world.first_champion()
    world.step(world.asked("train", reason="new data source"), days=1)
    fired = world.events(e.TRIGGER_FIRED)[-1]
    assert (fired.data["trigger"], fired.draft.actor) == ("manual", "operator:anna")
    assert "anna asked for it: new data source" in describe(fired)


def test_without_triggers_nothing_is_trained_until_asked():
    world = World(replace(POLICY, triggers=()))
    world.step()
    assert not world.trainings()
    world.step(world.asked("train"))
    assert world.trainings()


def test_a_first_version_that_fails_is_tried_again_with_growing_patience():
    world = World(replace(POLICY, triggers=(every("28d"),)))
    days = []
    for day in range(30):
        world.step(days=1 if day else 0)
        if world.state.trainings:
            days.append(day)
            world.finish(metrics={"roc_auc": 0.1})
    assert days[:4] == [0, 1, 3, 7]
    assert len(days) <= 5


def test_drift_needs_two_critical_windows_a_day_apart_of_the_champion():
    world = World(replace(POLICY, triggers=(when_drifts(cooldown="1d"),)))
    world.first_champion()
    world.step(world.drifted("critical", version="other"), days=5)
    assert not world.events(e.DRIFT_CHANGED)
    world.step(world.drifted("critical", feature="warning"))
    assert [event.data["feature"] for event in world.events(e.DRIFT_CHANGED)] == ["dist", "prediction"]
    world.step(days=0.9)
    world.step(world.drifted("critical", feature="insufficient_data"))
    assert not world.events(e.DRIFT_CONFIRMED)
    world.step(days=0.2)
    world.step(world.drifted("critical", feature="warning"))
    assert world.events(e.DRIFT_CONFIRMED)
    assert world.events(e.TRIGGER_FIRED)[-1].data["trigger"] == "drift"
    assert len(world.events(e.DRIFT_CHANGED)) == 2, "only changes are recorded"


def test_one_odd_window_is_no_drift():
    world = World(replace(POLICY, triggers=(when_drifts(cooldown="1d"),)))
    world.first_champion()
    for severity in ("critical", "ok", "critical", "warning", "critical"):
        world.step(days=1)
        world.step(world.drifted(severity))
    assert not world.events(e.DRIFT_CONFIRMED)


def test_a_week_above_the_limit_is_a_drop_and_retrains():
    world = World(replace(POLICY, triggers=(when_quality_drops(cooldown="1d"),)))
    world.first_champion()
    for _ in range(18):
        world.day(loss=0.46)
    assert [event.data["verdict"] for event in world.events(e.QUALITY_JUDGED)] == ["ok", "ok"]
    for _ in range(14):
        world.day(loss=0.6)
    assert world.events(e.QUALITY_JUDGED)[-1].data["verdict"] == "drop"
    assert world.events(e.TRIGGER_FIRED)[-1].data["trigger"] == "quality"


@pytest.mark.parametrize(
    ("triggers", "alpha", "said"),
    [((when_quality_drops(alpha=0.001),), 0.001, "0.1%"), ((every("90d"),), 0.01, "1%")],
)
def test_a_judged_week_says_at_which_chance_of_a_false_alarm_its_limit_was_drawn(triggers, alpha, said):
    world = World(replace(POLICY, triggers=triggers))
    world.first_champion()
    for _ in range(10):
        world.day(loss=0.46)
    [week] = world.events(e.QUALITY_JUDGED)
    assert (week.data["alpha"], week.draft.version) == (alpha, 2)
    assert f"(chance of a false alarm {said}, " in describe(week)


def test_a_matured_day_is_taken_once():
    world = World()
    world.first_champion()
    world.clock.advance_to(START + 5 * DAY)
    day = world.matured()
    world.step(day)
    assert world.step(day) == []


def test_weekly_limit_needs_a_reference():
    assert weekly_limit([0.4, 0.5, 0.4], [0.45], alpha=0.01) is None
    assert weekly_limit([0.4, 0.5, 0.4, 0.5], [], alpha=0.01) is None
