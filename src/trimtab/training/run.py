"""One training run: fit, export, judge the exported model on a held-out tail, describe it. No I/O.

What is judged is what will serve: every prediction here comes from the exported model, never from the estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import DAY, Micros
from trimtab.core.ids import Json, canonical
from trimtab.datasets.frozen import Dataset, FrozenSplit
from trimtab.errors import ProjectError, SchemaError
from trimtab.features.plan import Plan
from trimtab.stats.metrics import evaluate, losses
from trimtab.training.card import model_card
from trimtab.training.export import Exported, Exporter
from trimtab.training.preparing import check_after, check_probabilities, prepared_split
from trimtab.training.stages import Stages
from trimtab.training.task import Fit, Task, TrainingData

Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""(n, features) float32 to (n,) float64, or (n, k) for k outputs."""

Profile = Callable[[Dataset, NDArray[np.float64], Dataset, NDArray[np.float64]], bytes]
"""Training rows, predictions for them, held-out rows, predictions for them → the reference profile as JSON."""

Timer = Callable[[], int]
"""Nanoseconds of a clock that does not go backwards."""

PARITY_ROWS = 20_000
_WARM, _TIMED = 50, 1000


@dataclass(frozen=True)
class TrainingSpec:
    """What to train; everything that decides about the outcome besides the data.

    Parameters
    ----------
    model
        Name of the model.
    task, fit, params, seed
        As the project declares them.
    plan
        The feature plan; its names are the columns of the data.
    code_revision
        Of the project's code; empty when it is not under version control.
    description
        What the model is for, in a sentence or two; goes into the model card.
    stages
        What runs before and after the model wherever it is asked, also here.
    """

    model: str
    task: Task
    fit: Fit
    plan: Plan
    params: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0
    code_revision: str = ""
    description: str = ""
    stages: Stages = Stages()


@dataclass(frozen=True)
class Champion:
    """The version in production, to be scored on the same held-out rows.

    ``predict`` takes features to what it answers, through its own stages.
    ``holdout`` holds those rows as *its* plan computes them, when that plan differs; None: the same columns.
    """

    version: str
    trained_until: Micros
    plan_digest: str
    predict: Predict
    holdout: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ChampionScore:
    """How the champion did on the held-out rows, or why it was not scored."""

    version: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    daily_gains: tuple[float, ...] = ()
    skipped: str = "there is no champion"


@dataclass(frozen=True)
class TrainedModel:
    """The outcome of a run, ready to be packed (see :func:`trimtab.registry.assemble.assemble`)."""

    spec: TrainingSpec
    exported: Exported
    dataset: str
    rows: int
    holdout_rows: int
    trained_until: Micros
    cutoff: Micros
    metrics: dict[str, float]
    train_metrics: dict[str, float]
    champion: ChampionScore
    profile: bytes
    card: str
    p99_ms: float
    train_seconds: float


def train(
    spec: TrainingSpec,
    data: FrozenSplit,
    *,
    exporter: Exporter,
    profile: Profile,
    timer: Timer,
    champion: Champion | None = None,
) -> TrainedModel:
    """Fit a model on the training part and judge its exported form on the held-out tail.

    With stages, it is fitted on what ``preprocess`` makes of the features, its export is compared on the same, and all
    that is judged comes from what ``postprocess`` makes of its outputs. The profile of the features is of the features.

    Equal ``spec`` and ``data`` give an equal model, card and profile, as long as ``spec.fit`` takes everything random
    from the seed; only ``p99_ms`` and ``train_seconds`` are measured.

    Raises
    ------
    ProjectError
        When the training function returns nothing, the parameters are not JSON, or a stage cannot be right.
    SchemaError
        When the data are not the columns of the plan, or a binary label is not 0 or 1.
    ParityError, InputError, MissingExtra
        See :class:`trimtab.training.export.Exporter`.
    """
    _check(spec, data)
    began = timer()
    made = prepared_split(spec.stages, data)
    estimator = _fit(spec, made.train)
    train_seconds = (timer() - began) / 1e9
    exported = exporter.export(estimator, _parity_rows(made), task=spec.task)
    predict = _answering(spec, exported, data)
    on_train = predict(data.train.X)
    on_holdout = predict(data.holdout.X) if len(data.holdout) else exported.predict(made.holdout.X)
    for said in (on_train, on_holdout):
        check_probabilities(spec.stages, said, spec.task)
    metrics = _evaluate(spec.task, data.holdout.y, on_holdout)
    train_metrics = _evaluate(spec.task, data.train.y, on_train)
    score = score_champion(spec, data, on_holdout, champion=champion)
    return TrainedModel(
        spec=spec,
        exported=exported,
        dataset=data.digest,
        rows=len(data.train),
        holdout_rows=len(data.holdout),
        trained_until=data.trained_until,
        cutoff=data.cutoff,
        metrics=metrics,
        train_metrics=train_metrics,
        champion=score,
        profile=profile(data.train, on_train, data.holdout, on_holdout),
        card=_card(spec, data, exported, metrics=metrics, train_metrics=train_metrics),
        p99_ms=one_row_p99(predict, data.holdout.X if len(data.holdout) else data.train.X, timer=timer),
        train_seconds=train_seconds,
    )


