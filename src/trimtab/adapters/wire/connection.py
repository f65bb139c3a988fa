"""One HTTP connection: requests out to the plane, answers back in order, all within limits of time."""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from trimtab.adapters.wire.exchange import Incoming
from trimtab.adapters.wire.limits import SWEEP_S
from trimtab.adapters.wire.reading import Phase, RequestReader
from trimtab.adapters.wire.reply import JSON_TYPE, Reply, refuse

if TYPE_CHECKING:
    from trimtab.adapters.wire.server import HttpServer

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
TOLD = 32
"""So many callers past the limit of connections are told so at a time, which keeps each open for a while; the next are
cut off, for they would take the files that everything else needs."""
_PROGRESS = 16_384
"""Who reads so many bytes of a long answer in the time that he has, has as much again."""
_LINGER_S = 2.0
"""How long a connection that was refused is still read: a reset would take the answer from the caller's hands."""


class Exchange:
    """A request that waits for its answer, and the answer when it is not yet its turn."""

    __slots__ = ("connection", "head_only", "keep", "reply")

    def __init__(self, connection: Connection, *, keep: bool, head_only: bool) -> None:
        self.connection, self.keep, self.head_only = connection, keep, head_only
        self.reply: Reply | None = None

    def __call__(self, reply: Reply) -> None:
        """Take the answer."""
        if self.reply is None:
            self.reply = reply
            self.connection.flush()


