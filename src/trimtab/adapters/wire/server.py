"""HTTP/1.1 for the data plane on httptools' parser: small, because a request passes through all of it.

Order of answers is order of requests, whatever a caller pipelines. Everything that waits is bounded: heads, bodies,
pipelined requests, connections, and the time that any of them may take.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from email.utils import formatdate
from typing import Protocol

from trimtab.adapters.wire.connection import Connection
from trimtab.adapters.wire.exchange import Incoming, Respond
from trimtab.adapters.wire.heads import KnownHeads
from trimtab.adapters.wire.limits import Limits
from trimtab.adapters.wire.listening import open_to, turn_away
from trimtab.adapters.wire.reading import Budget
from trimtab.adapters.wire.reply import Reply

_log = logging.getLogger("trimtab.serving")
_SWEEP_S = 0.5
_HANDSHAKES_S = 0.1
"""From when no new connection begins until the listening socket closes: those that have begun are taken."""
_GRACE_S = 2.0
"""While draining: how long a connection must have been idle to be closed without an answer that says so."""


class Plane(Protocol):
    """What answers requests."""

    def take(self, incoming: Incoming, respond: Respond) -> None:
        """Answer one request, now or later; never raises."""
        ...

    def counted(self, reply: Reply) -> Reply:
        """Count an answer that was made before the request came this far."""
        ...


class HttpServer:
    """Serves a plane on one listening socket.

    Parameters
    ----------
    drain_s
        How long a server that was told to stop waits for answers under way.
    """

    def __init__(self, plane: Plane, limits: Limits, *, drain_s: float = 10.0) -> None:
        self.plane, self.limits = plane, limits
        self.connections: set[Connection] = set()
        self.budget = Budget()
        self.draining = False
        self.json_head = b""
        """The head of an ordinary answer, up to its length."""
        self.date = b""
        self.refused_connections = 0
        self.heads = KnownHeads()
        self._drain_s = drain_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End :meth:`run`; may be called before it, and from a signal handler."""
        self._stop.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: None)  # a signal alone does not wake a loop that waits

    async def run(self, listener: socket.socket, *, backlog: int = 2048) -> None:
        """Answer until told to stop; then finish what was accepted, for ``drain_s`` at most."""
        self._loop = loop = asyncio.get_running_loop()
        self.limits = replace(self.limits, connections=open_to(self.limits.connections))
        self._tell_time(loop.time())
        server = await loop.create_server(lambda: Connection(self), sock=listener, backlog=backlog)
        sweeper = loop.create_task(self._sweep_on(loop))
        try:
            await self._stop.wait()
            self.draining = True
            await asyncio.sleep(_HANDSHAKES_S if turn_away(listener) else 0.01)
            server.close()
            await self._drain(loop)
        finally:
            sweeper.cancel()
            for connection in list(self.connections):
                connection.abort()

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Idle connections go when they have been idle for a while, the others after the answer that says so."""
        end = loop.time() + self._drain_s
        while self.connections and loop.time() < end:
            for connection in list(self.connections):
                connection.leave_if_idle(loop.time() - _GRACE_S)
            await asyncio.sleep(0.05)

    async def _sweep_on(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._tell_time(loop.time())
            for connection in list(self.connections):
                connection.check_time(self.budget.now)

    def _tell_time(self, now: float) -> None:
        self.budget.now = now
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        self.json_head = b"HTTP/1.1 200 OK\r\n" + self.date + b"content-type: application/json\r\ncontent-length: "
