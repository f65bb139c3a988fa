"""A serving worker: one process, one event loop, no control process needed.

It is handed its parts (ports) by :mod:`trimtab.app`, obeys the route file, and answers until it is told to stop.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from trimtab.adapters.wire.accesslog import AccessLog
from trimtab.adapters.wire.grpc_calls import CallWatch
from trimtab.adapters.wire.grpc_plane import GrpcPlane
from trimtab.adapters.wire.handover import Door
from trimtab.adapters.wire.http import DataPlane
from trimtab.adapters.wire.listening import listening_socket
from trimtab.adapters.wire.metrics import WorkerMetrics
from trimtab.adapters.wire.obeying import Obeying
from trimtab.adapters.wire.observed import ObservedPlane
from trimtab.adapters.wire.routefile import replace_file
from trimtab.adapters.wire.status import WorkerStatus
from trimtab.adapters.wire.syncing import Syncing
from trimtab.adapters.wire.tracing import Traces, open_traces
from trimtab.core.clock import Clock
from trimtab.core.ids import Json
from trimtab.core.ports import Records
from trimtab.errors import InputError, Unavailable
from trimtab.serving.codec import MAX_ROWS
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.engine import Engine, Loader
from trimtab.serving.lanes import bounds_of
from trimtab.serving.pipeline import Pipeline, Timer
from trimtab.serving.ports import Precomputed
from trimtab.serving.profile import MAX_BATCH, ServingProfile
from trimtab.serving.recordmode import KeptRecords, read_mode
from trimtab.serving.shortcuts import take_shortcuts

_log = logging.getLogger("trimtab.serving")
_BACKLOG = 2048
_COLLECT = (50_000, 20, 20)
"""Requests leave no cycles behind; looking for them after every 700 objects costs more than it finds."""


@dataclass(frozen=True)
class Worker:
    """The parts of a worker.

    Parameters
    ----------
    load
        Loads a version: opens its bundle, its online rows and its runtime. Called in a thread of its own.
    records
        Written from the event loop's thread only, and forced to disk from another; its writer name must be this
        worker's own.
    clock
        Says when a request was asked; real, or driven from outside.
    timer
        Monotonic nanoseconds.
    new_id
        Ids for requests that come without one.
    page
        Makes the page of the OpenAPI description; None for no page.
    ahead
        Finds the answers that were computed ahead; None never looks for any.
    """

    load: Loader
    records: Records
    clock: Clock
    timer: Timer
    new_id: Callable[[], str]
    page: Callable[[Json], str] | None = None
    ahead: Callable[[], Precomputed | None] | None = None


@dataclass(frozen=True)
class WorkerSettings:
    """Where a worker listens, and its bounds."""

    number: int
    route_file: Path
    status_file: Path
    """``run/worker-<n>.json``; see :class:`WorkerStatus`."""
    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one; the status file says which."""
    max_body: int = 1_048_576
    max_rows: int = MAX_ROWS
    max_queue: int = 1024
    max_batch: int = MAX_BATCH
    deadline_ms: int = 0
    shadow_limit: int = 10_000
    poll_ms: int = 20
    retry_s: float = 1.0
    """How soon a route table that could not be loaded is tried again."""
    sync_s: float = 1.0
    """How often what was recorded is forced to disk: what a power cut may cost."""
    server: str = "httptools"
    """What carries HTTP: our own ``httptools``, or the maintained ``uvicorn``."""
    drain_s: int = 10
    """How long a stopping worker waits for answers that are under way."""
    software: str = ""
    metrics_folder: Path | None = None
    """Where the workers of a home count, each in a file of its own; None counts in memory."""
    access_log: Path | None = None
    """A line per request goes there; None writes none."""
    access_log_share: float = 1.0
    trace_share: float = 0.0
    """Of requests without a trace of their own that are traced; 0 traces nothing at all."""
    grpc_port: int = -1
    """Port of the Open Inference Protocol over gRPC; 0 takes a free one, -1 serves none."""
    cache_bytes: int = 0
    """Most bytes of the cache of predictions; 0 for no cache."""
    cache_ttl_ms: int = 60_000
    """How long a prediction in the cache is good for."""
    records: str = "sync"
    """When records are written; see :class:`trimtab.serving.recordmode.RecordMode`."""
    records_when_full: str = "refuse"
    """``refuse`` to answer what cannot be recorded, or ``drop`` records and count them."""
    profile: ServingProfile | None = None
    """Batches per model."""
    stand_in: bool = False
    """It is to stay for a moment only, and accepts from the listening socket of another worker."""


