"""Counts of the rollout step under way: what the arms did since it began."""

from __future__ import annotations

from trimtab.loop.observations import Counted
from trimtab.loop.state import State
from trimtab.monitoring.observer import Observer


class StepCounts:
    """Asks an observer for the canary step under way.

    Where a step began is kept by the observer, in its snapshot: a process that dies in the middle of a step takes
    nothing of it away, neither answers nor errors. Ask at every tick, in a canary or not. Only an observer without any
    snapshot counts from the first call on.
    """

    def observe(self, observer: Observer, state: State) -> Counted | None:
        """What the arms did in the canary step under way; None outside one."""
        rollout = state.rollout
        if rollout is None or rollout.phase != "canary":
            observer.no_step()
            return None
        return Counted(observer.step_arms(rollout.id, rollout.step), rollout.step)
