"""Floors that a wall clock judges decide live, and only report in a replay."""

from __future__ import annotations

import pytest
from tests.unit.loop.world import World

from trimtab.core.ledger import decision_digest
from trimtab.loop import events as e
from trimtab.loop.engine import Loop
from trimtab.loop.sentences import describe

VERSION = "a" * 64


def trained(p99_ms, *, replay: bool) -> World:
    world = World()
    world.loop = Loop(
        world.ledger,
        world.policy,
        epoch=1,
        clock=world.clock,
        execute=world.commands.append,
        measured_decide=not replay,
    )
    world.step()
    world.finish(VERSION, p99_ms=p99_ms)
    return world


@pytest.mark.parametrize("p99_ms", [900.0, None])
def test_a_slow_machine_refuses_live_and_only_reports_in_a_replay(p99_ms):
    assert trained(p99_ms, replay=False).state.champion == ""
    replayed = trained(p99_ms, replay=True)
    assert replayed.state.champion == VERSION
    (judged,) = replayed.events(e.FLOORS_JUDGED)
    assert judged.data["measured_values"] == {"latency_p99_ms": p99_ms}
    shown = "not measured" if p99_ms is None else "900"
    assert f"latency_p99_ms {shown} (only reported) ≤ 50" in describe(judged)


def test_the_digest_of_a_replay_does_not_depend_on_the_machine():
    fast, slow = trained(0.2, replay=True), trained(900.0, replay=True)
    assert decision_digest(fast.ledger.events) == decision_digest(slow.ledger.events)
    assert decision_digest(fast.ledger.events) == decision_digest(trained(0.2, replay=False).ledger.events)


def test_other_floors_decide_in_a_replay_too():
    world = trained(0.2, replay=True)
    champion = world.state.champion
    world.step(days=28)
    world.finish("b" * 64, metrics={"roc_auc": 0.5})
    assert world.state.champion == champion
    assert not world.events(e.FLOORS_JUDGED)[-1].data["passed"]
