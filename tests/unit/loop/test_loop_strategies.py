"""Strategies that a person chooses, as the loop decides them."""

from dataclasses import replace

import pytest
from tests.unit.loop.world import POLICY, World

from trimtab.core.clock import MINUTE
from trimtab.governance import audit
from trimtab.loop import events as e
from trimtab.loop.commands import route_of
from trimtab.loop.fold import fold_all
from trimtab.loop.observations import Asked, Warmed
from trimtab.loop.sentences import describe
from trimtab.serving.routing import choose


def ask(world, kind, version="", *, id="", **data):
    asked = Asked(id or f"ask{len(world.ledger.events)}", kind, "anna", "because", version, data)
    return world.step(asked)


def arms(route):
    return {arm.name: (arm.version, arm.share) for arm in route.arms}


def two_versions(policy=POLICY):
    """A champion, and a second version that passed its floors and whose rollout a person ended."""
    world = World(policy)
    first = world.first_champion()
    second = world.challenger()
    ask(world, "rollback")
    assert world.state.rollout is None
    return world, first, second


def promoted():
    """A second champion over a first one that was good."""
    world, first, second = two_versions()
    ask(world, "deploy", second, strategy="blue-green")
    world.step(Warmed(world.state.rollout.id, 2))
    assert world.state.champion == second
    return world, first, second


# -- the kill switch


def test_a_constant_answers_until_the_switch_is_ended():
    world, first, _ = two_versions()
    events = ask(world, "kill", constant=[0.2])
    killed = next(event for event in events if event.type == e.KILLED)
    assert killed.draft.actor == "operator:anna"
    assert "anna pulled the kill switch" in describe(killed)
    assert "every answer is 0.2: because" in describe(killed)
    route = route_of(world.state)
    assert (route.constant, arms(route)) == ((0.2,), {"champion": (first, 1.0)})
    ask(world, "revive")
    assert route_of(world.state).constant == ()
    assert world.state.killed is None


def test_the_previous_version_answers():
    world, first, second = promoted()
    assert route_of(world.state).held == (first,)
    ask(world, "kill")
    assert arms(route_of(world.state)) == {"previous": (first, 1.0)}
    assert world.state.champion == second
    ask(world, "kill", id="again")
    assert arms(route_of(world.state)) == {"previous": (first, 1.0)}
    ask(world, "revive")
    assert arms(route_of(world.state)) == {"champion": (second, 1.0)}


def test_a_switch_with_nothing_to_go_back_to_is_refused():
    world = World()
    assert e.REQUEST_REFUSED in [event.type for event in ask(world, "kill", constant=[0.1])]
    assert world.state.killed is None
    world.first_champion()
    refused = ask(world, "kill")[-1]
    assert (refused.type, "answer with a constant" in describe(refused)) == (e.REQUEST_REFUSED, True)
    assert ask(world, "revive")[-1].type == e.REQUEST_REFUSED


def test_the_switch_ends_a_rollout_and_nothing_new_goes_live_behind_it():
    world = World()
    world.first_champion()
    second = world.challenger()
    ask(world, "kill", constant=[0.1])
    assert world.state.rollout is None
    for kind, data in (("deploy", {}), ("force", {}), ("deploy", {"strategy": "canary", "share": 0.1})):
        refused = ask(world, kind, second, **data)[-1]
        assert "kill switch is on" in refused.data["reason"]
    world.step(days=28)
    rejected = next(event for event in world.finish() if event.type == e.REJECTED)
    assert rejected.data["reason"] == "the kill switch is on"


def test_the_state_is_the_fold_of_the_events_and_the_auditor_sees_the_switch():
    world, first, _ = two_versions()
    ask(world, "kill", constant=[0.25])
    assert fold_all(world.state.stream, world.ledger.events) == world.state
    (live,) = audit.at(world.ledger.events, world.clock.now())
    assert live.version == first
    assert "every answer is 0.25, since" in live.killed
    assert "anna: because" in live.text()
    ask(world, "revive")
    assert audit.at(world.ledger.events, world.clock.now())[0].killed == ""


