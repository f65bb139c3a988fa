"""Whole stories: what the loop decides, and that it says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.loop.world import POLICY, START, World

from trimtab.core.clock import DAY
from trimtab.core.ledger import decision_digest, verify
from trimtab.loop import events as e
from trimtab.loop.commands import ApplyRoute, Notify, route_of
from trimtab.loop.fold import fold_all
from trimtab.loop.observations import JobDone, JobLost
from trimtab.loop.sentences import describe


def until(world: World, done, *, gain: float, most: int = 60) -> int:
    for days in range(1, most + 1):
        world.day(gain=gain)
        if done(world):
            return days
    raise AssertionError([describe(event) for event in world.ledger.events[-8:]])


def test_first_version_that_passes_its_floors_is_promoted_at_once():
    world = World()
    world.step()
    assert world.types() == [e.MODEL_DECLARED, e.TRIGGER_FIRED, e.TRAINING_REQUESTED]
    (train,) = world.trainings()
    assert (train.model, train.cutoff, train.champion) == ("late", START, "")
    world.finish("a" * 64)
    assert world.state.champion == "a" * 64
    (route,) = [command for command in world.commands if isinstance(command, ApplyRoute)]
    assert [(arm.name, arm.version, arm.share) for arm in route.route.arms] == [("champion", "a" * 64, 1.0)]
    assert route.generation == world.state.route > 0


def test_failed_floors_say_which_and_nothing_is_deployed():
    world = World()
    world.step()
    world.finish(metrics={"roc_auc": 0.69})
    assert world.state.champion == ""
    assert "breaks ≥ 0.7" in describe(world.events(e.FLOORS_JUDGED)[0])
    assert "it fails roc_auc" in describe(world.events(e.REJECTED)[0])


@pytest.mark.parametrize("metrics", [{}, {"roc_auc": float("nan")}, {"roc_auc": None}])
def test_a_floor_that_was_not_measured_is_not_passed(metrics):
    world = World()
    world.step()
    world.finish(metrics=metrics)
    assert world.state.champion == ""


def test_better_challenger_goes_through_shadow_and_canaries_on_evidence():
    world = World()
    old = world.first_champion()
    new = world.challenger()
    assert [(arm.name, arm.share) for arm in route_of(world.state).arms] == [("champion", 1.0), ("shadow", 0.0)]
    until(world, lambda w: w.state.rollout.phase == "canary", gain=0.02)
    assert [(arm.name, arm.share) for arm in route_of(world.state).arms] == [("champion", 0.9), ("canary", 0.1)]
    until(world, lambda w: w.state.rollout is None, gain=0.02)
    assert world.state.champion == new
    assert [event.data["share"] for event in world.events(e.TRAFFIC_SHIFTED)] == [0.1, 0.5]
    promoted = world.events(e.PROMOTED)[-1]
    assert promoted.data["replaces"] == old
    assert promoted.data["evidence"]["e_superior"] >= 10
    assert "passed all 2 canary steps" in describe(promoted)


def test_worse_challenger_is_rejected_and_never_answers():
    world = World()
    old = world.first_champion()
    world.challenger()
    until(world, lambda w: w.state.rollout is None, gain=-0.02)
    assert world.state.champion == old
    assert not world.events(e.TRAFFIC_SHIFTED)
    assert world.events(e.GATE_JUDGED)[0].data["verdict"] == "inferior"


def test_equal_challenger_expires_and_is_rejected_never_promoted_by_silence():
    world = World()
    old = world.first_champion()
    world.challenger()
    days = until(world, lambda w: w.state.rollout is None, gain=0.0)
    assert days == 28
    assert world.events(e.GATE_JUDGED)[0].data["verdict"] == "expired"
    assert world.state.champion == old


def test_no_day_counts_that_the_challenger_could_have_learned_from():
    world = World()
    world.first_champion()
    world.challenger()
    learned = world.state.versions[world.state.rollout.version].trained_until
    for back in (3, 2, 1, 0):
        sneaked = world.matured(gain=0.5, back=back)
        assert sneaked.day <= learned
        world.step(sneaked)
    assert not world.events(e.GATE_PROGRESSED)
    assert world.state.rollout.evidence.rows == 0
    until(world, lambda w: w.events(e.GATE_PROGRESSED), gain=0.5)
    assert all(event.data["day"] > learned for event in world.events(e.GATE_PROGRESSED))


@pytest.mark.parametrize("change", [{"rollout": "other"}, {"champion": "other"}, {"challenger": "other"}])
def test_blocks_of_other_pairs_are_no_evidence(change):
    world = World()
    world.first_champion()
    world.challenger()
    world.clock.advance_to(world.clock.now() + 5 * DAY)
    world.step(world.matured(gain=0.5, **change))
    assert not world.events(e.GATE_PROGRESSED)


def test_small_days_are_merged_and_bad_numbers_left_out():
    world = World()
    world.first_champion()
    world.challenger()
    for rows, days in ((60, 0), (60, 1), (60, 1)):
        world.clock.advance_to(world.clock.now() + 5 * DAY)
        world.step(world.matured(gain=0.01, rows=rows))
        assert world.state.rollout.evidence.days == days
    world.clock.advance_to(world.clock.now() + DAY)
    world.step(world.matured(gain=float("nan")))
    assert world.state.rollout.evidence.rows == 120


def test_manual_approval_waits_and_names_the_person():
    world = World(replace(POLICY, approval="manual"))
    world.step()
    world.finish()
    assert world.state.champion == ""
    assert route_of(world.state) is None
    world.step(world.asked("approve", reason="looks right"))
    first = world.state.champion
    assert first
    world.challenger()
    until(world, lambda w: w.state.rollout.phase == "approval", gain=0.03)
    for _ in range(5):
        world.day(gain=0.03)
    assert world.state.rollout.phase == "approval"
    assert any(isinstance(c, Notify) and c.kind == e.APPROVAL_REQUESTED for c in world.commands)
    world.step(world.asked("approve", reason="seen the report"))
    assert world.state.rollout.phase == "canary"
    approved = world.events(e.APPROVED)[-1]
    assert (approved.data["by"], approved.draft.actor) == ("anna", "operator:anna")


def test_denied_is_rejected():
    world = World(replace(POLICY, approval="manual"))
    world.step()
    world.finish()
    world.step(world.asked("deny", reason="too early"))
    assert world.state.rollout is None
    assert "anna denied it: too early" in describe(world.events(e.REJECTED)[0])


def test_approval_that_nobody_gives_expires():
    world = World(replace(POLICY, approval="manual"))
    world.step()
    world.finish()
    world.step(days=28)
    assert world.state.champion == ""
    assert "nobody approved it" in describe(world.events(e.REJECTED)[0])


def test_requests_are_taken_once_and_refused_with_a_reason():
    world = World()
    world.first_champion()
    ask = world.asked("approve", id="a1")
    world.step(ask)
    world.step(ask)
    (refused,) = world.events(e.REQUEST_REFUSED)
    assert "no version waits for approval" in describe(refused)


def test_forced_bad_challenger_is_rolled_back_by_evidence():
    world = World()
    old = world.first_champion()
    world.step(days=28)
    world.finish(metrics={"roc_auc": 0.5})
    bad = world.events(e.REJECTED)[0].data["version"]
    world.step(world.asked("force", bad, reason="the board wants it"))
    assert world.state.rollout.phase == "canary"
    assert world.state.rollout.forced
    days = until(world, lambda w: w.state.rollout is None, gain=-0.1)
    assert world.state.champion == old
    rolled = world.events(e.ROLLED_BACK)[0]
    assert "predicts worse" in describe(rolled)
    assert rolled.data["evidence"]["e_harm"] > 60
    assert days <= 10


def test_forced_equal_challenger_is_not_promoted_by_time_but_by_evidence():
    world = World()
    world.first_champion()
    new = world.challenger()
    world.step(world.asked("force", new))
    until(world, lambda w: w.state.rollout is None, gain=0.0)
    assert world.state.champion == new
    assert world.events(e.PROMOTED)[-1].data["evidence"]["e_noninferior"] >= 10


def test_errors_of_the_canary_roll_it_back_at_once():
    world = World()
    old = world.first_champion()
    world.challenger()
    until(world, lambda w: w.state.rollout.phase == "canary", gain=0.03)
    world.clock.advance_to(world.clock.now() + DAY)
    world.step(world.counted(errors=8))
    assert world.state.champion == old
    assert "more errors" in describe(world.events(e.ROLLED_BACK)[0])


def test_a_wrong_traffic_split_stops_the_canary():
    world = World()
    world.first_champion()
    world.challenger()
    until(world, lambda w: w.state.rollout.phase == "canary", gain=0.03)
    world.clock.advance_to(world.clock.now() + DAY)
    world.step(world.counted(share=0.15))
    assert "share of the traffic" in describe(world.events(e.ROLLED_BACK)[0])


def test_counts_of_a_step_that_is_over_are_ignored():
    world = World()
    world.first_champion()
    world.challenger()
    until(world, lambda w: w.state.rollout.phase == "canary", gain=0.03)
    world.clock.advance_to(world.clock.now() + 3 * DAY)
    stale = world.counted()
    until(world, lambda w: w.state.rollout.step == 1, gain=0.03)
    assert world.step(stale, days=1) == []


def test_a_canary_without_matured_days_waits_then_goes_back():
    world = World()
    old = world.first_champion()
    world.challenger()
    until(world, lambda w: w.state.rollout.phase == "canary", gain=0.03)
    for _ in range(27):
        world.step(world.counted(), days=1)
        assert world.state.rollout.step == 0
    world.step(world.counted(), days=1)
    assert world.state.champion == old
    assert "did not gather enough evidence" in describe(world.events(e.ROLLED_BACK)[0])


def test_rollback_by_a_person_goes_to_the_last_stable_champion():
    world = World()
    first = world.first_champion()
    second = world.challenger()
    until(world, lambda w: w.state.champion == second, gain=0.03)
    world.step(world.asked("rollback", reason="complaints"))
    assert world.state.champion == first
    world.step(world.asked("rollback"))
    assert world.state.champion == first
    assert "no earlier champion" in describe(world.events(e.REQUEST_REFUSED)[0])


def test_rollback_in_a_canary_takes_the_challenger_out():
    world = World()
    first = world.first_champion()
    world.challenger()
    until(world, lambda w: w.state.rollout.phase == "canary", gain=0.03)
    world.step(world.asked("rollback"))
    assert world.state.rollout is None
    assert world.state.champion == first


def test_rollback_in_the_shadow_ends_the_rollout_and_spares_the_champion():
    world = World()
    world.first_champion()
    champion = world.challenger()
    until(world, lambda w: w.state.champion == champion, gain=0.03)
    world.step(days=29)
    challenger = world.challenger()
    assert world.state.rollout.phase == "shadow"
    world.step(world.asked("rollback", reason="wrong data"))
    assert world.state.rollout is None
    assert world.state.champion == champion
    rejected = world.events(e.REJECTED)[-1]
    assert rejected.data["version"] == challenger
    assert "wrong data" in rejected.data["reason"]
    assert rejected.draft.actor.startswith("operator:")
    assert rejected.data["asked"]
    assert not world.events(e.ROLLED_BACK)


def test_rollback_of_a_version_that_waits_for_approval_rejects_it():
    world = World(replace(POLICY, approval="manual"))
    world.challenger()
    waiting = world.state.rollout
    assert waiting.phase == "approval"
    world.step(world.asked("rollback", reason="not this one", version=waiting.version))
    assert world.state.rollout is None
    assert "not this one" in describe(world.events(e.REJECTED)[-1])


def test_without_a_comparison_the_floors_decide_and_the_canary_still_guards():
    world = World(replace(POLICY, comparison=None))
    world.first_champion()
    world.challenger()
    assert world.state.rollout.phase == "canary"
    until(world, lambda w: w.state.rollout is None, gain=0.0)
    assert world.events(e.PROMOTED)[-1].data["evidence"]["e_noninferior"] >= 10


def test_a_lost_job_is_retried_after_a_day_not_after_a_month():
    world = World()
    world.first_champion()
    world.step(days=28)
    job = next(iter(world.state.trainings))
    world.step(JobLost(job, "killed"))
    assert not world.state.trainings
    world.step(days=0.5)
    assert not world.state.trainings
    world.step(days=0.6)
    assert world.state.trainings


def test_a_result_is_taken_once_and_only_from_a_job_under_way():
    world = World()
    world.step()
    job = next(iter(world.state.trainings))
    done = JobDone(job, world.result("a" * 64))
    world.step(done)
    count = len(world.ledger.events)
    world.step(done, JobDone("unknown", world.result()))
    assert len(world.ledger.events) == count


def test_a_result_without_a_version_is_a_failure():
    world = World()
    world.step()
    world.step(JobDone(next(iter(world.state.trainings)), {"metrics": {}}))
    assert "no version and no trained_until" in describe(world.events(e.TRAINING_FAILED)[0])


def test_the_same_model_again_starts_no_rollout():
    world = World()
    champion = world.first_champion()
    world.step(days=28)
    world.finish(champion)
    assert world.state.rollout is None
    assert "nothing to roll out" in describe(world.events(e.TRAINING_REPEATED)[0])


def test_every_event_has_a_sentence_and_the_ledger_folds_to_the_state_carried():
    world = World(replace(POLICY, approval="manual"))
    world.step()
    world.finish()
    world.step(world.asked("approve"))
    world.challenger()
    until(world, lambda w: w.state.rollout.phase == "approval", gain=0.03)
    world.step(world.asked("approve"))
    until(world, lambda w: w.state.rollout is None, gain=0.03)
    for event in world.ledger.events:
        sentence = describe(event)
        assert len(sentence) > 10
        assert "unknown" not in sentence
    assert fold_all(world.loop.stream, world.ledger.events) == world.state
    assert verify(world.ledger.events) == len(world.ledger.events)
    assert len(decision_digest(world.ledger.events)) == 64
    assert world.state.notices == ()


def test_what_else_a_job_says_is_kept_and_may_hold_no_nan():
    world = World()
    world.step()
    world.finish(champion_metrics={"roc_auc": float("nan")}, libraries={"numpy": "2"})
    assert world.events(e.TRAINING_FINISHED)[0].data["other"] == {
        "champion_metrics": {"roc_auc": None},
        "libraries": {"numpy": "2"},
    }
