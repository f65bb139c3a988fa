"""Serve a registered version from the command line: in the foreground, until a signal ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from trimtab.adapters.clock.system import SystemClock
from trimtab.app.alone import serve_model
from trimtab.app.home import Home, setting
from trimtab.app.keeping import Compactor
from trimtab.errors import InputError, Unavailable


def serve_here(
    home: Path,
    version: str,
    *,
    host: str | None,
    port: int | None,
    grpc_port: int | None,
    ready: Callable[[dict[str, str | int]], None],
) -> None:
    """Serve a version from one worker until SIGINT or SIGTERM, then let it answer what it has accepted.

    Parameters
    ----------
    home
        The directory it was registered in.
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
    keeper = Compactor(Home(home.resolve()), clock=SystemClock())
    where = setting("port", port)
    if not where.isdigit():
        raise InputError("the setting port must be a whole number", got=repr(where))
    with serve_model(home, version, host=setting("host", host), port=int(where), grpc_port=grpc_port) as served:
        asked: list[int] = []

        def end(number: int, _frame: object) -> None:
            asked.append(number)
            served.process.send_signal(signal.SIGTERM)

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            told: dict[str, str | int] = {"model": served.model, "version": version, "data_plane": served.url}
            ready(told | ({"grpc": served.grpc} if served.grpc else {}) | {"pid": served.process.pid})
            keeper.start()
            code = served.process.wait()
        finally:
            keeper.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
    if not asked:
        raise Unavailable("the worker has ended", got=f"code {code}", hint=f"see {home / 'run' / 'worker.log'}")
