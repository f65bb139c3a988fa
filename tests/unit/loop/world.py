"""A small world for the loop: a ledger in memory, a clock that stands still, and days made to order."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from trimtab.core.clock import DAY, VirtualClock, instant
from trimtab.core.ledger import GENESIS, Draft, Event, event_hash
from trimtab.errors import ConflictError, StaleEpoch
from trimtab.gates.declare import at_least, beats_champion, p99_below
from trimtab.loop.commands import Command, Train
from trimtab.loop.declare import Budget, canary, every, slo, when_drifts, when_new_labels, when_quality_drops
from trimtab.loop.engine import Loop
from trimtab.loop.observations import Asked, Counted, DayMatured, Drifted, JobDone
from trimtab.loop.policy import Policy
from trimtab.monitoring.blocks import ArmCount, DayBlock, DriftReport, FeatureDrift, PairBlock

START = instant("2013-03-04")
POLICY = Policy(
    model="late",
    task="binary",
    loss="log_loss",
    positive="late",
    floors=(at_least("roc_auc", 0.7), p99_below("50ms")),
    comparison=beats_champion("log_loss"),
    triggers=(every("28d"), when_quality_drops(), when_drifts(), when_new_labels(100_000)),
    steps=(canary(0.1), canary(0.5)),
    budget=Budget(),
    approval="auto",
    slo=slo(),
    matures=2 * DAY,
    seed=7,
)


class MemoryLedger:
    """The contract of the ledger, in a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.epoch = 0

    def append(self, stream, drafts, *, expected, epoch):
        if epoch < self.epoch:
            raise StaleEpoch("an older epoch", got=str(epoch))
        held = [event for event in self.events if event.stream == stream]
        ids = [draft.id for draft in drafts]
        if [event.id for event in held[expected : expected + len(ids)]] == ids:
            return held[expected : expected + len(ids)]
        if len(held) != expected:
            raise ConflictError("the stream has grown", got=str(len(held)))
        assert not set(ids) & {event.id for event in self.events}, "ids must be unique over the ledger"
        self.epoch = epoch
        stored = []
        for offset, draft in enumerate(drafts, start=1):
            plain: Draft = replace(draft, data=msgspec.json.decode(msgspec.json.encode(dict(draft.data))))
            previous = self.events[-1].hash if self.events else GENESIS
            number = expected + offset
            digest = event_hash(previous, stream, number, epoch, plain)
            event = Event(len(self.events) + 1, stream, number, epoch, plain, previous, digest)
            self.events.append(event)
            stored.append(event)
        return stored

    def read(self, *, after=0, stream=None):
        return iter([e for e in self.events if e.seq > after and stream in (None, e.stream)])

    def head(self):
        last = self.events[-1] if self.events else None
        return (last.seq, last.hash, self.epoch) if last else (0, GENESIS, 0)


class World:
    """A loop and everything around it."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy, self.ledger, self.clock = policy, MemoryLedger(), VirtualClock(START)
        self.commands: list[Command] = []
        self.loop = self.restart()
        self.made = 0

    def restart(self) -> Loop:
        self.loop = Loop(self.ledger, self.policy, epoch=1, clock=self.clock, execute=self.commands.append)
        return self.loop

    @property
    def state(self):
        return self.loop.state

    def events(self, *types: str) -> list[Event]:
        return [event for event in self.ledger.events if not types or event.type in types]

    def types(self) -> list[str]:
        return [event.type for event in self.ledger.events]

    def step(self, *observations, days: float = 0):
        self.clock.advance_to(self.clock.now() + int(days * DAY))
        return self.loop.step(observations)

    def result(self, version: str | None = None, **changes):
        self.made += 1
        return {
            "version": version or f"{self.made:02d}" * 32,
            "metrics": {"roc_auc": 0.75, "log_loss": 0.46},
            "dataset": f"d{self.made}",
            "rows": 50_000,
            "trained_until": self.clock.now(),
            "size_bytes": 1_000_000,
            "train_seconds": 3.0,
            "p99_ms": 0.2,
            "holdout_daily_gains": [0.02, -0.01, 0.03, 0.01, 0.0, 0.02, 0.01],
            "reference_weeks": [0.44, 0.46, 0.45, 0.43, 0.47, 0.45, 0.44, 0.46],
            "reference_level": 0.46,
        } | changes

    def finish(self, version: str | None = None, **changes):
        """End the training under way with a result."""
        job = next(iter(self.state.trainings))
        return self.step(JobDone(job, self.result(version, **changes)))

    def first_champion(self) -> str:
        self.step()
        self.finish()
        assert self.state.champion
        return self.state.champion

    def challenger(self, **changes) -> str:
        """A second version in the shadow (or wherever the policy sends it)."""
        self.step(days=28)
        self.finish(**changes)
        return self.state.rollout.version

    def matured(
        self, *, gain: float = 0.0, loss: float = 0.46, rows: int = 900, back: int = 3, **changes
    ) -> DayMatured:
        """The day that matures now: asked ``back`` days ago."""
        day = (self.clock.now() // DAY - back) * DAY
        block = DayBlock(self.state.champion, day, rows + 20, rows, loss * rows, 0.0, 0.0)
        pairs = ()
        if rollout := self.state.rollout:
            answered = int(rows * rollout.share)
            pair = PairBlock(rollout.id, rollout.champion, rollout.version, day, rows, gain * rows, answered)
            pairs = (msgspec.structs.replace(pair, **changes),)
        return DayMatured(day, (block,), pairs)

    def day(self, *, gain: float = 0.0, loss: float = 0.46):
        """One day later, with its matured labels and, in a canary, its counts."""
        self.clock.advance_to(self.clock.now() + DAY)
        observations = [self.matured(gain=gain, loss=loss)]
        if (rollout := self.state.rollout) and rollout.phase == "canary":
            observations.append(self.counted())
        return self.loop.step(observations)

    def counted(self, *, per_day: int = 9_000, errors: int = 0, slow: int = 0, share: float | None = None) -> Counted:
        rollout = self.state.rollout
        # As an observer counts: errors stand beside the answers, slow ones among them.
        total = per_day * max((self.clock.now() - rollout.step_since) // DAY, 0)
        canary_rows = int(total * (rollout.share if share is None else share))
        answered = max(canary_rows - errors, 0)
        arms = (
            ArmCount(rollout.id, "champion", rollout.champion, total - canary_rows, 0, 0),
            ArmCount(rollout.id, "canary", rollout.version, answered, errors, min(slow, answered)),
        )
        return Counted(arms, rollout.step)

    def asked(
        self, kind: str, version: str = "", *, id: str = "", reason: str = "because", actor: str = "anna"
    ) -> Asked:
        return Asked(id or f"ask-{kind}-{len(self.ledger.events)}", kind, actor, reason, version)

    def drifted(self, severity: str, *, feature: str = "ok", version: str = "") -> Drifted:
        end = self.clock.now()
        drift = FeatureDrift("dist", feature, 7_000, 0.2, 0.1, 0.1, 0.001, 0.1, 1.0, 0.2)
        prediction = FeatureDrift("prediction", severity, 7_000, 0.4, 0.2, 0.2, 0.0, 0.1, 0.3, 0.3)
        return Drifted(DriftReport(version or self.state.champion, end - 7 * DAY, end, (drift,), prediction))

    def trainings(self) -> list[Train]:
        return [command for command in self.commands if isinstance(command, Train)]
