"""The model declaration: everything the loop needs to know, in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trimtab.core.clock import Micros, duration
from trimtab.errors import ProjectError
from trimtab.features.sources import Source, declared_at
from trimtab.features.views import OnRequest, View
from trimtab.gates.declare import Comparison, Floor, Gate
from trimtab.loop.declare import Budget, Slo, Step, Trigger, canary, every, shadow, slo
from trimtab.training.task import Fit, Label, Span, Task, all_history


@dataclass(frozen=True)
class ModelSpec:
    """A declared model; made by :func:`Model`."""

    name: str
    task: Task
    requests: Source
    features: tuple[View, ...]
    label: Label
    train: Fit
    params: Mapping[str, Any]
    on: Span
    holdout: Micros
    """Length of the held-out tail, after the last training row, on which floors are judged."""
    gates: tuple[Gate, ...]
    retrain: tuple[Trigger, ...]
    rollout: tuple[Step, ...]
    budget: Budget
    approval: Literal["auto", "manual"]
    slo: Slo
    seed: int
    where: str = field(default="", compare=False, repr=False)

    @property
    def floors(self) -> tuple[Floor, ...]:
        return tuple(gate for gate in self.gates if isinstance(gate, Floor))

    @property
    def comparison(self) -> Comparison | None:
        """The champion gate; None when the project declares none (then floors alone decide)."""
        return next((gate for gate in self.gates if isinstance(gate, Comparison)), None)


def Model(  # noqa: N802 - the one declaration that ties all others together
    name: str,
    *,
    task: Task,
    requests: Source,
    features: Sequence[View | str],
    label: Label,
    train: Fit,
    params: Mapping[str, Any] | None = None,
    on: Span = all_history(),
    holdout: str | Micros = "7d",
    gates: Sequence[Gate] = (),
    retrain: Sequence[Trigger] = (every("28d"),),
    rollout: Sequence[Step] = (shadow(), canary(0.10), canary(0.50)),
    budget: Budget = Budget(),
    approval: Literal["auto", "manual"] = "auto",
    slo: Slo = slo(),
    seed: int = 0,
) -> ModelSpec:
    """Declare a model: what it predicts, from what, how it is trained, and how it may change in production.

    Parameters
    ----------
    features
        Views, or the name of a module with on-request features (``"features.calendar"``).
    train
        ``fit(data: TrainingData, params) -> estimator``; the estimator must be exportable (see docs).
    on
        How far back to learn.
    holdout
        The tail kept back from training on which the floors are judged.
    budget
        Most retraining runs in a period, whatever the triggers say.
    approval
        ``"manual"``: a person approves before any challenger answers a request.

    Raises
    ------
    ProjectError
        When the declaration contradicts itself; ``trimtab check`` finds what only the whole project shows.
    """
    where = declared_at()
    if approval not in ("auto", "manual"):
        raise ProjectError("approval is neither auto nor manual", got=repr(approval), where=where)
    views = tuple(OnRequest(item, where) if isinstance(item, str) else item for item in features)
    if not views:
        raise ProjectError(
            f"model {name!r} has no features", hint="give it a view, or the name of a module", where=where
        )
    return ModelSpec(
        name=name,
        task=task,
        requests=requests,
        features=views,
        label=label,
        train=train,
        params=dict(params or {}),
        on=on,
        holdout=duration(holdout),
        gates=tuple(gates),
        retrain=tuple(retrain),
        rollout=tuple(rollout),
        budget=budget,
        approval=approval,
        slo=slo,
        seed=seed,
        where=where,
    )
