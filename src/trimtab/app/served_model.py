"""One registered version, served over HTTP from a worker of its own, without a project."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.app.interrupts import end_process, signals_held
from trimtab.errors import InputError, Unavailable

if TYPE_CHECKING:
    from trimtab.app.home import Home
    from trimtab.app.worker import WorkerOptions
    from trimtab.registry.bundle import Bundle

_READY_S = 20.0
_STOP_S = 20.0
_ORPHAN_S = 15.0


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
    ports: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)
    """What keeps its ports from other programs, until it is stopped."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def predict(self, rows: Sequence[Mapping[str, float | None]]) -> NDArray[np.float64]:
        """Ask it over HTTP: one mapping per row, by column name; shape (n,), or (n, k) for k outputs.

        Numbers may be of numpy, arrays without an axis among them.

        Raises
        ------
        InputError
            When a column is missing, or NaN, that was not registered as optional; when a number is infinite; when
            a value is no number.
        """
        from trimtab.adapters.wire.client import JsonClient

        with JsonClient(self.url) as client:
            answer = client.post(f"/predict/{self.model}", {"instances": [_plain(row) for row in rows]})
        return np.array([one["prediction"] for one in answer["predictions"]], np.float64)

    def stop(self) -> None:
        """Let it answer what it has accepted, then end it."""
        end_process(self.process, wait_s=_STOP_S)
        self.ports.close()


def _plain(row: Mapping[str, float | None]) -> dict[str, float | None]:
    """A row as JSON has it: numbers of Python's own, and null for NaN."""
    return {name: _number(value) for name, value in row.items()}


def _number(value: Any) -> Any:
    """A masked value, and an array of several, stay what they are: the client says that these cannot be sent."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and not np.ma.is_masked(value):
        value = value[()]
    if isinstance(value, np.generic):
        value = float(value) if isinstance(value, np.longdouble) else value.item()  # a longdouble's item is its like
    return None if (value != value) is True else value  # noqa: PLR0124 - only NaN is unlike itself


def serve_model(
    home: Path | str,
    version: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    grpc_port: int | None = None,
    settings: Mapping[str, str | int | None] | None = None,
) -> ServedModel:
    """Serve a registered version over HTTP, from a worker process, until it is stopped; see ``docs/alone-serve.md``.

    The worker ends with the process that called this, however that one ends.

    Parameters
    ----------
    home
        The directory it was registered in; answers are recorded there too, below ``records``.
    version
        Its digest, or at least the first eight digits of it.
    port
        0 takes a free one; :attr:`ServedModel.url` says which.
    grpc_port
        Given when it is to be served over gRPC too, which needs ``pip install 'trimtab[grpc]'``; 0 as above.
    settings
        By name, as in ``{"server": "uvicorn", "max_queue": 64}``; what is not named here is what the environment says
        (``docs/settings.md``), as for ``trimtab up``.

    Raises
    ------
    UnknownName
        When there is no such version.
    BundleCorrupt
        When a byte of it has changed.
    InputError
        When it belongs to a project: its features need the project's data. When the home does: its control process
        says who answers. When a setting cannot be read.
    Unavailable
        When ``home`` serves a model already, the port is taken, or the worker does not start.
    """
    from trimtab.app.home import Home
    from trimtab.app.worker_settings import check_given, worker_options

    given = {**(settings or {}), "host": host}
    check_given(settings or {})
    options = worker_options(port=port, grpc_port=-1 if grpc_port is None else grpc_port, given=given)
    options = msgspec.structs.replace(options, parent=os.getpid())
    place = Home(Path(home).resolve())
    bundle = _bundle(place, version)
    _wait_for_orphan(place)
    with contextlib.ExitStack() as ports:
        _reserve(ports, options)
        _route(place, bundle)
        return _served(place, bundle, options, ports)


def _bundle(place: Home, version: str) -> Bundle:
    """The version, where it can be served from this home without a project."""
    from trimtab.app.versions import find_version
    from trimtab.registry.bundle import load

    if (place.root / "ledger.db").exists():
        raise InputError(
            "this home belongs to a project, whose ledger says what answers",
            got=str(place.root),
            hint="`trimtab deploy` brings a version to its traffic; or register it in another --home, and serve that",
        )
    bundle = load(place.made().blobs(), find_version(place, version))
    if bundle.plan.sources():
        raise InputError(
            "this version needs the features of its project", got=version[:12], hint="start its project: trimtab up"
        )
    return bundle


def _served(place: Home, bundle: Bundle, options: WorkerOptions, ports: contextlib.ExitStack) -> ServedModel:
    """Start the worker and wait until it answers; then the ports are the served model's to close."""
    log = place.run / "worker.log"
    process: subprocess.Popen[bytes] | None = None
    try:
        with signals_held():
            said = log.stat().st_size if log.exists() else 0
            process = _start(place, options, log)
        served = ServedModel(place.root, bundle.manifest.model, bundle.version, "", process)
        _wait(served, log, said, grpc=options.grpc_port >= 0)
        served.ports = ports.pop_all()
    except BaseException:  # Ctrl-C too: nobody else knows of the process
        if process is not None:
            with signals_held():
                end_process(process, wait_s=_STOP_S)
        raise
    return served


