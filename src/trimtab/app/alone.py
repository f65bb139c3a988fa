"""Each part by itself, from Python and without a project.

>>> from trimtab.app.alone import drift, historical_features, register_model, serve_model

What neither an exporter nor ONNX covers, handlers and pyfunc models, is in :mod:`trimtab.app.registering`.

Times are microseconds since 1970 or anything numpy knows as ``datetime64``; a frame is anything with named columns: a
mapping of arrays, a pandas, polars or Arrow table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.app.served_model import ServedModel, serve_model
from trimtab.core.clock import Micros
from trimtab.core.frames import column_names, column_values
from trimtab.datasets.validation import Quarantine, validate
from trimtab.errors import InputError, SchemaError, UnknownName
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History, point_in_time
from trimtab.features.plan import compile_plan
from trimtab.features.sources import Entity, Requests, Source
from trimtab.features.views import LatestView, WindowView
from trimtab.monitoring.drift import ColumnDrift, DriftPolicy, compare_frames
from trimtab.registry.manifest import Tensor
from trimtab.serving.transforms import Stage
from trimtab.training.task import Task

__all__ = [
    "HistoricalFeatures",
    "ServedModel",
    "Signature",
    "drift",
    "historical_features",
    "register_model",
    "serve_model",
]

Signature = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""Inputs and outputs, as in ``((Tensor("tokens", "int64", (-1, 16)),), (Tensor("scores", "float32", (-1, 2)),))``."""
_ROW = "row number"


@dataclass(frozen=True, slots=True)
class HistoricalFeatures:
    """The features of each question, as they were known when it was asked."""

    names: list[str]
    """Of the features, in the order of the columns of ``values``."""
    values: NDArray[np.float32]
    """Shape (n, features), rows in the order of the questions; NaN where there is no value."""
    quarantine: Mapping[str, Quarantine]
    """By source: the rows that could not be believed and were left out, and why."""

    def columns(self) -> dict[str, NDArray[np.float32]]:
        """The features by name, each of shape (n,): what a data frame is made of."""
        return {name: self.values[:, place] for place, name in enumerate(self.names)}


def historical_features(
    questions: object,
    features: Sequence[WindowView | LatestView] | WindowView | LatestView,
    sources: Mapping[str, object],
    *,
    at: str,
) -> HistoricalFeatures:
    """Features for a data frame of one's own, each from what was known when its row was asked.

    Parameters
    ----------
    questions
        A frame with a column for the time of asking and one for each entity that the features are about.
    features
        Made by :func:`trimtab.windows` and :func:`trimtab.latest`; one, or a list of them.
    sources
        The rows of each source that the features read, by its name: frames with every column it declares.
    at
        The column of ``questions`` with the time of asking.

    Raises
    ------
    SchemaError
        When a column is missing, or a question has no usable time or key.
    UnknownName
        When the rows of a source are missing, or no feature reads one that was given.

    Examples
    --------
    >>> from trimtab import Entity, Events, windows
    >>> shop = Entity("shop")
    >>> sales = Events("sales", time="at", known="seen", keys=[shop], schema={})
    >>> rows = {"at": np.array([1, 2]), "seen": np.array([1, 9]), "shop": np.array(["a", "a"])}
    >>> asked = {"shop": np.array(["a"]), "when": np.array([5])}
    >>> views = [windows(sales, by=[shop], over=["1h"], count="*")]
    >>> historical_features(asked, views, {"sales": rows}, at="when").columns()
    {'sales.shop.count_1h': array([1.], dtype=float32)}
    """
    views = [features] if isinstance(features, WindowView | LatestView) else features
    declared = _declared(views, sources)
    asked = Requests("questions", id=_ROW, at=at, keys=_entities(views), inputs={})
    plan = compile_plan(asked, views, {})
    histories, quarantine = {}, {}
    for name, source in declared.items():
        found = validate(source, _raw(sources[name]))
        histories[name], quarantine[name] = History.of(source, found.columns), found.quarantine
    batch = _batch(asked, questions)
    return HistoricalFeatures(plan.names(), point_in_time(plan, histories, batch, {}), quarantine)


def _declared(features: Sequence[WindowView | LatestView], sources: Mapping[str, object]) -> dict[str, Source]:
    for view in features:
        if not isinstance(view, WindowView | LatestView):
            raise InputError(
                "not a feature over a source",
                got=repr(view)[:80],
                hint="use trimtab.windows and trimtab.latest; what follows from the question alone needs no history",
            )
    declared = {view.source.name: view.source for view in features}
    if odd := sorted(set(declared) ^ set(sources)):
        missing = odd[0] in declared
        raise UnknownName(
            "the rows of a source are missing" if missing else "no feature reads that source",
            got=repr(odd[0]),
            hint=f"sources={{{', '.join(f'{name!r}: frame' for name in sorted(declared))}}}",
        )
    return declared


