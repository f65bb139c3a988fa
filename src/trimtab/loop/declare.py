"""When to retrain, how to roll out, and what a service promises: the policy part of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trimtab.core.clock import DAY, Micros
from trimtab.errors import ProjectError
from trimtab.features import declared
from trimtab.features.sources import declared_at


@dataclass(frozen=True)
class Trigger:
    """A reason to retrain, how long it then keeps quiet, and the number it depends on."""

    kind: Literal["time", "quality", "drift", "volume"]
    cooldown: Micros
    period: Micros = 0
    """Of a time trigger."""
    labels: int = 0
    """Of a volume trigger."""
    alpha: float = 0.0
    """Of a quality trigger: chance of a false alarm in one week."""


def every(period: str | Micros) -> Trigger:
    """Retrain when the last training is this long ago.

    Examples
    --------
    >>> every("28d").kind
    'time'
    """
    held = declared.length(period, what="the period of every", where=declared_at())
    return Trigger("time", cooldown=held, period=held)


def when_quality_drops(*, alpha: float = 0.01, cooldown: str | Micros = "14d") -> Trigger:
    """Retrain when a matured week's loss is above what the champion's own weeks make plausible, one-sided."""
    declared.number(alpha, what="alpha of when_quality_drops", where=declared_at(), above=0, most=0.5)
    return Trigger("quality", cooldown=_cooldown(cooldown), alpha=alpha)


def when_drifts(*, cooldown: str | Micros = "14d") -> Trigger:
    """Retrain when drift moves the predictions to ``critical``; drift of features alone only informs."""
    return Trigger("drift", cooldown=_cooldown(cooldown))


def when_new_labels(count: int, *, cooldown: str | Micros = "7d") -> Trigger:
    """Retrain when this many labels have matured since the last training."""
    declared.whole(count, what="the count of when_new_labels", where=declared_at(), least=1)
    return Trigger("volume", cooldown=_cooldown(cooldown), labels=count)


def _cooldown(value: str | Micros) -> Micros:
    return declared.length(value, what="a trigger's cooldown", where=declared_at(), zero=True)


@dataclass(frozen=True)
class Step:
    """One step of a rollout: the challenger's share of the answers (0: only shadow) and the least time it lasts."""

    share: float
    least: Micros
    rows: int
    """Fewest answers of the challenger before the step can pass."""


def shadow() -> Step:
    """Score every request with the challenger too, answer none; ends when the champion gate has its verdict."""
    return Step(0.0, 0, 0)


def canary(share: float, *, least: str | Micros = "1d", rows: int = 500) -> Step:
    """Answer this share of requests with the challenger, until its guardrails say go on or go back.

    Examples
    --------
    >>> canary(0.1).share
    0.1
    """
    where = declared_at()
    if not 0 < declared.number(share, what="a canary's share", where=where) < 1:
        raise ProjectError(
            "a canary's share must be between 0 and 1", got=repr(share), hint="write 0.1 for 10 %", where=where
        )
    declared.whole(rows, what="a canary's rows", where=where)
    return Step(share, declared.length(least, what="a canary's least time", where=where, zero=True), rows)


@dataclass(frozen=True)
class Slo:
    """What the service promises; an answer later than ``latency_p99_ms`` counts as slow."""

    latency_p99_ms: float
    availability: float


def slo(*, latency_p99: str | Micros = "100ms", availability: float = 0.999) -> Slo:
    """State the service level that guardrails watch."""
    where = declared_at()
    latency = declared.length(latency_p99, what="latency_p99 of slo", where=where)
    declared.number(availability, what="availability of slo", where=where, above=0, most=1)
    return Slo(latency / 1000, availability)


@dataclass(frozen=True)
class Budget:
    """How much retraining is allowed: at most ``runs`` in any ``period``, whatever the triggers say."""

    runs: int = 4
    period: Micros = 28 * DAY

    def __post_init__(self) -> None:
        where = declared_at()
        declared.whole(self.runs, what="runs of a budget", where=where, least=1)
        # Text is taken here too: every other duration of a project file is written as text.
        object.__setattr__(self, "period", declared.length(self.period, what="period of a budget", where=where))
