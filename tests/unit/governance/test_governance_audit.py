"""What was live at T, who approved it, on what evidence?"""

from __future__ import annotations

from dataclasses import replace

from tests.unit.loop.world import POLICY, START, World
from trimtab.core.clock import DAY
from trimtab.governance.audit import at, timeline
from trimtab.loop import events as e
from trimtab.loop.sentences import QUIET, describe


def until(world: World, done, *, gain: float) -> None:
    for _ in range(60):
        world.day(gain=gain)
        if done(world):
            return
    raise AssertionError


def test_nothing_is_live_before_the_first_promotion():
    world = World()
    world.first_champion()
    assert at(world.ledger.events, START - 1) == ()


def test_the_past_is_answered_as_it_was():
    world = World(replace(POLICY, approval="manual"))
    world.step()
    world.finish("a" * 64)
    world.step(world.asked("approve", reason="first one", actor="bo"))
    world.challenger(version="b" * 64)
    until(world, lambda w: w.state.rollout.phase == "approval", gain=0.03)
    world.step(world.asked("approve", reason="report read"), days=0.5)
    canary_since = world.clock.now()
    until(world, lambda w: w.state.champion == "b" * 64, gain=0.03)
    promoted = world.events(e.PROMOTED)[-1]

    (before,) = at(world.ledger.events, canary_since - 1)
    assert (before.version, before.number, before.approved_by, before.canary) == ("a" * 64, 1, "bo", None)
    (during,) = at(world.ledger.events, canary_since)
    assert (during.version, during.canary.version, during.canary.share) == ("a" * 64, "b" * 64, 0.1)
    (after,) = at(world.ledger.events, promoted.known)
    assert (after.version, after.number, after.approved_by, after.canary) == ("b" * 64, 2, "anna", None)
    assert after.evidence["e_superior"] > 10
    assert after.evidence["floors"]["checks"][0]["value"] == 0.75
    assert after.policy == world.policy.digest
    ids = {event.id: event.type for event in world.ledger.events}
    assert [ids[found] for found in after.events] == [e.FLOORS_JUDGED, e.APPROVED, e.PROMOTED]
    for text in ("version 2 (bbbbbbbb)", "approved by: anna", "to 1 for better", "roc_auc 0.75 (≥ 0.7)"):
        assert text in after.text()
    assert "canary: version 2" in during.text()


def test_a_forced_version_and_a_rollback_name_the_person():
    world = World()
    first = world.first_champion()
    second = world.challenger()
    world.step(world.asked("force", second, reason="urgent", actor="cy"))
    until(world, lambda w: w.state.rollout is None, gain=0.03)
    assert at(world.ledger.events, world.clock.now())[0].approved_by == "cy"
    world.step(world.asked("rollback", reason="complaints", actor="dee"), days=1)
    (live,) = at(world.ledger.events, world.clock.now())
    assert (live.version, live.approved_by) == (first, "dee")
    assert "dee asked for it: complaints" in live.text()


def test_without_a_person_the_policy_approved():
    world = World()
    world.first_champion()
    assert at(world.ledger.events, world.clock.now())[0].approved_by == "policy"


def test_timeline_is_in_order_and_can_be_short():
    world = World()
    world.first_champion()
    world.clock.advance_to(START + 5 * DAY)
    world.step(world.matured())
    full = timeline(world.ledger.events, describe)
    short = timeline(world.ledger.events, describe, without=QUIET)
    assert len(full) == len(world.ledger.events) > len(short)
    assert [when for when, _ in full] == sorted(when for when, _ in full)


def test_the_audit_knows_events_by_the_names_the_loop_gives_them():
    names = {
        e.MODEL_DECLARED: "ModelDeclared",
        e.VERSION_REGISTERED: "VersionRegistered",
        e.FLOORS_JUDGED: "FloorsJudged",
        e.APPROVED: "Approved",
        e.FORCED: "Forced",
        e.TRAFFIC_SHIFTED: "TrafficShifted",
        e.PROMOTED: "Promoted",
        e.ROLLED_BACK: "RolledBack",
    }
    assert all(name == text and name in e.SHAPES for name, text in names.items())
