"""The engine dies anywhere and the story ends the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.loop.world import POLICY, START, MemoryLedger, World
from trimtab.core.clock import DAY
from trimtab.core.ledger import decision_digest
from trimtab.errors import ConflictError, InputError, StaleEpoch
from trimtab.loop import events as e
from trimtab.loop.commands import ApplyRoute, Notify, Train, pending_commands
from trimtab.loop.engine import Loop
from trimtab.loop.events import draft
from trimtab.loop.observations import JobDone
from trimtab.loop.sentences import describe
from trimtab.loop.state import State, apply, fold_all


class Killed(BaseException):
    """As kill -9: nothing catches it."""


class Fuse:
    """Counts boundaries and dies at one of them."""

    def __init__(self, at: int | None) -> None:
        self.at, self.passed = at, 0

    def boundary(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Killed


class MortalLedger(MemoryLedger):
    """Dies before an append, or after it."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse

    def append(self, stream, drafts, *, expected, epoch):
        self.fuse.boundary()
        events = super().append(stream, drafts, expected=expected, epoch=epoch)
        self.fuse.boundary()
        return events


def story(at: int | None = None) -> tuple[World, int]:
    """A champion, a rejected and a promoted challenger; the process is killed once, at boundary ``at``."""
    fuse = Fuse(at)
    world = World()
    world.ledger = MortalLedger(fuse)
    done: list[object] = []

    def execute(command):
        fuse.boundary()
        done.append(command)
        fuse.boundary()

    def restart():
        world.loop = Loop(world.ledger, POLICY, epoch=1, clock=world.clock, execute=execute)

    def act(observations):
        try:
            world.loop.step(observations)
        except Killed:
            restart()
            world.loop.resume()
            world.loop.step(observations)

    restart()
    rng = np.random.default_rng(8)
    act([])
    for day in range(75):
        world.clock.advance_to(START + day * DAY)
        if world.state.trainings:
            job = next(iter(world.state.trainings))
            result = world.result(f"{len(world.state.versions):064d}")
            act([JobDone(job, result)])
        observations = [world.matured(gain=(-0.02 if len(world.state.versions) < 3 else 0.02) + 0.01 * rng.normal())]
        if (rollout := world.state.rollout) and rollout.phase == "canary":
            observations.append(world.counted())
        act(observations)
    world.commands = done
    return world, fuse.passed


def test_killed_at_any_boundary_the_decisions_are_the_same():
    straight, boundaries = story()
    digest = decision_digest(straight.ledger.events)
    assert len(straight.events(e.PROMOTED)) == 2
    assert straight.events(e.REJECTED)
    assert boundaries > 150
    for at in range(1, boundaries + 1, 3):  # every kind of boundary: they come in pairs
        world, _ = story(at)
        assert decision_digest(world.ledger.events) == digest, f"boundary {at}"
        for kind, name in ((Train, "job_id"), (Notify, "key"), (ApplyRoute, "generation")):
            wanted = {getattr(command, name) for command in straight.commands if isinstance(command, kind)}
            assert {getattr(command, name) for command in world.commands if isinstance(command, kind)} == wanted
        assert fold_all(world.loop.stream, world.ledger.events) == world.state == straight.state


def test_resume_asks_again_for_all_that_may_not_be_done():
    world = World()
    world.first_champion()
    world.step(days=28)
    world.commands.clear()
    world.restart().resume()
    assert [type(command) for command in world.commands] == [ApplyRoute, Train]
    assert pending_commands(world.state) == tuple(world.commands)


def test_notices_are_handed_over_once():
    world = World()
    world.first_champion()
    told = [command for command in world.commands if isinstance(command, Notify)]
    assert [command.kind for command in told] == [e.PROMOTED]
    world.restart().resume()
    assert [command for command in world.commands if isinstance(command, Notify)] == told


def test_an_older_epoch_is_refused():
    world = World()
    world.first_champion()
    old = world.loop
    world.ledger.epoch = 2
    world.clock.advance_to(START + 30 * DAY)
    with pytest.raises(StaleEpoch):
        old.step()


def test_a_second_writer_is_refused():
    world = World()
    world.step()
    other = Loop(world.ledger, POLICY, epoch=1, clock=world.clock, execute=world.commands.append)
    world.finish()
    world.clock.advance_to(START + 2 * DAY)
    with pytest.raises(ConflictError):
        other.step([world.matured()])


def test_a_changed_policy_is_recorded():
    world = World()
    world.first_champion()
    world.policy = replace(POLICY, approval="manual")
    world.restart().step()
    changed = world.events(e.MODEL_DECLARED)[-1]
    assert changed.data["previous"] == POLICY.digest
    assert world.state.policy == world.policy.digest


def test_policy_survives_json():
    from trimtab.loop.policy import Policy

    assert Policy.from_json(POLICY.to_json()) == POLICY
    assert replace(POLICY, seed=8).digest != POLICY.digest


def test_an_event_must_have_its_fields():
    with pytest.raises(InputError, match="missing \\['error'\\]"):
        draft("model:m", 1, e.TRAINING_FAILED, {"job": "j"}, at=0)
    with pytest.raises(InputError, match="no such type"):
        draft("model:m", 1, "Nothing", {}, at=0)


def test_unknown_events_change_only_the_position():
    from trimtab.core.ledger import Draft

    unknown = Draft("x", "FromTheFuture", {"a": 1}, 0, 0)
    before = State("model:m", policy="p")
    assert apply(before, unknown) == replace(before, number=1)
    assert describe(unknown) == "FromTheFuture (unknown to this version)"


def test_measured_values_do_not_enter_the_digest():
    def run(seconds, p99):
        world = World()
        world.step()
        world.finish("a" * 64, train_seconds=seconds, p99_ms=p99, host="h")
        return decision_digest(world.ledger.events)

    assert run(1.0, 0.2) == run(9.0, 0.3)
