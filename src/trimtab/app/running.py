"""``trimtab up``: the control process from start to end, and the workers that it starts or finds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec

from trimtab.adapters.compute.supervisor import Supervisor, read_post
from trimtab.adapters.files import write_atomic
from trimtab.adapters.wire.control import control_app
from trimtab.adapters.wire.listening import reserved_socket
from trimtab.adapters.wire.status import WorkerStatus, read_status, takes_connections
from trimtab.app.control import LiveControl, Page
from trimtab.app.fencing import CONTROL, Tenure, refuse_second
from trimtab.app.home import Home, setting
from trimtab.app.keeping import Keep
from trimtab.app.live import Live, open_clock, open_home
from trimtab.app.replaying import checked_project
from trimtab.app.restarting import ASK, RollingRestart
from trimtab.app.setting_values import seconds
from trimtab.app.worker import MODULE, POSTS, WorkerOptions, command, options_of, post_name, read_profile
from trimtab.app.worker_settings import whole_number, worker_options
from trimtab.core.clock import iso
from trimtab.errors import InputError, MissingExtra, StaleEpoch, Unavailable
from trimtab.serving.profile import ServingProfile

OWN_TOKEN = "control.token"  # noqa: S105 - the name of a file
_READY_S = 30.0
_log = logging.getLogger("trimtab.control")


@dataclass(frozen=True)
class UpRequest:
    """What ``up`` was asked for; None stands for the setting of that name."""

    project: Path
    home: Path | None = None
    host: str | None = None
    port: int | None = None
    console_port: int | None = None
    grpc_port: int | None = None
    workers: int | None = None
    clock: str | None = None
    take_over: bool = False
    new_token: bool = False
    memory_budget: str | None = None
    server: str | None = None


def run_platform(request: UpRequest, *, ready: Callable[[dict[str, Any]], None], page: Page | None = None) -> None:
    """Run the platform until it is told to stop, or another control process takes over.

    Raises
    ------
    ProjectError
        When the project does not check, or a history has changed.
    StaleEpoch
        When another control process took over; the workers are its workers then.
    Unavailable
        When a port is taken, or a living control process holds the home and ``take_over`` was not asked for.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    if request.new_token and os.environ.get("TRIMTAB_TOKEN"):
        raise InputError("the token is that of TRIMTAB_TOKEN", hint="unset it, or set another there")
    project = checked_project(request.project)
    home = open_home(project, request.home)
    count = _workers(request, read_profile(home.root))
    _check_settings(request)
    if not request.take_over:
        refuse_second(home.run)
        _check_ports(request, home)
    clock, driven = open_clock(home, request.clock)
    ledger = home.ledger()
    tenure = Tenure(home.run, ledger, clock)
    supervisor = Supervisor(home.run, MODULE)
    try:
        with _console_socket(request) as console, _data_port(request, home) as port, _grpc_port(request, home) as grpc:
            options = _options(request, port=port, grpc_port=grpc, driven=driven)
            wanted = {post_name(n): command(home.root.resolve(), n, options) for n in range(1, count + 1)}
            live = Live(project, home, clock=clock, driven=driven, ledger=ledger, tenure=tenure, workers=True)
            if any((home.root / "online").iterdir()):
                # Until the histories are read, they answer from the rows that are there.
                supervisor.keep(wanted, among=POSTS)
                live.restore()
            else:
                live.restore()  # without any rows there is nothing to answer from
                supervisor.keep(wanted, among=POSTS)
            extra = msgspec.structs.replace(options, stand_in=True)
            spare = (post_name(count + 1), command(home.root.resolve(), count + 1, extra))
            restart = RollingRestart(supervisor, home.run, names=list(wanted), spare=spare)
            signal.signal(ASK, lambda *_: restart.ask())
            control = LiveControl(live, supervisor, page=page, restart=restart)
            process = _Process(live, control, options=options, workers=count, ready=ready)
            process.serve(console, token=_token(home, new=request.new_token))
    except StaleEpoch:
        raise
    except BaseException:
        # Workers that were serving before go on: a project that cannot start must not end what works.
        supervisor.stop(started_only=True)
        raise
    else:
        supervisor.stop()
    finally:
        # Before the lock is free: afterwards these may be the files of the next one.
        (home.run / OWN_TOKEN).unlink(missing_ok=True)
        (home.run / CONTROL).unlink(missing_ok=True)
        tenure.close()


