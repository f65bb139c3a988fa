"""The people of a replay: they ask for what was staged, and approve what waits for a person's word."""

from __future__ import annotations

from collections.abc import Iterable

from trimtab.core.clock import Micros
from trimtab.core.ids import derived_id
from trimtab.loop.observations import Asked
from trimtab.loop.state import Rollout

OPERATOR = "operator:rehearsal"
"""Who asks, where a replay puts a fault on stage or a version waits for a person."""


class Operators:
    """What people ask for as a replay goes on.

    Parameters
    ----------
    staged
        What they ask for, and when.
    bad_challengers
        Moments at which one has a version trained on swapped labels, to force it past the gate.
    """

    def __init__(self, staged: Iterable[tuple[Micros, Asked]], bad_challengers: Iterable[Micros]) -> None:
        self._staged = sorted(staged, key=lambda pair: pair[0])
        self._bad = sorted(bad_challengers)
        self._to_force: set[str] = set()
        self._sabotaging = False

    def ask(self, now: Micros, rollout: Rollout | None) -> list[Asked]:
        """What is asked for by now."""
        asked = self.approve(rollout)
        while self._bad and self._bad[0] <= now:
            moment = self._bad.pop(0)
            self._sabotaging = True
            asked.append(Asked(f"bad challenger {moment}", "train", OPERATOR, "rehearsal: train a bad challenger"))
        while self._staged and self._staged[0][0] <= now:
            asked.append(self._staged.pop(0)[1])
        return asked

    def approve(self, rollout: Rollout | None) -> list[Asked]:
        """Nobody sits beside a replay: what waits for a person's word is approved at the next tick."""
        if rollout is None or rollout.phase != "approval":
            return []
        name = derived_id("approved in replay", rollout.id)
        return [Asked(name, "approve", OPERATOR, "a replay approves whatever the gate lets through")]

    def sabotage(self, job: str) -> bool:
        """Whether a job that the loop just asked for learns from swapped labels; its version will be forced."""
        if self._sabotaging:
            self._to_force.add(job)
        return self._sabotaging

    def decided(self) -> None:
        """The loop has decided: trainings that it asks for later are honest ones."""
        self._sabotaging = False

    def force(self, job: str, version: str) -> list[Asked]:
        """Force the version of a sabotaged job past the gate."""
        if job not in self._to_force:
            return []
        reason = "rehearsal: a bad challenger is forced past the gate"
        return [Asked(f"force {job}", "force", OPERATOR, reason, version=version)]
