"""The model declaration: everything the loop needs to know, in one object."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trimtab.core.clock import Micros
from trimtab.errors import ProjectError
from trimtab.features import declared
from trimtab.features.sources import Source, declared_at
from trimtab.features.views import LatestView, OnRequest, View, WindowView
from trimtab.gates.declare import Comparison, Floor, Gate
from trimtab.loop.declare import Budget, Slo, Step, Trigger, canary, every, shadow, slo
from trimtab.serving.budget import PRESETS, LatencyBudget, budget_of
from trimtab.training.task import Fit, Label, Span, Task, all_history

_GATES = 'write gates=[tt.at_least("roc_auc", 0.7), tt.beats_champion("log_loss")]'
_RETRAIN = 'write retrain=[tt.every("28d")]'
_ROLLOUT = "write rollout=[tt.shadow(), tt.canary(0.1)]"


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
    latency_budget: LatencyBudget = PRESETS["table"]
    preprocess: str = ""
    """Module of the project whose function ``preprocess`` runs before the model; empty for none."""
    postprocess: str = ""
    """The same, after the model."""
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
    budget: Budget | tuple[int, str] = Budget(),
    approval: Literal["auto", "manual"] = "auto",
    slo: Slo = slo(),
    latency_budget: LatencyBudget | Mapping[str, float] | str | None = None,
    seed: int = 0,
    preprocess: str = "",
    postprocess: str = "",
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
        Most retraining runs in a period, whatever the triggers say: ``(4, "28d")``.
    approval
        ``"manual"``: a person approves before any challenger answers a request.
    latency_budget
        How long each part of an answer may take: the name of a preset (``"interactive"``, ``"table"``, ``"tail"``,
        ``"gate"``), or milliseconds by part of ``latency_p99``, as in ``{"pre": 25, "inference": 50}``. By default
        ``latency_p99`` is shared out. It changes no decision; `trimtab latency` holds it against what was measured.
    preprocess, postprocess
        Names of modules of the project (``"features.scaling"``). The function ``preprocess(values)`` makes of the
        features what the estimator is fitted on and the model is given; ``postprocess(outputs)`` makes of
        the model's outputs what is judged and answered. They travel in the version.

    Raises
    ------
    ProjectError
        When the declaration contradicts itself; ``trimtab check`` finds what only the whole project shows.
    """
    where = declared_at()
    declared.text(name, what="a model's name", where=where)
    if approval not in ("auto", "manual"):
        raise ProjectError("approval is neither auto nor manual", got=repr(approval), where=where)
    views = _views(name, features, where)
    if not views:
        raise ProjectError(
            f"model {name!r} has no features", hint="give it a view, or the name of a module", where=where
        )
    of = f"of model {name!r}"
    declared.a(
        Task, task, what=f"task= {of}", hint='write task=tt.binary(positive="...") or tt.regression', where=where
    )
    declared.a(Source, requests, what=f"requests= {of}", hint="pass what tt.Requests(...) returned", where=where)
    declared.a(Label, label, what=f"label= {of}", hint="write label=tt.label(source, column, ...)", where=where)
    declared.a(Span, on, what=f"on= {of}", hint='write on=tt.last("60d") or tt.all_history()', where=where)
    declared.a(Mapping, params or {}, what=f"params= {of}", hint='write a dict, as in {"depth": 3}', where=where)
    declared.a(Slo, slo, what=f"slo= {of}", hint='write slo=tt.slo(latency_p99="100ms")', where=where)
    declared.whole(seed, what=f"seed= {of}", where=where)
    _fit(name, train, where)
    return ModelSpec(
        name=name,
        task=task,
        requests=requests,
        features=views,
        label=label,
        train=train,
        params=dict(params or {}),
        on=on,
        holdout=declared.length(holdout, what=f"holdout= {of}", where=where, zero=True),
        gates=declared.every_one((Floor, Comparison), gates, what=f"gates= {of}", hint=_GATES, where=where),
        retrain=declared.every_one(Trigger, retrain, what=f"retrain= {of}", hint=_RETRAIN, where=where),
        rollout=declared.every_one(Step, rollout, what=f"rollout= {of}", hint=_ROLLOUT, where=where),
        budget=_budget(budget, of, where),
        approval=approval,
        slo=slo,
        seed=seed,
        latency_budget=budget_of(latency_budget, latency_p99_ms=slo.latency_p99_ms, where=where),
        preprocess=_module(preprocess, f"preprocess= {of}", where),
        postprocess=_module(postprocess, f"postprocess= {of}", where),
        where=where,
    )


def _module(name: str, what: str, where: str) -> str:
    hint = 'name a module of the project, as in "features.scaling"'
    found: str = declared.a(str, name, what=what, hint=hint, where=where)
    if found and not all(part.isascii() and part.isidentifier() for part in found.split(".")):
        raise ProjectError(f"{what} names no module", got=repr(found), hint=hint, where=where)
    return found


def _budget(budget: Budget | tuple[int, str], of: str, where: str) -> Budget:
    if isinstance(budget, Budget):
        return budget
    hint = 'write the most runs and the period, as in budget=(4, "28d")'
    pair = declared.a((tuple, list), budget, what=f"budget= {of}", hint=hint, where=where)
    if len(pair) != 2:
        raise ProjectError(f"budget= {of} is not a pair", got=repr(budget), hint=hint, where=where)
    return Budget(*pair)


def _views(name: str, features: Sequence[View | str], where: str) -> tuple[View, ...]:
    given = declared.every_one(
        (str, WindowView, LatestView, OnRequest),
        features,
        what=f"features= of model {name!r}",
        hint='write features=[tt.windows(...), tt.latest(...), "features.calendar"]',
        where=where,
    )
    return tuple(OnRequest(item, where) if isinstance(item, str) else item for item in given)


def _fit(name: str, train: Fit, where: str) -> None:
    """Training runs in a process of its own, hours later: that it cannot be called is said now."""
    if not callable(train):
        return  # a rule of `trimtab check` says so, beside all other problems
    try:
        signature = inspect.signature(train)
    except (TypeError, ValueError):  # compiled code that does not say
        return
    try:
        signature.bind(None, {})
    except TypeError as error:
        raise ProjectError(
            f"train= of model {name!r} does not take data and params",
            got=f"{getattr(train, '__name__', 'train')}{signature}: {error}",
            hint="define it as fit(data, params)",
            where=where,
        ) from None
