"""Floors: what a candidate must show on its held-out tail before it sees any traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.gates.declare import Floor

MEASURED = frozenset({"latency_p99_ms"})
"""Measures that depend on the machine, so that their values never enter a decision digest."""


@dataclass(frozen=True, slots=True)
class FloorCheck:
    """One floor and what the candidate showed; ``value`` is None when it was not measured."""

    measure: str
    bound: float
    side: str
    value: float | None
    passed: bool


def judge_floors(floors: Sequence[Floor], measures: Mapping[str, float]) -> tuple[FloorCheck, ...]:
    """Check every floor. What was not measured, or is not a number, fails: silence is not a pass.

    Examples
    --------
    >>> from trimtab.gates.declare import at_least
    >>> judge_floors([at_least("roc_auc", 0.7)], {"roc_auc": 0.68})[0].passed
    False
    """
    return tuple(_judge(floor, measures.get(floor.measure)) for floor in floors)


def _judge(floor: Floor, value: float | None) -> FloorCheck:
    if value is None or not math.isfinite(value):
        return FloorCheck(floor.measure, floor.bound, floor.side, None, passed=False)
    passed = value >= floor.bound if floor.side == "at_least" else value <= floor.bound
    return FloorCheck(floor.measure, floor.bound, floor.side, float(value), passed)