class Connection(asyncio.Protocol):
    """Carries one connection; made by the event loop for each that is accepted."""

    __slots__ = (
        "_blocked",
        "_closing",
        "_held",
        "_left",
        "_limits",
        "_paused",
        "_reader",
        "_refused",
        "_releasing",
        "_server",
        "_since",
        "_transport",
        "_unread",
        "_waiting",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server, self._limits = server, server.limits
        self._transport: Any = None
        self._reader = RequestReader(self, server.limits, server.budget)
        self._waiting: deque[Exchange] = deque()
        """Requests without an answer on the wire, in order."""
        self._held: deque[tuple[Incoming, Exchange]] = deque()
        """The last of them, which the plane has not seen: they came at once, and their answers would pile up."""
        self._since = server.budget.now
        """Of the last answer, or since when it is read again."""
        self._closing = self._paused = self._refused = self._releasing = False
        self._blocked = self._left = 0.0
        """Since when the caller does not read, and since when nothing more is answered; 0 when that is not so."""
        self._unread = 0
        """Bytes that he had still to read when he had last read some."""

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self._transport = transport
        server = self._server
        server.connections.add(self)
        if (over := len(server.connections) - self._limits.connections) > 0:
            server.refused_connections += 1
            if over > TOLD:
                transport.abort()  # type: ignore[attr-defined]
                return
            after = ((b"retry-after", b"1"),)
            self._refuse(refuse(503, "too many connections", hint="try again in a second", headers=after))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the event loop's signature
        """The connection is gone; answers under way have nowhere to go."""
        self._server.connections.discard(self)
        self._waiting.clear()
        self._held.clear()
        self._closing = True
        self._reader.close()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._closing:
            return
        reader, server = self._reader, self._server
        fresh = reader.phase is Phase.IDLE and not self._waiting
        if fresh:
            end = data.find(b"\r\n\r\n") + 4
            known = server.heads.get(data[:end])
            if known is not None and len(data) - end == known.length:
                exchange = Exchange(self, keep=True, head_only=False)
                self._waiting.append(exchange)
                server.plane.take(Incoming("POST", known.path, known.headers, data[end:]), exchange)
                return
        refusal = reader.feed(data)
        if refusal is not None:
            self._refuse(refusal)
        elif len(self._waiting) > self._limits.pipelined:
            self._pause()
        elif fresh and reader.phase is Phase.IDLE and reader.keep and reader.method == b"POST":
            server.heads.remember(data, reader.path, reader.headers)

    def eof_received(self) -> bool:
        """The caller sends no more; he may still read, while answers are under way."""
        if not self._waiting:
            return False
        self._closing = True
        self._waiting[-1].keep = False
        return True

    def pause_writing(self) -> None:
        """The caller does not read what was answered."""
        self._blocked = self._server.budget.now or 1e-9
        self._pause()

    def resume_writing(self) -> None:
        """He reads again."""
        self._blocked = 0.0
        self._release()
        if len(self._waiting) <= self._limits.pipelined // 2:
            self._resume()

    # -- what the reader calls

    def take(self, incoming: Incoming, *, keep: bool) -> None:
        """Have a request answered, in its turn."""
        if self._closing:  # nothing is answered after the last answer
            return
        exchange = Exchange(self, keep=keep, head_only=incoming.method == "HEAD")
        self._waiting.append(exchange)
        if not keep:
            self._closing = True
        if self._held or self._blocked or len(self._waiting) > self._limits.pipelined:
            self._held.append((incoming, exchange))
        else:
            self._server.plane.take(incoming, exchange)

    def invite(self) -> None:
        """Have the body sent; not before its turn, or it would be taken for the answer to an earlier request."""
        if not self._waiting and not self._closing:
            self._transport.write(_CONTINUE)

    def _release(self) -> None:
        """Show the plane more of what was held back."""
        if self._releasing:  # answered at once: the loop below goes on
            return
        self._releasing = True
        held, waiting = self._held, self._waiting
        while held and not self._blocked and len(waiting) - len(held) < self._limits.pipelined:
            self._server.plane.take(*held.popleft())
        self._releasing = False

    # -- answers

    def flush(self) -> None:
        """Write the answers whose turn it is."""
        waiting, transport, server = self._waiting, self._transport, self._server
        while waiting and (reply := waiting[0].reply) is not None:
            exchange = waiting.popleft()
            if transport.is_closing():
                continue
            keep = exchange.keep
            if keep and server.draining:
                keep = bool(waiting)
                if waiting:  # they were read before, and are answered; nothing else is read
                    self._closing = True
                    waiting[-1].keep = False
            if keep and reply.status == 200 and reply.content_type is JSON_TYPE and not reply.headers:
                head = b"%b%d\r\n\r\n" % (server.json_head, len(reply.body))
            else:
                head = _head(server.date, reply, keep=keep)
            transport.write(head if exchange.head_only else head + reply.body)
            if not keep:
                self._last_answer()
                return
        if self._held:
            self._release()
        if self._paused and not self._blocked and len(waiting) <= self._limits.pipelined // 2:
            self._resume()
        self._since = server.budget.now

    def _last_answer(self) -> None:
        """Close from our side; the caller has until :data:`_LINGER_S` to finish sending what nobody will read."""
        self._waiting.clear()
        self._held.clear()
        self._closing = True
        if self._reader.phase is Phase.IDLE and not self._refused:
            self._leave()
            return
        self._left = self._server.budget.now or 1e-9
        self._blocked = 0.0
        self._resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _leave(self) -> None:
        """Close once the caller has what was answered."""
        self._closing = True
        if not self._left:
            self._left = self._server.budget.now or 1e-9
        self._transport.close()

    def _refuse(self, reply: Reply) -> None:
        """Answer with an error, after the answers before it, and end the connection."""
        if self._closing:
            return
        self._closing = self._refused = True  # more may come, which must not reset the connection under the answer
        exchange = Exchange(self, keep=False, head_only=False)
        self._waiting.append(exchange)
        exchange(self._server.plane.counted(reply, *self._reader.begun()))

    # -- time and pressure

    def check_time(self, now: float) -> None:
        """End a connection that has taken too long over what it is doing."""
        limits, reader = self._limits, self._reader
        age = now - max(self._since, reader.since) - SWEEP_S
        unread = self._look_at_unread(now)
        if self._left:
            if now - self._left > (limits.write_s if unread else _LINGER_S):
                self._transport.abort()
        elif self._blocked:
            if now - self._blocked > limits.write_s:
                self._transport.abort()
        elif self._waiting:
            return  # it is our turn
        elif reader.phase is Phase.IDLE:
            if age > limits.idle_s:
                self._leave()
        elif age > (limits.head_s if reader.phase is Phase.HEAD else limits.body_s):
            self._refuse(refuse(408, "the request took too long to come", hint="send it at once"))

    def _look_at_unread(self, now: float) -> int:
        """Bytes of answers that the caller has still to read; one who reads has as much time again."""
        unread = self._transport.get_write_buffer_size() if self._left or self._blocked else 0
        if unread + _PROGRESS <= self._unread:  # he reads
            self._left = now if self._left else 0.0
            self._blocked = now if self._blocked else 0.0
            self._unread = unread
        elif unread > self._unread or not unread:
            self._unread = unread
        return unread

    def leave_if_idle(self, since: float) -> None:
        """While the server drains: go, unless a request is under way or was just now."""
        if self._reader.phase is Phase.IDLE and not self._waiting and max(self._since, self._reader.since) <= since:
            self._leave()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._blocked and not self._transport.is_closing():
            self._paused = False
            self._since = self._server.budget.now  # what we did not read is not late
            self._transport.resume_reading()


def _head(date: bytes, reply: Reply, *, keep: bool) -> bytes:
    more = b"".join([b"%b: %b\r\n" % pair for pair in reply.headers])
    return b"%b%bcontent-type: %b\r\n%b%bcontent-length: %d\r\n\r\n" % (
        _REASONS[reply.status],
        date,
        reply.content_type,
        more,
        b"" if keep else b"connection: close\r\n",
        len(reply.body),
    )
