"""A version that was made elsewhere: recorded, judged on its floors, rolled out when asked."""

from dataclasses import replace
from typing import get_args, get_type_hints

from tests.unit.loop.world import World

from trimtab.loop import events as e
from trimtab.loop.observations import Asked
from trimtab.loop.sentences import describe

V = "e" * 64
VERBS = {
    "train": "train",
    "approve": "approve",
    "deny": "deny",
    "deploy": "deploy",
    "rollback": "roll back",
    "force": "force a version past the gate",
    "kill": "throw the kill switch",
    "revive": "end the kill switch",
    "variant": "register a variant",
    "register": "register a version",
}
FACTS = {
    "metrics": {"roc_auc": 0.75, "log_loss": 0.5},
    "rows": 900,
    "trained_until": 5,
    "size_bytes": 1000,
    "reference_weeks": [0.5, 0.51],
    "reference_level": 0.5,
    "p99_ms": 0.3,
}


def bring(world, **changes):
    return world.step(replace(world.asked("register", V, reason="made by hand"), data={"facts": FACTS | changes}))


def test_it_is_recorded_with_who_and_why_and_judged():
    world = World()
    champion = world.first_champion()
    brought, judged = bring(world)
    assert (brought.type, brought.draft.actor) == (e.VERSION_BROUGHT, "operator:anna")
    assert (brought.data["by"], brought.data["reason"], brought.data["number"]) == ("anna", "made by hand", 2)
    assert judged.data["passed"]
    assert "anna registered it: made by hand (log_loss 0.5, roc_auc 0.75 on 900 rows)" in describe(brought)
    assert (world.state.champion, world.state.rollout) == (champion, None)
    assert world.state.versions[V].trained_until == 5


def test_deployed_it_is_compared_like_any_challenger():
    world = World()
    world.first_champion()
    bring(world)
    world.step(world.asked("deploy", V))
    assert (world.state.rollout.version, world.state.rollout.phase) == (V, "shadow")
    assert world.restart().state.rollout.version == V


def test_without_rows_to_judge_it_on_only_force_deploys_it():
    world = World()
    world.first_champion()
    bring(world, metrics={}, rows=0, trained_until=None)
    assert world.state.versions[V].floors_passed is False
    assert world.state.versions[V].trained_until == world.clock.now()
    [refused] = world.step(world.asked("deploy", V))
    assert refused.type == e.REQUEST_REFUSED
    world.step(world.asked("force", V))
    assert world.state.rollout.phase == "canary"


def test_the_same_again_is_refused():
    world = World()
    world.first_champion()
    bring(world)
    [refused] = bring(world)
    assert "registered already" in refused.data["reason"]


def test_what_was_asked_for_is_said_in_words_whatever_it_was():
    kinds = get_args(get_type_hints(Asked)["kind"])
    for kind in kinds:
        data = {"asked": "r", "kind": kind, "by": "anna", "reason": "it is registered already", "version": V}
        said = describe(e.draft("model:m", 1, e.REQUEST_REFUSED, data, at=0))
        assert said.startswith(f"anna asked to {VERBS[kind]}"), said
        assert said.endswith(", which cannot be done: it is registered already")
