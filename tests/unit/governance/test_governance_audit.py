"""What was live at T, who approved it, on what evidence?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.loop.world import POLICY, START, World

from trimtab.core.clock import DAY
from trimtab.core.ledger import Draft, Event
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
    (registered,) = (event for event in world.events(e.VERSION_REGISTERED) if event.data["version"] == "b" * 64)
    assert after.trained == {name: registered.data[name] for name in ("job", "dataset", "trained_until", "metrics")}
    texts = ("version 2 (bbbbbbbb)", "approved by: anna", "trained on: what", "to 1 for better", "roc_auc 0.75 (≥ 0.7)")
    for text in texts:
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


def test_a_permit_ends_with_the_rollout_it_was_given_for():
    """Ada forces a version, it is rolled back; later the gate lets it through: that is the policy's doing."""
    world = World()
    world.first_champion()
    second = world.challenger()
    world.step(world.asked("force", second, reason="urgent", actor="ada"))
    until(world, lambda w: w.state.rollout is None, gain=-0.1)
    assert world.state.champion != second
    world.step(world.asked("deploy", second, reason="again", actor="bo"))
    until(world, lambda w: w.state.champion == second, gain=0.03)
    (live,) = at(world.ledger.events, world.clock.now())
    assert (live.version, live.approved_by) == (second, "policy")
    forced = {event.id for event in world.events(e.FORCED)}
    assert not forced & set(live.events)


def test_without_a_person_the_policy_approved():
    world = World()
    world.first_champion()
    assert at(world.ledger.events, world.clock.now())[0].approved_by == "policy"


def ledger(*lines, model="late"):
    drafts = [Draft(f"e{number}", type_, data, happened=at, known=at) for number, (at, type_, data) in enumerate(lines)]
    return [Event(seq, f"model:{model}", seq, 1, draft, "", "") for seq, draft in enumerate(drafts, 1)]


def registered(at, version, number):
    facts = {"job": f"j{number}", "dataset": f"d{number}", "trained_until": at - 1, "metrics": {"roc_auc": 0.7}}
    return (at, e.VERSION_REGISTERED, facts | {"version": version, "number": number})


def promoted(at, version):
    return (at, e.PROMOTED, {"version": version, "reason": "better", "evidence": {}})


def shifted(at, version, share):
    return (at, e.TRAFFIC_SHIFTED, {"rollout": "r", "version": version, "share": share})


def rolled_back(at, version, to, of):
    return (at, e.ROLLED_BACK, {"version": version, "to": to, "of": of, "reason": "worse", "evidence": {}})


STORY = ledger(
    registered(10, "a", 1),
    promoted(12, "a"),
    (15, "SomethingElse", {"version": "unheard of"}),
    registered(20, "b", 2),
    shifted(26, "b", 0.1),
    shifted(27, "b", 0.5),
    promoted(30, "b"),
    registered(40, "c", 3),
    shifted(41, "c", 0.1),
    rolled_back(45, "c", "b", "canary"),
    shifted(46, "c", 0.3),
    rolled_back(50, "b", "a", "champion"),
)


@pytest.mark.parametrize(
    ("when", "version", "canary"),
    [
        (11, "", {}),
        (12, "a", {}),
        (25, "a", {}),
        (26, "a", {"b": 0.1}),
        (29, "a", {"b": 0.5}),
        (30, "b", {}),
        (41, "b", {"c": 0.1}),
        (45, "b", {}),
        (46, "b", {"c": 0.3}),
        (50, "a", {}),
        (10**9, "a", {}),
    ],
)
def test_what_was_live_at_any_time(when, version, canary):
    found = at(STORY, when)
    assert [live.version for live in found] == [version] * bool(version)
    for live in found:
        assert live.since <= when
        assert (live.number, live.trained["dataset"]) == {"a": (1, "d1"), "b": (2, "d2")}[version]
        assert {arm.version: arm.share for arm in [live.canary] if arm} == canary


def test_every_model_is_answered_for_by_name():
    other = ledger(registered(1, "x", 1), promoted(2, "x"), model="early")
    assert [(live.model, live.version) for live in at([*STORY, *other], 12)] == [("early", "x"), ("late", "a")]


def test_a_version_that_was_never_registered_is_still_named():
    (live,) = at(ledger(promoted(2, "y" * 64)), 2)
    assert (live.version, live.number, live.trained) == ("y" * 64, 0, {})
    assert "version ? (yyyyyyyy)" in live.text()


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
