"""From the rows that an observer counts to the units of the canary step under way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab.monitoring.chunks import Chunk, drawn_for, rows_of
from trimtab.monitoring.units import ASKED, ERRED, SLOW, Arm, PackedUnits, Stamps, StepUnits
from trimtab.serving.answers import Answers


class Draws:
    """Holds the units of a step; before it is known which step is under way, also those of one that began at a restore.

    What comes bears the number of the step that was counted then (:attr:`serial`), so that rows which waited in a
    snapshot are not taken for rows of a step that began after it.
    """

    def __init__(self) -> None:
        self.serial = 0
        self._under_way: StepUnits | None = None
        self._since_restore: StepUnits | None = None

    @property
    def since(self) -> int | None:
        """The number that rows of the step under way bear, or a larger one; None outside one."""
        return None if self._under_way is None else self._under_way.since

    def pack(self) -> PackedUnits | None:
        """The step under way as plain values."""
        return None if self._under_way is None else self._under_way.pack()

    @staticmethod
    def unpack(packed: PackedUnits | None) -> Draws:
        """As it was; what comes now may belong to a step that begins here."""
        draws = Draws()
        draws.serial = 1  # of all that the snapshot holds
        draws._under_way = None if packed is None else StepUnits.unpack(packed, since=1)
        draws._since_restore = draws._begun()
        return draws

    def step(self, *, new: bool) -> StepUnits:
        """The step under way, or one that begins."""
        found = None if new else self._under_way
        self._under_way = found or self._since_restore or self._begun()
        self._since_restore = None
        return self._under_way

    def over(self) -> None:
        """No step is under way."""
        self._under_way = self._since_restore = None

    def failed(self, arm: Arm, units: Sequence[str], *, days: Stamps, serial: int | NDArray[np.int64]) -> None:
        """Requests of an answering arm failed; ``units`` says what it was drawn for, per request."""
        for step in self._steps():
            if isinstance(serial, int):
                ours = units if serial >= step.since else ()
            else:
                ours = [unit for unit, at in zip(units, serial.tolist(), strict=True) if at >= step.since]
            step.meet(arm, ours, ASKED | ERRED, days=days)

    def stamps(self, chunk: Chunk) -> int | list[int]:
        """The stamp of each row of an answering arm: 0 for rows that fell to it together with others."""
        if not self._steps():
            return 0
        stamps = 2 * chunk.serial + chunk.slow
        if chunk.together is not None:
            stamps = np.where(chunk.together, 0, stamps)
        return stamps if isinstance(stamps, int) else stamps.tolist()

    def answered(self, chunk: Chunk, *, today: dict[str, int], days: Stamps) -> None:
        """Rows of an answering arm that were new today; their stamps are in ``today``, which is among ``days``."""
        arm = (chunk.rollout, chunk.arm, chunk.version)
        for step in self._steps():
            ours = _since(chunk, step.since)
            if ours is None:
                continue
            alone = ours if ours.together is None else rows_of(ours, ~ours.together)
            step.lone(arm, alone.ids, slow=chunk.slow, earlier=[day for day in days if day is not today])
            if ours.together is not None:
                grouped = drawn_for(rows_of(ours, ours.together))
                step.meet(arm, grouped, ASKED | (SLOW if chunk.slow else 0), days=days)

    def _steps(self) -> list[StepUnits]:
        return [step for step in (self._under_way, self._since_restore) if step is not None]

    def _begun(self) -> StepUnits:
        self.serial += 1
        return StepUnits(self.serial)


def drew(answers: Answers) -> list[str] | None:
    """What the arm was drawn for, per row; None where that is each request itself."""
    if not any(answers.together):
        return None
    ids = answers.requests.ids
    rows = zip(answers.units or ids, ids, answers.together, strict=True)
    return [(unit or request) if shared else request for unit, request, shared in rows]


def _since(chunk: Chunk, serial: int) -> Chunk | None:
    """The rows that came when this step or a later one was counted; None when none did."""
    if isinstance(chunk.serial, int):
        return chunk if chunk.serial >= serial else None
    mask = chunk.serial >= serial
    return rows_of(chunk, mask) if mask.any() else None