def _check(spec: TrainingSpec, data: FrozenSplit) -> None:
    names = tuple(spec.plan.names())
    if names and data.train.names != names:
        raise SchemaError(
            "the data are not the columns of the plan",
            got=f"{len(data.train.names)} columns, the plan has {len(names)}",
            hint="freeze the dataset with the names of the plan",
        )
    try:
        canonical(dict(spec.params))
    except (TypeError, ValueError) as error:
        raise ProjectError(
            f"the parameters of model {spec.model!r} are not JSON",
            got=str(error),
            hint="use numbers, strings, booleans, lists and dicts, so that a run can be repeated",
        ) from None
    for part in (data.train, data.holdout):
        if spec.task.kind == "binary" and not np.isin(part.y, (0.0, 1.0)).all():
            raise SchemaError(
                "a binary label is neither 0 nor 1",
                got=str(part.y[~np.isin(part.y, (0.0, 1.0))][0]),
                hint="declare the label column as bool",
            )
        if spec.task.kind == "regression" and part.y.shape[1:] != ((spec.task.outputs,) if spec.task.names else ()):
            raise SchemaError(
                "the labels are not the numbers of the task", got=f"shape {part.y.shape}", hint=spec.task.target
            )


def _fit(spec: TrainingSpec, part: Dataset) -> Any:
    estimator = spec.fit(TrainingData(part.X, part.y, part.names, part.at, spec.seed), dict(spec.params))
    if estimator is None:
        raise ProjectError(
            f"the training function of model {spec.model!r} returned nothing", hint="return the fitted estimator"
        )
    return estimator


def _answering(spec: TrainingSpec, exported: Exported, data: FrozenSplit) -> Predict:
    """What will serve: the exported model, with the stages around it, which were tried on some rows."""
    if not spec.stages:
        return exported.predict

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        # Back to what a runtime gives and a stage takes; nothing is lost, since each was a float32 before.
        return exported.predict(values).astype(np.float32).reshape(len(values), spec.task.outputs)

    check_after(spec.stages, run, data, task=spec.task)
    return spec.stages.around(run)


def _card(
    spec: TrainingSpec,
    data: FrozenSplit,
    exported: Exported,
    *,
    metrics: Mapping[str, float],
    train_metrics: Mapping[str, float],
) -> str:
    return model_card(
        model=spec.model,
        task=spec.task,
        description=spec.description,
        data=data,
        metrics=metrics,
        train_metrics=train_metrics,
        parity=exported.parity,
        facts={
            "params": dict(spec.params),
            "seed": spec.seed,
            "code_revision": spec.code_revision,
            "libraries": dict(exported.libraries),
            **spec.stages.named,
        },
    )


def _parity_rows(data: FrozenSplit) -> NDArray[np.float32]:
    """The rows on which export parity is checked: all held-out ones first, then evenly spaced training rows."""
    held = data.holdout.X[:PARITY_ROWS]
    wanted = min(PARITY_ROWS - len(held), len(data.train))
    spaced = np.linspace(0, len(data.train) - 1, num=wanted).astype(np.int64)
    return np.concatenate([held, data.train.X[spaced]])


def _evaluate(task: Task, y: NDArray[np.float64], prediction: NDArray[np.float64]) -> dict[str, float]:
    if not len(y):
        return {}
    found = evaluate(task.kind, y, prediction)
    return {name: float(value) for name, value in sorted(found.items()) if np.isfinite(value)}


def score_champion(
    spec: TrainingSpec, data: FrozenSplit, challenger: NDArray[np.float64], *, champion: Champion | None
) -> ChampionScore:
    """Score the champion on the held-out rows beside the challenger, where that is fair to both.

    A champion that learned from rows of the tail is not scored: it would look better than it is.
    """
    if champion is None or not len(data.holdout):
        return ChampionScore(skipped="there is no champion" if champion is None else "nothing was held out")
    if champion.trained_until >= int(data.holdout.at[0]):
        return ChampionScore(champion.version, skipped="the champion learned from rows of the held-out tail")
    rows = champion.holdout
    if rows is None and champion.plan_digest != spec.plan.digest:
        return ChampionScore(champion.version, skipped="the champion has other features")
    predicted = champion.predict(data.holdout.X if rows is None else rows)
    gain = losses(spec.task.loss, data.holdout.y, predicted) - losses(spec.task.loss, data.holdout.y, challenger)
    return ChampionScore(
        champion.version,
        metrics=_evaluate(spec.task, data.holdout.y, predicted),
        daily_gains=daily_means(data.holdout.at, gain),
        skipped="",
    )


def daily_means(at: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[float, ...]:
    """Means of values by UTC day of ``at``, for the days that have any, oldest first.

    Examples
    --------
    >>> daily_means(np.array([0, 1, 90_000_000_000]), np.array([1.0, 3.0, 5.0]))
    (2.0, 5.0)
    """
    _, day = np.unique(at // DAY, return_inverse=True)
    sums = np.bincount(day, weights=values)
    return tuple((sums / np.bincount(day)).tolist())


def one_row_p99(predict: Predict, rows: NDArray[np.float32], *, timer: Timer, times: int = _TIMED) -> float:
    """Milliseconds that one-row inference takes at the 99th percentile, warm, over these rows in turn."""
    taken = []
    for turn in range(_WARM + times):
        row = rows[turn % len(rows)][None, :]
        began = timer()
        predict(row)
        taken.append(timer() - began)
    warm = sorted(taken[_WARM:])
    return warm[max(0, -(-99 * len(warm) // 100) - 1)] / 1e6