def serve(worker: Worker, settings: WorkerSettings) -> None:
    """Run a worker until SIGTERM or SIGINT, then answer what was accepted and return.

    The route table that stands in the route file is loaded before the first connection is taken.

    Raises
    ------
    Unavailable
        When the address cannot be bound.
    """
    listener = listening_socket(settings.host, settings.port)
    process = _Process(worker, settings, listener)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, process.stop)  # uvicorn handles them while it serves, and raises them again afterwards
    with listener, asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(process.run())


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


class _Server(Protocol):
    """What carries HTTP."""

    def stop(self) -> None:
        """End :meth:`run`, or keep it from beginning."""
        ...

    async def run(self, listener: socket.socket, ready: Callable[[], None] | None = None) -> None:
        """Answer until stopped, then finish what was accepted; call ``ready`` when it begins."""
        ...


def _server(plane: ObservedPlane, settings: WorkerSettings, door: Door) -> _Server:
    match settings.server:
        case "httptools":
            from trimtab.adapters.wire.limits import Limits
            from trimtab.adapters.wire.server import HttpServer

            return HttpServer(plane, Limits(body=settings.max_body), drain_s=settings.drain_s, door=door)
        case "uvicorn":
            from trimtab.adapters.wire.asgi import UvicornServer

            return UvicornServer(plane, max_body=settings.max_body, drain_s=settings.drain_s)
    raise InputError("no such HTTP server", got=repr(settings.server), hint="httptools or uvicorn")


def _sinks(settings: WorkerSettings, metrics: WorkerMetrics) -> list[AccessLog | Traces]:
    found: list[AccessLog | Traces] = []
    if settings.access_log is not None:
        dropped = metrics.meter.counter("trimtab_access_log_dropped_total")
        found.append(AccessLog(settings.access_log, share=settings.access_log_share, dropped=dropped))
    if settings.trace_share:
        found.append(open_traces(settings.trace_share, software=settings.software))
    return found


