"""The policy: what a declared model allows the loop to do, without its functions and data.

``decide`` sees only this, so that a decision can be repeated from JSON, on another machine, years later.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec

from trimtab.core.clock import DAY, Micros
from trimtab.core.ids import Json, digest
from trimtab.gates.declare import Comparison, Floor
from trimtab.loop.declare import Budget, Slo, Step, Trigger, canary
from trimtab.loop.model import ModelSpec

DEFAULT_ALPHA = 0.1
DEFAULT_EXPIRES: Micros = 28 * DAY


@dataclass(frozen=True)
class Policy:
    """What the loop may do with one model; made by :func:`policy_of`."""

    model: str
    task: str
    loss: str
    positive: str
    floors: tuple[Floor, ...]
    comparison: Comparison | None
    triggers: tuple[Trigger, ...]
    steps: tuple[Step, ...]
    """Canary steps in order; the shadow is implied by ``comparison``."""
    budget: Budget
    approval: Literal["auto", "manual"]
    slo: Slo
    matures: Micros
    seed: int

    @property
    def alpha(self) -> float:
        return self.comparison.alpha if self.comparison else DEFAULT_ALPHA

    @property
    def expires(self) -> Micros:
        """How long a phase of a rollout may stay without evidence before the challenger is rejected."""
        return self.comparison.expires if self.comparison else DEFAULT_EXPIRES

    @property
    def guarded_steps(self) -> tuple[Step, ...]:
        """The steps of a challenger that was forced: at least one, since evidence must still be able to stop it."""
        return self.steps or (canary(0.10),)

    def to_json(self) -> dict[str, Json]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Policy:
        """The policy back from :meth:`to_json`."""
        return msgspec.convert(data, Policy)

    @cached_property
    def digest(self) -> str:
        """The identity of the policy: SHA-256 of its canonical JSON."""
        return digest(self.to_json())


def policy_of(spec: ModelSpec) -> Policy:
    """The policy of a declared model."""
    return Policy(
        model=spec.name,
        task=spec.task.kind,
        loss=spec.task.loss,
        positive=spec.task.target,
        floors=spec.floors,
        comparison=spec.comparison,
        triggers=spec.retrain,
        steps=tuple(step for step in spec.rollout if step.share > 0),
        budget=spec.budget,
        approval=spec.approval,
        slo=spec.slo,
        matures=spec.label.matures,
        seed=spec.seed,
    )
