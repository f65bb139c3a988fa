"""The state of a model: all that the loop knows, and nothing its events do not say (see :mod:`trimtab.loop.fold`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trimtab.core.clock import Micros
from trimtab.gates.comparison import PairedEvidence

WEEK_DAYS = 7


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version and what was measured when it was trained."""

    digest: str
    number: int
    """1 for the first of this model."""
    trained_until: Micros
    reference_weeks: tuple[float, ...]
    reference_level: float | None
    """Mean loss on the held-out tail; None when it was not measured."""
    daily_gains: tuple[float, ...]
    floors_passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Reign:
    """A time during which one version was the champion."""

    version: str
    since: Micros
    until: Micros | None = None
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class Training:
    """A training job that was asked for and has not ended."""

    job: str
    cutoff: Micros
    reason: str
    trigger: str
    champion: str
    seed: int


@dataclass(frozen=True, slots=True)
class TestArm:
    """An arm of an A/B test."""

    name: str
    version: str
    share: float


@dataclass(frozen=True, slots=True)
class Killed:
    """The kill switch, while it is on."""

    version: str
    """The champion that it took out of service."""
    since: Micros
    to: str = ""
    """The version that answers instead; empty when a constant does."""
    constant: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollout:
    """The one rollout under way."""

    id: str
    version: str
    champion: str
    alpha: float
    expires: Micros
    evidence: PairedEvidence
    phase: Literal["shadow", "approval", "canary", "warming", "test"]
    since: Micros
    """When this phase began."""
    share: float = 0.0
    step: int = -1
    """Index of the canary step under way."""
    step_since: Micros = 0
    step_days: int = 0
    """Matured days on which the canary of this step answered."""
    last_day: Micros = -1
    forced: bool = False
    strategy: str = ""
    """``canary``, ``shadow``, ``blue-green`` or ``ab`` where a person chose one; empty for the policy's own way."""
    wanted: float = 0.0
    """The share that a person asked for, of a canary."""
    arms: tuple[TestArm, ...] = ()
    """Of an A/B test."""
    unit: str = ""
    """Of an A/B test: what stays with one arm."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a feature, or the predictions, have moved."""

    severity: str
    since: Micros
    """End of the first window with this severity."""
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Week:
    """A week of the champion, as far as it has matured."""

    start: Micros
    days: int = 0
    answered: int = 0
    labelled: int = 0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class JudgedWeek:
    """A matured week of the champion and its verdict: ``ok``, ``drop`` or ``insufficient_data``."""

    start: Micros
    loss: float | None
    limit: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person should hear of and that has not been handed over."""

    key: str
    kind: str
    text: str
    happened: Micros


@dataclass(frozen=True)
class State:
    """Everything the loop knows about one model."""

    stream: str
    number: int = 0
    """Events folded so far: the position in the stream."""
    policy: str = ""
    """Digest of the policy in force."""
    versions: Mapping[str, Version] = field(default_factory=dict)
    reigns: tuple[Reign, ...] = ()
    """Every champion so far, in order; the last one may be open."""
    rollout: Rollout | None = None
    trainings: Mapping[str, Training] = field(default_factory=dict)
    """Under way, by job."""
    cutoffs: tuple[Micros, ...] = ()
    """Of every training ever asked for, in order."""
    learned: Micros | None = None
    """Cutoff of the last training that finished."""
    failures: int = 0
    """Trainings that failed in a row."""
    labels: int = 0
    """That matured since the last training finished."""
    last_day: Micros = -1
    """The last matured day."""
    week: Week | None = None
    weeks: tuple[JudgedWeek, ...] = ()
    """Of the champion."""
    drift: Mapping[str, Drift] = field(default_factory=dict)
    """Of the champion's features and predictions."""
    held: Mapping[str, str] = field(default_factory=dict)
    """By trigger: the key of the last reason for which it was held back."""
    asked: frozenset[str] = frozenset()
    """Ids of the requests of persons that have been dealt with."""
    route: int = 0
    """Generation: the number of the event that last changed how requests are answered."""
    notices: tuple[Notice, ...] = ()
    killed: Killed | None = None
    """The kill switch, while it is on."""

    @property
    def reign(self) -> Reign | None:
        """The reign of the version that answers now; None before the first."""
        return self.reigns[-1] if self.reigns and self.reigns[-1].until is None else None

    @property
    def champion(self) -> str:
        """The version that answers now; empty before the first."""
        reign = self.reign
        return reign.version if reign else ""

    @property
    def warming(self) -> bool:
        """Whether the green version of a blue-green deployment is being loaded."""
        return self.rollout is not None and self.rollout.phase == "warming"

    @property
    def stable(self) -> str:
        """The version to go back to: the last champion before this one that was not rolled back; empty without one."""
        bad = {reign.version for reign in self.reigns if reign.rolled_back}
        past = (reign.version for reign in reversed(self.reigns))
        return next((version for version in past if version != self.champion and version not in bad), "")