class _Process:
    """What runs in the worker's event loop."""

    def __init__(self, worker: Worker, settings: WorkerSettings, listener: socket.socket) -> None:
        self._worker, self._settings, self._listener = worker, settings, listener
        self._engine = Engine(Pipeline(worker.timer), shadow_limit=settings.shadow_limit, max_rows=settings.max_rows)
        name = f"worker-{settings.number}-{os.getpid()}-{worker.timer():x}"
        metrics = WorkerMetrics(settings.metrics_folder, name, clock=worker.clock)
        bounds = {"cache_bytes": settings.cache_bytes, "cache_ttl_ms": settings.cache_ttl_ms}
        take_shortcuts(self._engine, metrics.meter, **bounds, ahead=worker.ahead)
        self._records = KeptRecords(
            worker.records,
            read_mode(settings.records),
            meter=metrics.meter,
            timer=worker.timer,
            when_full=settings.records_when_full,
            complain=_log.error,
            relieved=_log.warning,
        )
        recorded = self._engine.counts.total
        self._syncing = Syncing(self._records, worker.records, recorded=recorded, every_s=settings.sync_s)
        dispatcher = Dispatcher(
            self._engine,
            self._records,
            clock=worker.clock,
            new_id=worker.new_id,
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            deadline_ms=settings.deadline_ms,
        )
        dispatcher.queue.bounds = bounds_of(settings.profile, settings.max_batch, settings.max_queue)
        dispatcher.settling.watcher = metrics.meter
        self._plane = DataPlane(
            dispatcher, software=settings.software, page=worker.page, metrics=metrics, hindered=self._hindered
        )
        self._sinks = _sinks(settings, metrics)
        observed = ObservedPlane(
            self._plane,
            metrics.meter,
            handing=dispatcher.settling,
            timer=worker.timer,
            clock=worker.clock,
            new_id=worker.new_id,
            sinks=self._sinks,
        )
        self._grpc = None  # its library is imported only where it is wanted
        if settings.grpc_port >= 0:
            watch = CallWatch(metrics.meter, handing=dispatcher.settling, timer=worker.timer, clock=worker.clock,
                              new_id=worker.new_id, sinks=self._sinks)  # fmt: skip
            self._grpc = GrpcPlane(
                dispatcher, wake=self._plane.wake, watch=watch, software=settings.software, hindered=self._hindered
            )
        self._grpc_port = -1
        self._obeying = Obeying(
            self._engine, worker.load, settings.route_file, tell=self._tell, poll_s=settings.poll_ms / 1000,
            retry_s=settings.retry_s,
        )  # fmt: skip
        self._door = Door(settings.status_file.with_suffix(".door"), settings.number, stand_in=settings.stand_in)
        self._server = _server(observed, settings, self._door)
        self._problem, self._accepts = "", False
        self._started = worker.clock.now()

    async def run(self) -> None:
        """Load, listen, obey the route file; at the end flush the shadow queue."""
        settings = self._settings
        with self._obeying:
            await self._obeying.begin()
            await self._listen()
            if self._grpc is not None:
                self._grpc_port = await self._grpc.start(
                    settings.host, settings.grpc_port, max_body=settings.max_body, max_waiting=settings.max_queue,
                    drain_s=settings.drain_s,
                )  # fmt: skip
            gc.collect()
            gc.freeze()  # what is loaded lives as long as the process; collections need not look at it again
            gc.set_threshold(*_COLLECT)
            self._records.later = asyncio.get_running_loop().call_later
            steps = (self._obeying.run(), self._plane.shadow.run(), self._syncing.run(self._plane.look))
            tasks = [asyncio.create_task(step) for step in steps]
            try:
                await self._server.run(self._listener, self._ready)
            finally:
                if self._grpc is not None:
                    await self._grpc.stop()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(Unavailable):  # `close` has the last word
                self._records.flush()  # answers first, if the supervisor's patience ends
            self._plane.shadow.finish()
            self._plane.look()
            self._records.close()
            await self._syncing.sync()
            for sink in self._sinks:
                sink.close()

    async def _listen(self) -> None:
        """On the socket of a predecessor, or our own; not sooner: the kernel would give connections to us at once."""
        found = await asyncio.to_thread(self._door.ask, self._settings.port) if self._settings.port else None
        if found is None:
            self._listener.listen(_BACKLOG)
        else:
            self._listener.close()
            self._listener = found

    def _hindered(self) -> str:
        return self._records.unwritable

    def stop(self, _number: int, _frame: object) -> None:
        """Do not begin to serve, or end it; uvicorn does the same with a signal that comes while it serves."""
        self._server.stop()
        if self._grpc is not None:  # beside the callers over HTTP
            self._grpc.leave()

    def _ready(self) -> None:
        self._accepts = True
        self._tell(self._problem)

    def _tell(self, problem: str = "") -> None:
        """Write the status; not before connections are accepted, for a worker with a status counts as ready."""
        if problem and problem != self._problem:
            _log.error("the route table is not in force: %s", problem)
        self._problem = problem
        if not self._accepts:
            return
        live, port = self._engine.live, self._listener.getsockname()[1]
        status = WorkerStatus(
            number=self._settings.number,
            pid=os.getpid(),
            started=self._started,
            host=self._settings.host,
            port=port,
            generation=live.table.generation,
            versions=tuple(sorted(live.deployed)),
            problem=problem,
            missing=dict(live.missing),
            ahead=dict(self._obeying.ahead),
            grpc_port=self._grpc_port,
        )
        try:
            replace_file(self._settings.status_file, msgspec.json.encode(status))
        except Unavailable:
            _log.exception("the status file cannot be written; serving goes on")
