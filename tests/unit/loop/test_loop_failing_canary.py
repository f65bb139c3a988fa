"""What a real observer counts of a failing canary is what the guardrails judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.loop.world import World

from trimtab.core.clock import DAY
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.loop import events as e
from trimtab.loop.counting import StepCounts
from trimtab.loop.sentences import describe
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.serving.answers import Answers

CONFIG = ObserverConfig("late", "binary", "log_loss", matures=2 * DAY)


def in_canary() -> World:
    world = World()
    world.first_champion()
    world.challenger()
    for _ in range(60):
        world.day(gain=0.03)
        if world.state.rollout.phase == "canary":
            return world
    raise AssertionError


def given(world: World, arm: str, *, rows: int, prefix: str = "", outputs=0.5, error: str = "") -> Answers:
    rollout = world.state.rollout
    version = rollout.champion if arm == "champion" else rollout.version
    at = np.full(rows, world.clock.now(), np.int64)
    said = np.full(rows, np.nan if error else outputs)
    features = FeatureBatch(np.zeros((rows, 0 if error else 2), np.float32), np.zeros((rows, 0), np.float32), {}, ())
    requests = RequestBatch([f"{prefix}{arm}{row}" for row in range(rows)], at, {}, {})
    return Answers(requests, features, version, arm, rollout.id, said, (0,) * 6, error)


def test_a_canary_that_fails_every_request_goes_back_for_its_errors():
    world, observer, counts = in_canary(), Observer(CONFIG), StepCounts()
    champion, rollout = world.state.champion, world.state.rollout
    counts.observe(observer, world.state)
    observer.answered(given(world, "champion", rows=4500))
    observer.failed(rollout.id, "canary", rollout.version, count=500)
    world.step(counts.observe(observer, world.state), days=1)
    (rolled,) = world.events(e.ROLLED_BACK)
    assert world.state.champion == champion
    assert "it has more errors than the champion" in describe(rolled)
    assert (rolled.data["evidence"]["answered"], rolled.data["evidence"]["errors"]) == (0, 500)


def test_failures_in_the_shadow_are_not_the_answering_arms():
    """The champion scores the canary's requests in the shadow; failing there must not hide what it answered."""
    world, observer = in_canary(), Observer(CONFIG)
    rollout = world.state.rollout
    observer.answered(given(world, "champion", rows=4500))
    observer.answered(given(world, "canary", rows=500))
    observer.failed(rollout.id, "shadow", rollout.champion, count=500)
    observer.answered(given(world, "canary", rows=20, prefix="n", outputs=np.nan))
    observer.answered(given(world, "canary", rows=10, prefix="e", error="ValueError"))
    assert [(arm.arm, arm.answered, arm.errors) for arm in observer.arms(rollout.id)] == [
        ("canary", 500, 30),
        ("champion", 4500, 0),
    ]


@pytest.mark.parametrize("observed_before", [True, False], ids=["in the step", "as it began"])
def test_a_restart_in_the_middle_of_a_step_forgets_no_error(observed_before):
    """The control process dies; workers go on answering, and failing; the next one counts all of the step."""
    world, observer = in_canary(), Observer(CONFIG)
    champion, rollout = world.state.champion, world.state.rollout
    observer.answered(given(world, "champion", rows=800, prefix="shadow phase "))
    if observed_before:
        StepCounts().observe(observer, world.state)
    snapshot = observer.snapshot()
    if observed_before:
        observer.answered(given(world, "champion", rows=450, prefix="lost "))  # read again from the records below

    restored, counts = Observer.restore(CONFIG, snapshot), StepCounts()
    if observed_before:
        restored.answered(given(world, "champion", rows=450, prefix="lost "))
    restored.answered(given(world, "champion", rows=4050 if observed_before else 4500))
    restored.failed(rollout.id, "canary", rollout.version, count=500)
    counted = counts.observe(restored, world.state)
    assert [(arm.arm, arm.answered, arm.errors) for arm in counted.arms] == [("canary", 0, 500), ("champion", 4500, 0)]
    world.restart()
    world.step(counted, days=1)
    assert world.state.champion == champion
    assert "more errors" in describe(world.events(e.ROLLED_BACK)[0])


def test_a_step_that_begins_after_a_restart_does_not_count_what_came_before_it():
    world, counts = in_canary(), StepCounts()
    shadow = replace(world.state, rollout=replace(world.state.rollout, phase="shadow"))
    observer = Observer.restore(CONFIG, Observer(CONFIG).snapshot())
    assert counts.observe(observer, shadow) is None
    observer.answered(given(world, "champion", rows=9000))
    assert [arm.answered for arm in counts.observe(observer, world.state).arms] == [0]


def test_each_step_counts_from_where_it_began():
    world, observer, counts = in_canary(), Observer(CONFIG), StepCounts()
    rollout = world.state.rollout
    counts.observe(observer, world.state)
    observer.answered(given(world, "canary", rows=30, error="ValueError"))
    assert observer.step_arms(rollout.id, 0)[0].errors == 30
    assert observer.step_arms(rollout.id, 1)[0].errors == 0
    restored = Observer.restore(CONFIG, observer.snapshot())
    observer.failed(rollout.id, "canary", rollout.version)
    restored.failed(rollout.id, "canary", rollout.version)
    assert restored.step_arms(rollout.id, 1) == observer.step_arms(rollout.id, 1)
    assert observer.step_arms(rollout.id, 1)[0].errors == 1