# -- blue-green


def test_green_is_loaded_before_anything_switches():
    world, first, second = two_versions()
    ask(world, "deploy", second, strategy="blue-green")
    route = route_of(world.state)
    assert arms(route) == {"champion": (first, 1.0)}
    assert second in route.held
    world.step(Warmed("another", 2))
    assert world.state.champion == first
    events = world.step(Warmed(world.state.rollout.id, 2))
    assert "loaded and warm on 2 workers" in describe(next(one for one in events if one.type == e.PROMOTED))
    after = route_of(world.state)
    assert (arms(after), after.held) == ({"champion": (second, 1.0)}, (first,))
    (live,) = audit.at(world.ledger.events, world.clock.now())
    assert live.approved_by == "anna"


def test_green_without_any_worker_is_said_to_be_so():
    world, _, second = two_versions()
    ask(world, "deploy", second, strategy="blue-green")
    events = world.step(Warmed(world.state.rollout.id, 0))
    told = describe(next(one for one in events if one.type == e.PROMOTED))
    assert "no worker runs, each loads it when it starts" in told
    assert "0 workers" not in told


def test_blue_comes_back_at_once():
    world, first, _ = promoted()
    ask(world, "rollback")
    assert arms(route_of(world.state)) == {"champion": (first, 1.0)}


@pytest.mark.parametrize("problem", ["a worker", "time"])
def test_green_that_cannot_be_loaded_is_given_up(problem):
    world, first, second = two_versions()
    ask(world, "deploy", second, strategy="blue-green")
    if problem == "time":
        world.step(days=3 * MINUTE / (24 * 60 * MINUTE))
    else:
        world.step(Warmed(world.state.rollout.id, 1, "its file is corrupt"))
    assert world.state.rollout is None
    assert route_of(world.state).held == ()
    assert arms(route_of(world.state)) == {"champion": (first, 1.0)}


# -- canary and shadow by hand


def test_a_canary_by_hand_has_the_share_that_was_asked_for_and_the_guardrails():
    world, first, second = two_versions()
    begun = ask(world, "deploy", second, strategy="canary", share=0.2)
    assert describe(begun[0]).startswith("Version 2 (")
    assert "begins as a canary beside version 1 (" in describe(begun[0])
    assert describe(begun[0]).endswith(", with 20% of the requests")
    assert arms(route_of(world.state)) == {"champion": (first, 0.8), "canary": (second, 0.2)}
    while world.state.rollout.share == 0.2:
        world.day(gain=0.02)
    assert world.state.rollout.share == 0.5  # the next larger step of the policy
    world.step(world.counted(errors=900))
    assert world.state.rollout is None
    assert world.state.champion == first


def test_a_canary_by_hand_is_promoted_by_evidence():
    world, _, second = two_versions()
    ask(world, "deploy", second, strategy="canary", share=0.3)
    for _ in range(12):
        world.day(gain=0.03)
    assert world.state.champion == second


def test_a_shadow_by_hand_ends_with_a_persons_word():
    world, _, second = two_versions()
    ask(world, "deploy", second, strategy="shadow")
    while world.state.rollout.phase == "shadow":
        world.day(gain=0.03)
    assert world.state.rollout.phase == "approval"
    ask(world, "approve")
    assert world.state.rollout.phase == "canary"


def test_a_strategy_takes_over_the_rollout_of_its_version_and_of_no_other():
    world = World()
    world.first_champion()
    second = world.challenger()
    ask(world, "deploy", second, strategy="canary", share=0.1)
    assert (world.state.rollout.version, world.state.rollout.phase) == (second, "canary")
    assert ask(world, "deploy", second, strategy="shadow")[-1].type == e.REQUEST_REFUSED


def test_floors_are_skipped_by_force_alone():
    world = World()
    world.first_champion()
    world.step(days=28)
    world.finish(metrics={"roc_auc": 0.5})
    bad = f"{world.made:02d}" * 32
    refused = ask(world, "deploy", bad, strategy="blue-green")[-1]
    assert "has not passed its floors" in refused.data["reason"]
    ask(world, "force", bad, strategy="blue-green")
    assert world.state.rollout.phase == "warming"
    assert world.events(e.FORCED)