class _Process:
    """The console's server in the main thread, the loop in another."""

    def __init__(
        self,
        live: Live,
        control: LiveControl,
        *,
        options: WorkerOptions,
        workers: int,
        ready: Callable[[dict[str, Any]], None],
    ) -> None:
        self._project, self._home, self._tenure, self._control = live.project, live.home, live.tenure, control
        self._options, self._workers, self._ready = options, workers, ready
        self._stop = threading.Event()
        self._ended: StaleEpoch | None = None

    def serve(self, listener: socket.socket, *, token: _Token) -> None:
        """Serve until told to stop; raises ``StaleEpoch`` when replaced."""
        import uvicorn

        own = secrets.token_urlsafe(24)
        app = control_app(
            self._control,
            token_digest=token.digest,
            own_digest=hashlib.sha256(own.encode()).hexdigest(),
            max_body=whole_number("max_body"),
            max_rows=whole_number("max_batch_rows"),
        )
        config = uvicorn.Config(
            app, http="httptools", loop="none", ws="none", lifespan="off", access_log=False, log_config=None,
            server_header=False, proxy_headers=False, timeout_keep_alive=75, timeout_graceful_shutdown=10,
        )  # fmt: skip
        server = uvicorn.Server(config)
        facts = self._facts(listener)
        _write_private(self._home.run / OWN_TOKEN, own)
        write_atomic(self._home.run / CONTROL, json.dumps(facts).encode())
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn handles them while it serves, and raises them again afterwards.
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        loop = threading.Thread(target=self._decide, args=(server,), name="loop")
        told = threading.Thread(target=self._tell, args=(facts, token), name="ready", daemon=True)
        loop.start()
        told.start()
        try:
            with asyncio.Runner(loop_factory=_loop) as runner:
                runner.run(server.serve(sockets=[listener]))
        finally:
            self._stop.set()
            loop.join()
        if self._ended is not None:
            raise self._ended
        self._control.save()

    def _decide(self, server: Any) -> None:
        self._ended = self._control.run(self._stop)
        server.should_exit = True

    def _facts(self, listener: socket.socket) -> dict[str, Any]:
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        return {
            "data_plane": f"http://{host}:{self._options.port}",
            **({} if self._options.grpc_port < 0 else {"grpc": f"{host}:{self._options.grpc_port}"}),
            "console": f"http://{host}:{listener.getsockname()[1]}",
            "models": sorted(self._project.models),
            "pid": os.getpid(),
            "epoch": self._tenure.epoch,
            "since": iso(self._tenure.since),
        }

    def _tell(self, facts: dict[str, Any], token: _Token) -> None:
        """Say that it answers, once it does; the token is said when it was made just now, and never again."""
        deadline = time.monotonic() + _READY_S
        names = [post_name(number) for number in range(1, self._workers + 1)]
        while not self._stop.wait(0.02) and time.monotonic() < deadline:
            if all(_answers(self._home.run, name) for name in names):
                break
        if not self._stop.is_set():
            way_in = f"/?token={token.text}" if token.text else "/"
            told = facts | {"status_page": facts["console"] + way_in, "token_from": token.origin}
            self._ready(told | ({"token": token.text} if token.text else {}))


def _answers(run: Path, name: str) -> bool:
    """Whether the worker on a post takes connections."""
    post, said = read_post(run, name), read_status(run / f"{name}.json")
    if not post.held or post.process is None or said is None or said.pid != post.process.pid:
        return False
    return takes_connections(said)


@dataclass(frozen=True)
class _Token:
    """The token that counts: its text only when it was made just now, its digest always."""

    text: str
    digest: str
    origin: str


