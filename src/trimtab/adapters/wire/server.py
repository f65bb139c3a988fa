"""HTTP/1.1 for the data plane on httptools' parser: small, because a request passes through all of it.

Order of answers is order of requests, whatever a caller pipelines. Everything that waits is bounded: heads, bodies,
pipelined requests, connections, and the time that any of them may take.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from typing import Protocol

from trimtab.adapters.wire.connection import Connection
from trimtab.adapters.wire.exchange import Incoming, Respond
from trimtab.adapters.wire.handover import Door
from trimtab.adapters.wire.heads import KnownHeads
from trimtab.adapters.wire.limits import SWEEP_S, Limits
from trimtab.adapters.wire.listening import last_callers, open_to
from trimtab.adapters.wire.reading import Budget
from trimtab.adapters.wire.reply import Reply

_log = logging.getLogger("trimtab.serving")
_TURNS = 3
"""Of the event loop before callers are judged: what came while we could not run is read first."""
_LAST_S = 0.01
"""Nobody goes on with a listening socket: what has come is accepted before it closes."""
_GRACE_S = 2.0
"""While draining: how long a connection must have been idle to be closed without an answer that says so."""
_DEPLETED_S = 0.25
"""While draining: so long none is closed without one. A load balancer takes the connection that it used last; as those
are closed with an answer it comes to the ones that were idle for long, just when they would be closed."""


class Plane(Protocol):
    """What answers requests."""

    def take(self, incoming: Incoming, respond: Respond) -> None:
        """Answer one request, now or later; never raises."""
        ...

    def counted(self, reply: Reply, method: str = "", path: str = "") -> Reply:
        """Count an answer that was made before the request came this far; what is not known of it is empty."""
        ...


class HttpServer:
    """Serves a plane on a listening socket, and on those that siblings hand over.

    Parameters
    ----------
    drain_s
        How long a server that was told to stop waits for answers under way.
    door
        Where siblings are, who go on with its listening sockets.
    """

    def __init__(
        self,
        plane: Plane,
        limits: Limits,
        *,
        drain_s: float = 10.0,
        backlog: int = 2048,
        door: Door | None = None,
    ) -> None:
        self.plane, self.limits = plane, limits
        self.connections: set[Connection] = set()
        self.budget = Budget()
        self.draining = False
        self.json_head = b""
        """The head of an ordinary answer, up to its length."""
        self.date = b""
        self.refused_connections = 0
        self.heads = KnownHeads()
        self.listening: dict[socket.socket, int] = {}
        """The sockets it accepts from; for each the number of the worker whose socket it is."""
        self._accepting: dict[socket.socket, asyncio.AbstractServer] = {}
        self._drain_s, self._backlog, self._door = drain_s, backlog, door
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._held_up = 0.0
        """Seconds in which this process could not run: they do not count for any limit."""

    def stop(self) -> None:
        """End :meth:`run`; may be called before it, and from a signal handler."""
        self._stop.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: None)  # a signal alone does not wake a loop that waits

    async def run(self, listener: socket.socket, ready: Callable[[], None] | None = None) -> None:
        """Answer until told to stop; then finish what was accepted, for ``drain_s`` at most.

        Parameters
        ----------
        ready
            Called when it accepts connections, and siblings can leave theirs to it.
        """
        self._loop = loop = asyncio.get_running_loop()
        self.limits = replace(self.limits, connections=open_to(self.limits.connections))
        self._tell_time(loop.time())
        await self.listen(listener, self._door.number if self._door is not None else 1)
        sweeper = loop.create_task(self._sweep_on(loop))
        try:
            if self._door is not None:
                self._door.open(self)
            if ready is not None:
                ready()
            await self._stop.wait()
            self.draining = True
            if self._door is not None:
                await self._door.leave()
            if self.listening:
                await asyncio.sleep(_LAST_S)
            for one in list(self.listening):
                await self._close(one)
            await self._drain(loop)
        finally:
            sweeper.cancel()
            for connection in list(self.connections):
                connection.abort()

    async def listen(self, listener: socket.socket, number: int) -> bool:
        """Accept from one more listening socket; one that is leaving accepts what waits in it, and closes it."""
        if self.draining:
            await self._close(listener)
            return True
        loop = asyncio.get_running_loop()
        self._accepting[listener] = await loop.create_server(
            lambda: Connection(self), sock=listener, backlog=self._backlog
        )
        self.listening[listener] = number
        return True

    def silence(self, listener: socket.socket) -> None:
        """Accept from a listening socket no more, and close our descriptor of it."""
        if self.listening.pop(listener, None) is None:
            listener.close()
        else:
            self._accepting.pop(listener).close()

    async def _close(self, listener: socket.socket) -> None:
        """Close a listening socket with which nobody goes on; accept what waits in it, which would be reset."""
        with last_callers(listener) as waiting, suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        self.silence(listener)
        for one in waiting:
            with suppress(OSError):
                one.setblocking(False)
                await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self), one)

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Idle connections go when they have been idle for a while, the others after the answer that says so."""
        begun, looks = loop.time(), 0
        end = begun + self._drain_s
        # Looked at twice: what was accepted last is a connection only after a turn of the event loop.
        while looks < 2 and loop.time() < end:
            looks = 0 if self.connections else looks + 1
            for connection in list(self.connections) if loop.time() - begun >= _DEPLETED_S else ():
                connection.leave_if_idle(loop.time() - self._held_up - _GRACE_S)
            await asyncio.sleep(0.05 if self.connections else 0.01)

    async def _sweep_on(self, loop: asyncio.AbstractEventLoop) -> None:
        last = loop.time()
        while True:
            await asyncio.sleep(SWEEP_S)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            now = loop.time()
            if now - last > 1.5 * SWEEP_S:
                self._held_up += now - last - SWEEP_S
            last = now
            self._tell_time(now - self._held_up)
            for connection in list(self.connections):
                connection.check_time(self.budget.now)

    def _tell_time(self, now: float) -> None:
        self.budget.now = now
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        self.json_head = b"HTTP/1.1 200 OK\r\n" + self.date + b"content-type: application/json\r\ncontent-length: "
