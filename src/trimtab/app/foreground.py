"""Serve a registered version from the command line: in the foreground, until a signal ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from trimtab.adapters.clock.system import SystemClock
from trimtab.app.home import Home, setting
from trimtab.app.keeping import Compactor
from trimtab.app.served_model import ServedModel, serve_model
from trimtab.app.worker_settings import whole_number
from trimtab.errors import InputError, Unavailable


def serve_here(
    home: Path,
    version: str,
    *,
    host: str | None,
    port: int | None,
    grpc_port: int | None,
    settings: Mapping[str, str | int | None],
    ready: Callable[[dict[str, str | int]], None],
) -> None:
    """Serve a version from one worker until SIGINT or SIGTERM, then let it answer what it has accepted.

    Parameters
    ----------
    home
        The directory it was registered in.
    settings
        As :func:`trimtab.app.served_model.serve_model` takes them.
    ready
        Told ``{model, version, data_plane, pid}`` once it answers, and ``grpc`` where that is served.

    Raises
    ------
    InputError
        When there is no such directory, or the version belongs to a project.
    UnknownName
        When there is no such version.
    Unavailable
        When it cannot be served, or its worker ends unasked.
    """
    if not home.is_dir():
        raise InputError(
            "nothing was registered here", got=str(home), hint="`trimtab register`, or name it with --home"
        )
    asked: list[int] = []
    running: list[ServedModel] = []

    def end(signal_number: int, _frame: object) -> None:
        asked.append(signal_number)
        if not running:
            raise KeyboardInterrupt  # while it starts: what has started is ended on the way out
        running[0].process.send_signal(signal.SIGTERM)

    code = 0
    before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        place, at = whole_number("port", port), setting("host", host)
        with serve_model(home, version, host=at, port=place, grpc_port=grpc_port, settings=settings) as served:
            running.append(served)
            ready(_facts(served))
            code = _kept(served)
    except KeyboardInterrupt:
        if not asked:
            raise
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)
    if not asked:
        raise Unavailable("the worker has ended", got=f"code {code}", hint=f"see {home / 'run' / 'worker.log'}")


def _kept(served: ServedModel) -> int:
    """Compact what it records until it ends; its exit code."""
    keeper = Compactor(Home(served.home), clock=SystemClock())
    keeper.start()
    try:
        return served.process.wait()
    finally:
        keeper.stop()


def _facts(served: ServedModel) -> dict[str, str | int]:
    told: dict[str, str | int] = {"model": served.model, "version": served.version, "data_plane": served.url}
    return told | ({"grpc": served.grpc} if served.grpc else {}) | {"pid": served.process.pid}
