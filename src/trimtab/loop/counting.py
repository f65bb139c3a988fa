"""Counts of the rollout step under way: what the arms did since it began."""

from __future__ import annotations

from trimtab.loop.observations import Counted
from trimtab.loop.state import State
from trimtab.monitoring.blocks import ArmCount
from trimtab.monitoring.observer import Observer


class StepCounts:
    """Takes off what stood when the step began, because an observer's counts never start again.

    A new object in the middle of a step counts from then on: a restarted process asks for a little more evidence, never
    for less.
    """

    def __init__(self) -> None:
        self._step: tuple[str, int] = ("", -1)
        self._before: dict[tuple[str, str], ArmCount] = {}

    def observe(self, observer: Observer, state: State) -> Counted | None:
        """What the arms did in the canary step under way; None outside one."""
        rollout = state.rollout
        if rollout is None or rollout.phase != "canary":
            return None
        arms = observer.arms(rollout.id)
        if self._step != (rollout.id, rollout.step):
            self._step = (rollout.id, rollout.step)
            self._before = {(arm.arm, arm.version): arm for arm in arms}
        return Counted(tuple(self._since(arm) for arm in arms), rollout.step)

    def _since(self, arm: ArmCount) -> ArmCount:
        before = self._before.get((arm.arm, arm.version))
        if before is None:
            return arm
        return ArmCount(
            arm.rollout,
            arm.arm,
            arm.version,
            arm.answered - before.answered,
            arm.errors - before.errors,
            arm.slow - before.slow,
        )