def _reserve(ports: contextlib.ExitStack, options: WorkerOptions) -> None:
    """Take the ports that were named before the worker does: it would share them with another program's workers."""
    from trimtab.adapters.wire.listening import reserved_socket

    for port, option in ((options.port, "--port"), (options.grpc_port, "--grpc-port")):
        if port > 0:
            ports.enter_context(reserved_socket(options.host, port, option=option))


def _wait_for_orphan(place: Home) -> None:
    """A worker whose parent was killed just now is about to end."""
    from trimtab.adapters.compute.supervisor import read_post
    from trimtab.app.worker import options_of, post_name

    deadline = time.monotonic() + _ORPHAN_S
    while (post := read_post(place.run, post_name(1))).held and time.monotonic() < deadline:
        parent = options_of(post.command).parent
        if not parent or Path(f"/proc/{parent}").exists() or not Path("/proc/self").exists():
            return
        time.sleep(0.05)


def _route(place: Home, bundle: Bundle) -> None:
    """Send every request of the home to a version."""
    from trimtab.adapters.compute.supervisor import read_post
    from trimtab.adapters.wire.routefile import write_routes
    from trimtab.app.worker import post_name
    from trimtab.serving.routing import Arm, Route, RouteTable, decode_table

    post = read_post(place.run, post_name(1))
    if post.process is not None and post.held:
        raise Unavailable(
            "this home serves a model already",
            got=f"process {post.process.pid} on {place.root}",
            hint=f"stop it (kill {post.process.pid}), or use another home",
        )
    place.online()  # the worker opens the store, though this model reads nothing from it
    table = decode_table(place.route_file.read_bytes()) if place.route_file.exists() else RouteTable(0, {})
    model = bundle.manifest.model
    route = Route(model, (Arm("champion", bundle.version, 1.0),))
    write_routes(place.route_file, RouteTable(table.generation + 1, {model: route}))


def _start(place: Home, options: WorkerOptions, log: Path) -> subprocess.Popen[bytes]:
    from trimtab.app import worker

    line = [sys.executable, "-m", worker.MODULE, *worker.command(place.root, 1, options)]
    with log.open("ab") as output:
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603 - our own module


def _wait(served: ServedModel, log: Path, said: int, *, grpc: bool) -> None:
    """Wait until the worker says where it listens; ``said``: how long its log was before."""
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
                return
            problem = status.problem
        time.sleep(0.005)
    told = log.read_bytes()[said:].decode(errors="replace").strip().splitlines()
    raise Unavailable("the model is not served", got=": ".join([problem, *told[-1:]])[:500], hint=f"see {log}")
