"""Which version a command means that was told none: the champion, as the loop itself has it."""

from types import SimpleNamespace

import pytest
from tests.unit.loop.test_loop_strategies import ask, promoted, two_versions
from tests.unit.loop.world import World

from trimtab.app.batches import resolve
from trimtab.app.variants import _champion
from trimtab.errors import InputError
from trimtab.loop.commands import route_of
from trimtab.serving.routing import Arm, Route, RouteTable, encode_table


def home_of(place, route, ledger=None):
    """A home with one route, and with a ledger where a loop keeps one."""
    (place / "route.json").write_bytes(encode_table(RouteTable(1, {"late": route})))
    if ledger is not None:
        (place / "ledger.db").touch()
    return SimpleNamespace(root=place, route_file=place / "route.json", ledger=lambda: ledger)


def both(place, world):
    """What `trimtab quantise` and `trimtab batch` take."""
    home = home_of(place, route_of(world.state), world.ledger)
    return _champion(world.ledger.events, "late"), resolve(home, "late", "")


def test_after_a_step_back_it_is_the_version_before(tmp_path):
    world, first, second = promoted()
    assert both(tmp_path, world) == (second, second)
    ask(world, "rollback")
    assert world.state.champion == first
    assert both(tmp_path, world) == (first, first)


def test_a_version_that_was_only_trained_is_taken_where_none_is_live():
    world = World()
    with pytest.raises(InputError, match="nothing was trained yet"):
        _champion(world.ledger.events, "late")
    world.step()
    world.finish(metrics={"roc_auc": 0.5})  # fails its floors
    assert not world.state.champion
    assert _champion(world.ledger.events, "late") == next(iter(world.state.versions))


@pytest.mark.parametrize("with_it", [True, False])
def test_an_ab_test_has_its_arms_in_any_order_or_goes_without_the_champion(tmp_path, with_it):
    world, first, second = two_versions()
    third = world.challenger()
    ask(world, "rollback")
    versions = (second, first) if with_it else (second, third)
    arms = [{"name": name, "version": version, "share": 0.5} for name, version in zip("ab", versions, strict=True)]
    ask(world, "deploy", strategy="ab", arms=arms)
    assert world.state.rollout.arms[0].version == second
    assert both(tmp_path, world) == (first, first)


def test_past_a_kill_switch_what_answers_scores_too(tmp_path):
    world, first, _ = promoted()
    ask(world, "kill")
    assert both(tmp_path, world)[1] == first


def test_a_home_without_a_loop_has_only_its_route(tmp_path):
    assert resolve(home_of(tmp_path, Route("late", (Arm("champion", "v", 1.0),))), "late", "") == "v"
