"""A version that was made elsewhere: recorded, judged on its floors, rolled out when asked."""

from dataclasses import replace

from tests.unit.loop.world import World

from trimtab.loop import events as e
from trimtab.loop.sentences import describe

V = "e" * 64
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