def _entities(features: Sequence[WindowView | LatestView]) -> list[Entity]:
    found: dict[str, Entity] = {}
    for view in features:
        for entity in view.by if isinstance(view, WindowView) else view.source.keys:
            found.setdefault(entity.name, entity)
    return list(found.values())


def _raw(frame: object) -> dict[str, NDArray[np.generic]]:
    return {name: column_values(frame, name) for name in column_names(frame)}


def _batch(asked: Source, questions: object) -> RequestBatch:
    """The questions, typed; one that cannot be read is an error, because an answer would be missing its row."""
    raw = _raw(questions)
    rows = len(raw[asked.time]) if asked.time in raw else 0
    found = validate(asked, raw | {_ROW: np.arange(rows).astype(np.str_)})
    if found.quarantine.total:
        bad = found.quarantine.rows[0]
        raise SchemaError(
            f"{found.quarantine.total} of {rows} questions cannot be used",
            got=f"row {bad.index}: {bad.column} is {bad.value}, {bad.reason}",
            hint="mend these rows, or take them out",
        )
    columns = found.columns
    asked_at = columns[asked.time].astype(np.int64, copy=False)
    return RequestBatch(columns[_ROW].tolist(), asked_at, {name: columns[name] for name in asked.key_names}, {})


def drift(reference: object, current: object, *, policy: DriftPolicy = DriftPolicy()) -> dict[str, ColumnDrift]:
    """How the columns of one data frame differ from those of another; see
    :func:`trimtab.monitoring.drift.compare_frames`.

    Raises
    ------
    InputError
        When the columns of a frame are not of one length.
    UnknownName
        When a column of the reference is absent from ``current``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> drift({"age": rng.normal(40, 9, 20_000)}, {"age": rng.normal(47, 9, 3_000)})["age"].severity
    'critical'
    """
    for said, frame in (("reference", reference), ("current", current)):
        lengths = {name: len(column_values(frame, name)) for name in column_names(frame)}
        if len(set(lengths.values())) > 1:
            raise InputError(
                f"the columns of the {said} frame are not of one length",
                got=", ".join(f"{name}: {rows}" for name, rows in lengths.items()),
                hint="give one value per row in every column",
            )
    return compare_frames(reference, current, policy=policy)


def register_model(
    home: Path | str,
    model: Any,
    *,
    name: str,
    task: Task | None = None,
    columns: Sequence[str] = (),
    optional: Sequence[str] = (),
    signature: Signature | None = None,
    rows: NDArray[np.float32] | None = None,
    trained_until: Micros = 0,
    stages: Mapping[Stage, Path | str] | None = None,
) -> str:
    """Pack a model that is already trained as a version, into the directory ``home``.

    Parameters
    ----------
    home
        A directory; made when it is missing.
    model
        A fitted estimator of LightGBM, XGBoost, CatBoost, scikit-learn or PyTorch, or the bytes of an ONNX file.
    name
        What it is called in ``/predict/<name>``.
    task
        What it predicts; None for an ONNX file whose outputs are no predictions of a task.
    columns
        Names of its input columns, in order. Without any, an ONNX file is served by its tensors, of any shape and
        type, at ``/v2/models/<name>/infer``.
    optional
        Those of them that a request may leave out or send as NaN; the model then sees NaN. A row without
        any other column is refused.
    signature
        Inputs and outputs of such a file, where it leaves sizes open or some of its outputs are not wanted.
    rows
        Real rows, shape (n, columns): needed for an estimator, whose export must agree with it on them.
    trained_until
        It saw nothing after this; 0 when unknown.
    stages
        Your own code around the model: Python files by ``preprocess`` and ``postprocess``; they travel in the version.

    Returns
    -------
    str
        The version. The same model gives the same version again.

    Raises
    ------
    InputError
        When the model and the columns do not fit, or nothing can export it.
    ParityError
        When the exported model says something else than the estimator.
    """
    from trimtab.adapters.models.register import register
    from trimtab.app.home import Home

    blobs = Home(Path(home)).made().blobs()
    return register(
        blobs,
        model,
        name=name,
        task=task,
        feature_names=columns,
        optional=optional,
        signature=signature,
        rows=rows,
        trained_until=trained_until,
        stages=_stages(stages or {}),
    )


def _stages(given: Mapping[Stage, Path | str]) -> dict[Stage, str]:
    if odd := sorted(set(given) - {"preprocess", "postprocess"}):
        raise InputError("no such stage", got=", ".join(odd), hint="preprocess or postprocess")
    try:
        return {stage: Path(file).read_text(encoding="utf-8") for stage, file in given.items()}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the code of a stage cannot be read", got=str(error)) from None
