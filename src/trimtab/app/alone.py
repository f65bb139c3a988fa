"""Each part by itself, from Python and without a project.

>>> from trimtab.app.alone import drift, historical_features, register_model, serve_model

What neither an exporter nor ONNX covers, handlers and pyfunc models, is in :mod:`trimtab.app.registering`.

Times are microseconds since 1970 or anything numpy knows as ``datetime64``; a frame is anything with named columns: a
mapping of arrays, a pandas, polars or Arrow table.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.core.frames import column_names, column_values
from trimtab.datasets.validation import Quarantine, validate
from trimtab.errors import InputError, SchemaError, Unavailable, UnknownName
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History, point_in_time
from trimtab.features.plan import compile_plan
from trimtab.features.sources import Entity, Requests, Source
from trimtab.features.views import LatestView, WindowView
from trimtab.monitoring.drift import ColumnDrift, DriftPolicy, compare_frames
from trimtab.registry.manifest import Tensor
from trimtab.serving.transforms import Stage
from trimtab.training.task import Task

Signature = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""Inputs and outputs, as in ``((Tensor("tokens", "int64", (-1, 16)),), (Tensor("scores", "float32", (-1, 2)),))``."""
_ROW = "row number"
_READY_S = 20.0
_STOP_S = 20.0


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


@dataclass
class ServedModel:
    """A model that answers over HTTP, in a process of its own; made by :func:`serve_model`."""

    home: Path
    model: str
    version: str
    url: str
    """``http://host:port``; the model is at ``/predict/<model>`` and ``/v2/models/<model>/infer``."""
    process: subprocess.Popen[bytes] = field(repr=False)
    grpc: str = ""
    """``host:port`` of the Open Inference Protocol over gRPC; empty when it was not asked for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def predict(self, rows: Sequence[Mapping[str, float | None]]) -> NDArray[np.float64]:
        """Ask it over HTTP: one mapping per row, by column name; shape (n,), or (n, k) for k outputs.

        Numbers may be of numpy.

        Raises
        ------
        InputError
            When a column is missing, or NaN, that was not registered as optional.
        """
        from trimtab.adapters.wire.client import JsonClient

        with JsonClient(self.url) as client:
            answer = client.post(f"/predict/{self.model}", {"instances": [_plain(row) for row in rows]})
        return np.array([one["prediction"] for one in answer["predictions"]], np.float64)

    def stop(self) -> None:
        """Let it answer what it has accepted, then end it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def _plain(row: Mapping[str, float | None]) -> dict[str, float | None]:
    """A row as JSON has it: numbers of Python's own, and null for NaN."""
    found = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    return {name: None if value != value else value for name, value in found.items()}  # noqa: PLR0124 - only NaN is unlike itself


def serve_model(
    home: Path | str, version: str, *, host: str = "127.0.0.1", port: int = 8080, grpc_port: int | None = None
) -> ServedModel:
    """Serve a registered version over HTTP, from a worker process, until it is stopped; see ``docs/alone-serve.md``.

    Parameters
    ----------
    home
        The directory it was registered in; answers are recorded there too, below ``records``.
    port
        0 takes a free one; :attr:`ServedModel.url` says which.
    grpc_port
        Given when it is to be served over gRPC too, which needs ``pip install 'trimtab[grpc]'``; 0 as above.

    Raises
    ------
    UnknownName
        When there is no such version.
    BundleCorrupt
        When a byte of it has changed.
    InputError
        When it belongs to a project: its features need the project's data.
    Unavailable
        When ``home`` serves a model already, the port is taken, or the worker does not start.
    """
    from trimtab.adapters.compute.supervisor import read_post
    from trimtab.adapters.wire.routefile import write_routes
    from trimtab.app import worker
    from trimtab.app.home import Home, segment_bytes, setting
    from trimtab.app.shortcuts import shortcut_options
    from trimtab.registry.bundle import load
    from trimtab.serving.routing import Arm, Route, RouteTable, decode_table

    place = Home(Path(home).resolve()).made()
    bundle = load(place.blobs(), version)
    if bundle.plan.parts:
        raise InputError(
            "this version needs the features of its project", got=version[:12], hint="start its project: trimtab up"
        )
    model = bundle.manifest.model
    if read_post(place.run, worker.post_name(1)).held:
        raise Unavailable("this home serves a model already", got=str(place.root), hint="stop it, or use another home")
    place.online()  # the worker opens the store, though this model reads nothing from it
    table = decode_table(place.route_file.read_bytes()) if place.route_file.exists() else RouteTable(0, {})
    route = Route(model, (Arm("champion", version, 1.0),))
    write_routes(place.route_file, RouteTable(table.generation + 1, {model: route}))
    options = worker.WorkerOptions(
        host=host,
        port=port,
        providers=setting("providers"),
        model_python=setting("model_python"),
        **(shortcut_options() | {"records_segment": segment_bytes()}),
        grpc_port=-1 if grpc_port is None else grpc_port,
    )
    log = place.run / "worker.log"
    with log.open("ab") as output:
        command = [sys.executable, "-m", worker.MODULE, *worker.command(place.root, 1, options)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603 - our own module
    return _ready(ServedModel(place.root, model, version, "", process), log, grpc=grpc_port is not None)


def _ready(served: ServedModel, log: Path, *, grpc: bool) -> ServedModel:
    """Wait until the worker says where it listens."""
    from trimtab.adapters.wire.status import read_status, takes_connections
    from trimtab.app.worker import post_name

    deadline, problem = time.monotonic() + _READY_S, "it does not start"
    while served.process.poll() is None and time.monotonic() < deadline:
        status = read_status(served.home / "run" / f"{post_name(1)}.json")
        if status is not None and status.pid == served.process.pid:
            complete = served.version in status.versions and (status.grpc_port > 0 or not grpc)
            if complete and takes_connections(status):
                served.url = f"http://{status.host}:{status.port}"
                served.grpc = f"{status.host}:{status.grpc_port}" if grpc else ""
                return served
            problem = status.problem
        time.sleep(0.005)
    served.stop()
    raise Unavailable("the model is not served", got=problem, hint=f"see {log}")
