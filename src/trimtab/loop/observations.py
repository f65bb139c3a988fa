"""What the loop is told: the only inputs of :func:`trimtab.loop.decide.decide` besides its own state and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trimtab.core.ids import Json
from trimtab.monitoring.blocks import ArmCount, DayBlock, DriftReport, PairBlock


@dataclass(frozen=True, slots=True)
class JobDone:
    """A training job ended with a result (see :mod:`trimtab.training.job` for its fields)."""

    job_id: str
    result: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class JobLost:
    """A training job ended without a result."""

    job_id: str
    error: str


@dataclass(frozen=True, slots=True)
class DayMatured:
    """A day of asking whose labels have all arrived or will be taken never to."""

    day: int
    blocks: tuple[DayBlock, ...]
    pairs: tuple[PairBlock, ...]


@dataclass(frozen=True, slots=True)
class Drifted:
    """A window of inputs and predictions was compared with the champion's reference."""

    report: DriftReport


@dataclass(frozen=True, slots=True)
class Counted:
    """What the answering arms did so far in the rollout step under way."""

    arms: tuple[ArmCount, ...]
    step: int
    """Index of the canary step that was counted: counts of a step that is over say nothing about the next."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """How the workers stand to the version of a blue-green rollout: all of them have it loaded, or one cannot.

    Without any, whoever asked has loaded it and run it once.
    """

    rollout: str
    workers: int
    problem: str = ""
    """Why a worker cannot load it; empty when all of them have."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A person asks for something. The loop decides what to make of it and says why in the ledger."""

    id: str
    kind: Literal["train", "approve", "deny", "rollback", "deploy", "force", "kill", "revive", "variant", "register"]
    actor: str
    reason: str
    version: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)
    """``cutoff`` of a training; ``strategy``, ``share``, ``arms``, ``unit`` and ``winner`` of a deployment;
    ``constant`` of a kill switch, which goes back to the previous version without; ``facts`` of a version that was not
    trained here."""


Observation = JobDone | JobLost | DayMatured | Drifted | Counted | Warmed | Asked