def _token(home: Home, *, new: bool) -> _Token:
    given = os.environ.get("TRIMTAB_TOKEN", "")
    if given:
        digest = hashlib.sha256(given.encode()).hexdigest()
        _write_private(home.run / "token.sha256", digest)
        return _Token("", digest, "environment")
    if new or not home.token_digest():
        return _Token(home.new_token(), home.token_digest(), "new")
    return _Token("", home.token_digest(), "before")


def _write_private(path: Path, text: str) -> None:
    """A file that only its owner may read."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _options(request: UpRequest, *, port: int, grpc_port: int, driven: bool) -> WorkerOptions:
    given = {"host": request.host, "memory_budget": request.memory_budget, "server": request.server}
    return worker_options(port=port, grpc_port=grpc_port, driven=driven, given=given)


def _check_settings(request: UpRequest) -> None:
    """Refuse a bad setting before anything is taken over; what is read again later then reads well."""
    _options(request, port=0, grpc_port=-1, driven=False)
    whole_number("port", request.port)
    whole_number("console_port", request.console_port)
    _grpc_wanted(request)
    seconds("job_time")
    whole_number("quarantine_rows")
    Keep.read()


def _check_ports(request: UpRequest, home: Home) -> None:
    """Refuse a port that is taken before an epoch is; who takes over gets the console's from whom it is taken over."""
    with _console_socket(request), _data_port(request, home), _grpc_port(request, home):
        pass


def _workers(request: UpRequest, profile: ServingProfile) -> int:
    given = request.workers
    if given is None and "TRIMTAB_WORKERS" not in os.environ:
        given = profile.workers or None
    return whole_number("workers", given)


@contextmanager
def _console_socket(request: UpRequest) -> Iterator[socket.socket]:
    host, port = setting("host", request.host), whole_number("console_port", request.console_port)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            hint = "choose another with --console-port"
            raise Unavailable(f"the console cannot listen on {host}:{port}", got=str(error), hint=hint) from None
        listener.setblocking(False)
        yield listener


@contextmanager
def _data_port(request: UpRequest, home: Home) -> Iterator[int]:
    """The port of the data plane; 0 is made a free one, or the one that living workers have."""
    wanted = whole_number("port", request.port)
    with _shared_port(wanted, home, setting("host", request.host), "port") as port:
        yield port


@contextmanager
def _grpc_port(request: UpRequest, home: Home) -> Iterator[int]:
    """The port of gRPC, -1 for none."""
    wanted = _grpc_wanted(request)
    if wanted is None:
        yield -1
        return
    with _shared_port(wanted, home, setting("host", request.host), "grpc_port") as port:
        yield port


def _grpc_wanted(request: UpRequest) -> int | None:
    """The port that was asked for; None when gRPC is off."""
    if setting("grpc_port", request.grpc_port) == "off":
        return None
    if not all(map(find_spec, ("grpc", "google", "google.protobuf"))):  # every worker would end at once
        raise MissingExtra("gRPC needs grpcio and protobuf", hint="pip install 'trimtab[grpc]'")
    return whole_number("grpc_port", request.grpc_port)


@contextmanager
def _shared_port(wanted: int, home: Home, host: str, name: Literal["port", "grpc_port"]) -> Iterator[int]:
    """Keep a port for workers that come and go; nobody else may have it, but workers of this home that go on."""
    held = _held_ports(home.run, name)
    port = wanted or next(iter(held), 0)
    option = f"--{name.replace('_', '-')}"
    with reserved_socket(host, port, shared=port in held, option=option) as reserved:
        yield int(reserved.getsockname()[1])


def _held_ports(run: Path, name: Literal["port", "grpc_port"]) -> list[int]:
    """Where living workers of a home listen, or are about to."""
    found: list[int] = []
    for path in sorted(run.glob(f"{POSTS}.pid")):
        post, said = read_post(run, path.stem), read_status(path.with_suffix(".json"))
        if not post.held or post.process is None:
            continue
        told: WorkerStatus | WorkerOptions | None = said if said and said.pid == post.process.pid else None
        port: int = getattr(told or options_of(post.command), name)
        if port > 0:
            found.append(port)
    return found


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()
