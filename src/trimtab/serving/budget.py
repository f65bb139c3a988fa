"""A latency budget: first the whole, then its parts, and afterwards what each part really took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trimtab.errors import ProjectError
from trimtab.features import declared
from trimtab.features.sources import declared_at

PARTS: dict[str, tuple[str, ...]] = {
    "ingest": ("decode", "queue"),
    "pre": ("features", "preprocess"),
    "inference": ("infer",),
    "post": ("postprocess",),
    "serialise": ("encode", "record"),
    "output": ("postprocess", "encode", "record"),
}
"""What may have a budget of its own besides a single stage, and the stages that it is made of."""
SINGLE = ("decode", "queue", "features", "preprocess", "infer", "postprocess", "encode", "record")
NETWORK = "network"
"""May have a budget, but lies outside of what a server can measure."""
_SUM_SLACK = 1e-6


@dataclass(frozen=True)
class LatencyBudget:
    """How long a request may take in all, and how that is shared out.

    Parameters
    ----------
    total_ms
        The bound, in milliseconds.
    stages
        Milliseconds by part: ``network``, ``ingest``, ``pre``, ``inference``, ``post``, ``serialise``, ``output``, or a
        single stage such as ``features``. A stage may be in one part only.
    percentile
        The share of requests, in percent, that must keep the bound.
    buffer_ms
        Kept for the tail; what is not shared out belongs to it as well.

    Raises
    ------
    ProjectError
        When the parts and the buffer are more than the whole, a part is unknown, or two parts share a stage.

    Examples
    --------
    >>> LatencyBudget(100, {"ingest": 10, "pre": 25, "inference": 50, "post": 10, "serialise": 5}).left_ms
    0
    """

    total_ms: float
    stages: Mapping[str, float] = field(default_factory=dict)
    percentile: float = 95
    buffer_ms: float = 0

    def __post_init__(self) -> None:
        where = declared_at()
        declared.number(self.total_ms, what="total_ms of a latency budget", where=where, above=0)
        declared.number(self.percentile, what="percentile of a latency budget", where=where, above=0, most=100)
        declared.number(self.buffer_ms, what="buffer_ms of a latency budget", where=where, least=0)
        hint = 'write {"pre": 25, "inference": 50}'
        declared.a(Mapping, self.stages, what="stages of a latency budget", hint=hint, where=where)
        taken: dict[str, str] = {}
        for name, part_ms in self.stages.items():
            if name not in PARTS and name not in SINGLE and name != NETWORK:
                known = ", ".join([NETWORK, *PARTS, *SINGLE])
                raise ProjectError("a latency budget has an unknown part", got=repr(name), hint=known, where=where)
            declared.number(part_ms, what=f"{name} of a latency budget", where=where, above=0)
            for stage in stages_of(name):
                if stage in taken:
                    raise ProjectError(
                        f"two parts of a latency budget hold the stage {stage!r}",
                        got=f"{taken[stage]} and {name}",
                        where=where,
                    )
                taken[stage] = name
        if self.left_ms < -_SUM_SLACK:
            raise ProjectError(
                "the parts of a latency budget are more than the whole",
                got=f"{self.total_ms - self.left_ms:g} of {self.total_ms:g} ms",
                where=where,
            )

    @property
    def left_ms(self) -> float:
        """What is neither shared out nor buffer."""
        return self.total_ms - sum(self.stages.values()) - self.buffer_ms


def stages_of(part: str) -> tuple[str, ...]:
    """The stages that a part is made of; none for the network, which is not measured.

    Examples
    --------
    >>> stages_of("pre"), stages_of("infer"), stages_of("network")
    (('features', 'preprocess'), ('infer',), ())
    """
    return PARTS.get(part, () if part == NETWORK else (part,))


PRESETS: dict[str, LatencyBudget] = {
    "interactive": LatencyBudget(
        200, {"network": 15, "pre": 20, "inference": 100, "output": 20}, percentile=95, buffer_ms=45
    ),
    "table": LatencyBudget(100, {"ingest": 10, "pre": 25, "inference": 50, "post": 10, "serialise": 5}, percentile=95),
    "tail": LatencyBudget(200, {"ingest": 20, "pre": 40, "inference": 100, "output": 20}, percentile=99, buffer_ms=20),
    "gate": LatencyBudget(50, {"ingest": 5, "pre": 12.5, "inference": 25, "output": 5}, percentile=99, buffer_ms=2.5),
}
"""Budgets by name: 200 ms at p95 for a page that a person waits for; 100 ms shared out stage by stage; 200 ms at p99,
the line of the usual alert; 50 ms at p99, the line of the usual gate."""


def budget_of(
    given: LatencyBudget | Mapping[str, float] | str | None, *, latency_p99_ms: float, where: str = ""
) -> LatencyBudget:
    """The budget that a project declares: one of its own, a preset by name, parts of what its service level says in
    milliseconds at p99, or nothing, which shares that out as usual.

    Raises
    ------
    ProjectError
        When there is no preset of that name, or it is no budget at all.

    Examples
    --------
    >>> budget_of(None, latency_p99_ms=80).stages["inference"]
    40.0
    """
    if given is None:
        return derived_budget(latency_p99_ms)
    if isinstance(given, str):
        if given not in PRESETS:
            known = ", ".join(PRESETS)
            raise ProjectError("no such latency budget", got=repr(given), hint=f"one of {known}", where=where)
        return PRESETS[given]
    if isinstance(given, Mapping):
        return LatencyBudget(latency_p99_ms, dict(given), percentile=99)
    hint = f'name a preset, as in "{next(iter(PRESETS))}", or write {{"pre": 25, "inference": 50}}'
    found: LatencyBudget = declared.a(LatencyBudget, given, what="a latency budget", hint=hint, where=where)
    return found


def derived_budget(total_ms: float) -> LatencyBudget:
    """A bound at p99, shared out as the preset ``table`` does: 10, 25, 50, 10 and 5 %."""
    shares = PRESETS["table"].stages
    return LatencyBudget(total_ms, {name: total_ms * part / 100 for name, part in shares.items()}, percentile=99)


@dataclass(frozen=True, slots=True)
class Line:
    """A part of a budget beside what it took; all in milliseconds, NaN where nothing was measured."""

    part: str
    budget_ms: float
    actual_ms: float
    """At the percentile of the budget."""
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def variance(self) -> float:
        """By which share the budget was missed (above zero) or kept: -0.2 is 20 % below it; NaN without a budget."""
        return self.actual_ms / self.budget_ms - 1 if self.budget_ms else math.nan

    @property
    def broken(self) -> bool:
        return bool(self.budget_ms) and self.actual_ms > self.budget_ms


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """A budget beside what was measured, part by part."""

    budget: LatencyBudget
    lines: tuple[Line, ...]
    """The parts with a budget, then measured stages without one."""
    total: Line
    requests: int

    @property
    def broken(self) -> tuple[str, ...]:
        """The parts that took longer than their share; ``total`` when the whole did."""
        return tuple(line.part for line in (*self.lines, self.total) if line.broken)


Measured = Callable[[tuple[str, ...], float], float]
"""Milliseconds that some stages took together, at a share from 0 to 1, or on average for :data:`MEAN`; NaN when that
was not measured."""
MEAN = -1.0
TOTAL = ("total",)


def report(budget: LatencyBudget, measured: Measured, *, requests: int) -> BudgetReport:
    """Hold a budget against what was measured.

    Examples
    --------
    >>> took = {"inference": 45.0, "post": 12.0, "total": 101.0}
    >>> parts = {stages_of(part): took_ms for part, took_ms in took.items()}
    >>> found = report(PRESETS["table"], lambda stages, q: parts.get(stages, 8.0), requests=10)
    >>> [(line.part, round(line.variance, 2)) for line in found.lines][2:4], found.broken
    ([('inference', -0.1), ('post', 0.2)], ('post', 'serialise', 'total'))
    """
    rest = [stage for stage in SINGLE if not any(stage in stages_of(part) for part in budget.stages)]
    lines = [_line(name, part_ms, stages_of(name), budget, measured) for name, part_ms in budget.stages.items()]
    lines += [_line(stage, 0.0, (stage,), budget, measured) for stage in rest]
    total = _line("total", budget.total_ms, TOTAL, budget, measured)
    return BudgetReport(budget, tuple(lines), total, requests)


def _line(part: str, part_ms: float, stages: tuple[str, ...], budget: LatencyBudget, measured: Measured) -> Line:
    shares = (budget.percentile / 100, MEAN, 0.5, 0.95, 0.99)
    return Line(part, part_ms, *(measured(stages, share) if stages else math.nan for share in shares))