# -- A/B tests


def test_a_test_splits_by_its_arms_and_holds_the_champion():
    world, first, second = two_versions()
    tested = [{"name": "a", "version": first, "share": 0.5}, {"name": "b", "version": second, "share": 0.5}]
    ask(world, "deploy", strategy="ab", arms=tested, unit="user")
    route = route_of(world.state)
    assert arms(route) == {"a": (first, 0.5), "b": (second, 0.5)}
    assert route.unit == "user"
    assert {choose(route, f"u{n}").name for n in range(50)} == {"a", "b"}
    (live,) = audit.at(world.ledger.events, world.clock.now())
    assert [(arm.name, arm.share) for arm in live.test] == [("a", 0.5), ("b", 0.5)]
    ask(world, "deploy", winner="b")
    assert world.state.champion == second
    assert audit.at(world.ledger.events, world.clock.now())[0].approved_by == "anna"


def test_the_champion_may_win():
    world, first, second = two_versions()
    tested = [{"name": "a", "version": first, "share": 0.5}, {"name": "b", "version": second, "share": 0.5}]
    ask(world, "deploy", strategy="ab", arms=tested)
    assert ask(world, "deploy", winner="c")[-1].type == e.REQUEST_REFUSED
    ask(world, "deploy", winner="a")
    assert (world.state.champion, world.state.rollout) == (first, None)
    assert ask(world, "deploy", winner="a")[-1].type == e.REQUEST_REFUSED


def told(events, kind):
    return describe(next(event for event in events if event.type == kind))


def test_of_a_test_it_is_said_that_it_ends_and_not_that_a_version_goes():
    world, first, second = two_versions()
    aa = [{"name": "a", "version": first, "share": 0.5}, {"name": "b", "version": first, "share": 0.5}]
    assert (
        told(ask(world, "deploy", first, strategy="ab", arms=aa), e.APPROVED) == "anna approved the A/B test: because"
    )
    champion = f"version 1 ({first[:8]}) stays the champion"
    ended = told(ask(world, "rollback"), e.ROLLED_BACK)
    assert ended == f"The A/B test is ended, {champion}: anna asked for it: because"
    ab = [{"name": "a", "version": first, "share": 0.5}, {"name": "b", "version": second, "share": 0.5}]
    begun = ask(world, "force", second, strategy="ab", arms=ab)
    assert told(begun, e.FORCED) == "anna forced past the gate the A/B test: because"
    ended = told(ask(world, "rollback"), e.ROLLED_BACK)
    assert ended.startswith(f"The A/B test with version 2 ({second[:8]}) is ended, {champion}: ")
    assert world.state.champion == first


def test_a_test_that_nobody_ends_ends_itself():
    world, first, second = two_versions(replace(POLICY))
    tested = [{"name": "x", "version": second, "share": 0.3}, {"name": "y", "version": first, "share": 0.7}]
    ask(world, "deploy", strategy="ab", arms=tested)
    world.step(days=29)
    assert (world.state.champion, world.state.rollout) == (first, None)


@pytest.mark.parametrize(
    ("tested", "why"),
    [
        ([("a", 0, 1.0)], "two arms"),
        ([("a", 0, 0.5), ("a", 1, 0.5)], "name of its own"),
        ([("a", 0, 0.5), ("shadow", 1, 0.5)], "cannot be called"),
        ([("a", 0, 0.5), ("b", 1, 0.6)], "add up to 1"),
        ([("a", 0, 1.0), ("b", 1, 0.0)], "above 0"),
    ],
)
def test_a_test_that_makes_no_sense_is_refused(tested, why):
    world, *versions = two_versions()
    made = [{"name": name, "version": versions[at], "share": share} for name, at, share in tested]
    refused = ask(world, "deploy", strategy="ab", arms=made)[-1]
    assert refused.type == e.REQUEST_REFUSED
    assert why in refused.data["reason"]
