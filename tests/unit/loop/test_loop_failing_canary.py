"""What a real observer counts of a failing canary is what the guardrails judge."""

from __future__ import annotations

import numpy as np
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
