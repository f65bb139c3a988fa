"""Whatever happens, in whatever order: what must hold of every decision."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.loop.world import POLICY, World
from trimtab.core.clock import DAY
from trimtab.core.ledger import decision_digest, verify
from trimtab.loop import events as e
from trimtab.loop.commands import route_of
from trimtab.loop.decide import decide
from trimtab.loop.declare import canary, every, when_drifts, when_new_labels, when_quality_drops
from trimtab.loop.observations import JobDone, JobLost
from trimtab.loop.sentences import describe
from trimtab.loop.state import State, fold_all

POLICIES = [
    replace(POLICY, approval=approval, steps=steps, comparison=comparison, triggers=triggers)
    for approval in ("auto", "manual")
    for steps in ((), (canary(0.1),), (canary(0.1), canary(0.5)))
    for comparison in (POLICY.comparison, None)
    for triggers in (
        (every("7d"), when_quality_drops(), when_drifts(cooldown="1d"), when_new_labels(2000, cooldown="2d")),
    )
]

gains = st.floats(-0.2, 0.2)
actions = st.one_of(
    st.tuples(st.just("days"), st.integers(1, 4), gains),
    st.tuples(st.just("days"), st.integers(1, 9), st.just(0.05)),
    st.tuples(st.just("finish"), st.sampled_from(["good", "bad", "lost", "again", "broken"])),
    st.tuples(st.just("ask"), st.sampled_from(["train", "approve", "deny", "rollback", "force"]), st.integers(0, 3)),
    st.tuples(st.just("count"), st.integers(0, 30), st.integers(0, 30), st.sampled_from([None, 0.3])),
    st.tuples(st.just("drift"), st.sampled_from(["ok", "warning", "critical", "insufficient_data"])),
    st.tuples(st.just("wait"), st.integers(0, 40)),
)


def observations(world: World, action) -> list[list[object]]:
    """What the world tells the loop, step by step, for an action."""
    kind, *rest = action
    rollout, jobs = world.state.rollout, sorted(world.state.trainings)
    versions = sorted(world.state.versions)
    match kind:
        case "finish" if jobs and rest[0] == "lost":
            return [[JobLost(jobs[0], "lost")]]
        case "finish" if jobs:
            changes = {"good": {}, "bad": {"metrics": {}}, "broken": {"trained_until": 0, "reference_level": None}}
            name = versions[0] if rest[0] == "again" and versions else None
            return [[JobDone(jobs[0], world.result(name, **changes.get(rest[0], {})))]]
        case "ask":
            version = (versions + ["unknown", ""])[rest[1] % (len(versions) + 2)]
            return [[world.asked(rest[0], version)]]
        case "count" if rollout is not None and rollout.phase == "canary":
            return [[world.counted(errors=rest[0], slow=rest[1], share=rest[2])]]
        case "drift" if world.state.champion:
            return [[world.drifted(rest[0])]]
        case _:
            return [[]]


def play(policy, script, *, check=None) -> World:
    world = World(policy)
    world.step()
    for action in script:
        if action[0] == "days":
            for _ in range(action[1]):
                world.day(gain=action[2], loss=0.46 + abs(action[2]))
        else:
            if action[0] == "wait":
                world.clock.advance_to(world.clock.now() + action[1] * DAY)
            for told in observations(world, action):
                world.loop.step(told)
        if check:
            check(world)
    return world


scripts = st.lists(actions, max_size=25).map(lambda script: [("finish", "good"), *script])
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check_route(world: World) -> None:
    state, route = world.state, route_of(world.state)
    open_reigns = [reign for reign in state.reigns if reign.until is None]
    assert len(open_reigns) <= 1, "never two champions"
    assert (route is None) == (state.champion == "")
    if route is not None:
        assert [arm.name for arm in route.arms].count("champion") == 1
        assert len({arm.version for arm in route.arms}) == len(route.arms)
        assert abs(sum(arm.share for arm in route.arms) - 1) < 1e-9
        assert all(0 <= arm.share <= 1 for arm in route.arms)
    assert len(state.trainings) <= 1


@quick
@given(policy=st.sampled_from(POLICIES), script=scripts)
def test_one_champion_and_a_whole_route_at_every_moment(policy, script):
    play(policy, script, check=check_route)


@quick
@given(policy=st.sampled_from(POLICIES), script=scripts)
def test_nothing_is_promoted_without_evidence_or_a_person_s_word(policy, script):
    world = play(policy, script)
    past: list = []
    for event in world.ledger.events:
        if event.type in (e.PROMOTED, e.TRAFFIC_SHIFTED):
            version, rollout = event.data["version"], event.data["rollout"]
            ours = [known for known in past if known.data.get("version") == version]
            forced = any(known.type == e.FORCED and known.data["rollout"] == rollout for known in ours)
            floors = any(known.type == e.FLOORS_JUDGED and known.data["passed"] for known in ours)
            assert floors or forced
            first = event.type == e.PROMOTED and not event.data["replaces"]
            if not (first or forced):
                wanted = "superior" if policy.comparison else "floors"
                verdicts = [k for k in ours if k.type == e.GATE_JUDGED and k.data["rollout"] == rollout]
                assert [known.data["verdict"] for known in verdicts] == [wanted]
                if policy.comparison:
                    assert verdicts[0].data["evidence"]["e_superior"] >= 1 / policy.alpha
            if policy.approval == "manual" and not forced:
                assert any(known.type == e.APPROVED and known.data["rollout"] == rollout for known in ours)
            if event.type == e.PROMOTED and not first:
                passed = [k for k in ours if k.type == e.STEP_PASSED and k.data["rollout"] == rollout]
                steps = policy.guarded_steps if forced else policy.steps
                assert len(passed) == len(steps), "every canary step has passed, none by time"
        past.append(event)


@quick
@given(policy=st.sampled_from(POLICIES), script=scripts)
def test_the_ledger_is_the_state_and_every_event_has_a_sentence(policy, script):
    world = play(policy, script)
    assert fold_all(world.loop.stream, world.ledger.events) == world.state
    assert verify(world.ledger.events) == len(world.ledger.events)
    assert all(describe(event) for event in world.ledger.events)


@quick
@given(policy=st.sampled_from(POLICIES), script=scripts)
def test_the_same_story_gives_the_same_digest(policy, script):
    assert decision_digest(play(policy, script).ledger.events) == decision_digest(play(policy, script).ledger.events)


@quick
@given(policy=st.sampled_from(POLICIES), script=scripts, action=actions)
def test_decide_is_pure_and_blind_to_the_order_of_mappings(policy, script, action):
    world = play(policy, script)
    told = [one for step in observations(world, action) for one in step] + [world.matured(gain=0.03)]
    state, now = world.state, world.clock.now() + DAY
    turned = replace(
        state,
        versions=dict(reversed(state.versions.items())),
        trainings=dict(reversed(state.trainings.items())),
        drift=dict(reversed(state.drift.items())),
        held=dict(reversed(state.held.items())),
    )
    once, again, other = (decide(policy, start, told, now) for start in (state, state, turned))
    assert once == again
    assert (once.drafts, once.commands) == (other.drafts, other.commands)


@quick
@given(policy=st.sampled_from(POLICIES), script=scripts, action=actions)
def test_telling_it_twice_changes_nothing(policy, script, action):
    world = play(policy, script)
    for told in observations(world, action):
        world.loop.step(told)
        before: State = world.state
        seen = [one for one in told if not (type(one).__name__ == "Asked" and one.id not in before.asked)]
        world.loop.step(seen)
        assert world.state == before


@quick
@given(policy=st.sampled_from(POLICIES), script=scripts)
def test_the_budget_is_never_exceeded(policy, script):
    cutoffs = play(policy, script).state.cutoffs
    for index, cutoff in enumerate(cutoffs):
        inside = [other for other in cutoffs[: index + 1] if cutoff - other < policy.budget.period]
        assert len(inside) <= policy.budget.runs


def test_scripts_reach_what_they_are_about():
    """The properties above would hold of a loop that does nothing: this one does something."""
    script = [("finish", "good"), ("days", 9, 0.0), ("finish", "good"), ("days", 9, 0.05), ("days", 9, 0.05)]
    world = play(POLICIES[4], script)
    assert len(world.events(e.PROMOTED)) == 2
    assert len(world.events(e.STEP_PASSED)) == len(world.policy.steps)
