"""One HTTP connection: bytes in, requests out to the plane, answers back in order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from enum import IntEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

import httptools

from trimtab.adapters.wire.exchange import NO_HEADERS, WANTED, Incoming
from trimtab.adapters.wire.reply import JSON_TYPE, Reply, refuse

if TYPE_CHECKING:
    from trimtab.adapters.wire.server import HttpServer

_log = logging.getLogger("trimtab.serving")
_OWN = frozenset({b"content-length", b"expect", b"transfer-encoding"})
_READ = WANTED | _OWN
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_WRAPPING = 8
"""A chunked body may take so many times its own length on the wire."""
_KNOWN_HEADS, _KNOWN_BYTES = 256, 1024
"""So many heads are remembered, of at most so many bytes."""
_ALWAYS_NEW = (b"x-request-id", b"traceparent")
"""Headers that no two requests share."""
_LINGER_S = 2.0
"""How long a connection that was refused is still read: a reset would take the answer from the caller's hands."""


class Phase(IntEnum):
    """What a connection is doing."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    LINGER = 3
    """Answered for the last time; what still comes is thrown away."""


class _Refused(Exception):
    """The request is refused; the answer is on its way."""


class Head(NamedTuple):
    """What the parser made of the head of a request."""

    path: str
    headers: Mapping[bytes, bytes]
    length: int
    """Of the body, in bytes."""


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
    """Reads one connection; made by the event loop for each that is accepted."""

    __slots__ = (
        "_blocked",
        "_body",
        "_closing",
        "_header_count",
        "_headers",
        "_limits",
        "_parser",
        "_paused",
        "_phase",
        "_rest",
        "_server",
        "_since",
        "_size",
        "_taken",
        "_transport",
        "_url",
        "_waiting",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server, self._limits = server, server.limits
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._phase, self._since = Phase.IDLE, server.now
        self._closing = self._paused = False
        self._blocked = 0.0
        """Since when the caller does not read; 0 while he does."""
        self._url = self._body = b""
        self._rest: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._size = self._header_count = self._taken = 0

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self._transport = transport
        server = self._server
        server.connections.add(self)
        if len(server.connections) > self._limits.connections:
            server.refused_connections += 1
            self._refuse(503, "too many connections", hint="try again in a second", headers=((b"retry-after", b"1"),))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the event loop's signature
        """The connection is gone; answers under way have nowhere to go."""
        self._server.connections.discard(self)
        self._waiting.clear()
        self._closing = True

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._closing:
            return
        fresh = self._phase is Phase.IDLE and not self._waiting
        if fresh and self._repeated(data):
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(
                426, "only HTTP/1.1 is spoken here", hint="send the request without an Upgrade header",
                headers=((b"upgrade", b"HTTP/1.1"),),
            )  # fmt: skip
            return
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refused):
                _log.error("a request failed", exc_info=error.__context__)
                self._refuse(500, "an internal error", hint="see the log of the worker")
            return
        except httptools.HttpParserError as error:
            self._refuse(400, "this is not HTTP/1.1", got=str(error)[:100])
            return
        if self._phase is not Phase.IDLE:
            self._bound(len(data))
        elif len(self._waiting) > self._limits.pipelined:
            self._pause()
        elif fresh:
            self._remember(data)

    def _repeated(self, data: bytes) -> bool:
        """Take a whole request whose head is, byte for byte, one that was parsed before; False when it is not that."""
        end = data.find(b"\r\n\r\n") + 4
        known = self._server.heads.get(data[:end])
        if known is None or len(data) - end != known.length:
            return False
        self._since = self._server.now
        exchange = Exchange(self, keep=True, head_only=False)
        self._waiting.append(exchange)
        self._server.plane.take(Incoming("POST", known.path, known.headers, data[end:]), exchange)
        return True

    def _remember(self, data: bytes) -> None:
        """Remember the head of an ordinary request that came alone and whole."""
        headers, end = self._headers, data.find(b"\r\n\r\n") + 4
        length = headers.get(b"content-length")
        if (
            length is None
            or end > _KNOWN_BYTES
            or int(length) != len(data) - end
            or b"expect" in headers
            or b"transfer-encoding" in headers
            or any(name in headers for name in _ALWAYS_NEW)
            or self._parser.get_method() != b"POST"
            or not self._parser.should_keep_alive()
        ):
            return
        heads = self._server.heads
        if len(heads) >= _KNOWN_HEADS:
            heads.clear()
        heads[data[:end]] = Head(_path(self._url), headers, int(length))

    def _bound(self, size: int) -> None:
        """Refuse a request whose head, or the wrapping of its body, goes on and on."""
        self._taken += size
        if self._phase is Phase.HEAD and self._taken > self._limits.head:
            self._refuse(431, "the head of the request is too large", hint=f"at most {self._limits.head} bytes")
        elif self._phase is Phase.BODY and self._taken > _WRAPPING * self._limits.body + self._limits.head:
            self._refuse(413, "the body is sent in too small chunks", hint="send it with a Content-Length")

    def eof_received(self) -> bool:
        """The caller sends no more; he may still read, while answers are under way."""
        if not self._waiting:
            return False
        self._closing = True
        self._waiting[-1].keep = False
        return True

    def pause_writing(self) -> None:
        """The caller does not read what was answered."""
        self._blocked = self._server.now or 1e-9
        self._pause()

    def resume_writing(self) -> None:
        """He reads again."""
        self._blocked = 0.0
        self._resume()

    # -- what the parser calls

    def on_message_begin(self) -> None:
        self._phase, self._since = Phase.HEAD, self._server.now
        self._url = self._body = b""
        self._headers = {}
        self._size = self._header_count = self._taken = 0
        if self._rest:
            self._rest = []

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        name = name.lower()
        if name in _READ and self._phase is Phase.HEAD:  # later ones are trailers, which say nothing here
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        self._phase, self._since = Phase.BODY, self._server.now
        if self._header_count > self._limits.headers:
            self._refuse_now(431, "too many headers", hint=f"send at most {self._limits.headers}")
        headers = self._headers
        if b"content-encoding" in headers and headers[b"content-encoding"].strip().lower() not in (b"", b"identity"):
            shown = headers[b"content-encoding"][:80].decode("latin-1")
            self._refuse_now(415, "a compressed body is not taken", got=shown, hint="send it plain")
        length = headers.get(b"content-length")
        if length is not None and int(length[:20]) > self._limits.body:
            self._too_long()
        if b"expect" in headers:
            if headers[b"expect"].strip().lower() != b"100-continue":
                self._refuse_now(417, "an expectation that is not met", got=headers[b"expect"][:80].decode("latin-1"))
            if not self._waiting and self._parser.get_http_version() == "1.1":
                self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._limits.body:
            self._too_long()
        if self._body:
            self._rest.append(body)
        else:
            self._body = body

    def on_message_complete(self) -> None:
        parser = self._parser
        self._phase, self._since = Phase.IDLE, self._server.now
        if parser.should_upgrade():
            return  # the parser stops here and says so
        if self._closing:
            return
        method = parser.get_method()
        keep = parser.should_keep_alive() and not self._server.draining
        exchange = Exchange(self, keep=keep, head_only=method == b"HEAD")
        self._waiting.append(exchange)
        if not keep:
            self._closing = True
        body = b"".join([self._body, *self._rest]) if self._rest else self._body
        incoming = Incoming(method.decode("ascii"), _path(self._url), self._headers or NO_HEADERS, body)
        self._server.plane.take(incoming, exchange)

    # -- answers

    def flush(self) -> None:
        """Write the answers whose turn it is."""
        waiting, transport = self._waiting, self._transport
        while waiting and (reply := waiting[0].reply) is not None:
            exchange = waiting.popleft()
            if transport.is_closing():
                continue
            keep = exchange.keep and not self._server.draining
            if keep and reply.status == 200 and reply.content_type is JSON_TYPE and not reply.headers:
                head = b"%b%d\r\n\r\n" % (self._server.json_head, len(reply.body))
            else:
                head = self._head(reply, keep)
            transport.write(head if exchange.head_only else head + reply.body)
            if not keep:
                waiting.clear()
                self._last_answer()
                return
        if self._paused and not self._blocked and len(waiting) <= self._limits.pipelined // 2:
            self._resume()
        self._since = self._server.now

    def _head(self, reply: Reply, keep: bool) -> bytes:
        lines = [_REASONS[reply.status], self._server.date, b"content-type: ", reply.content_type, b"\r\n"]
        for name, value in reply.headers:
            lines += [name, b": ", value, b"\r\n"]
        if not keep and not any(name == b"connection" for name, _ in reply.headers):
            lines.append(b"connection: close\r\n")
        lines.append(b"content-length: %d\r\n\r\n" % len(reply.body))
        return b"".join(lines)

    def _last_answer(self) -> None:
        """Close from our side; the caller has until :data:`_LINGER_S` to finish sending what nobody will read."""
        self._closing = True
        if self._phase is Phase.IDLE:
            self._transport.close()
            return
        self._phase, self._since = Phase.LINGER, self._server.now
        self._resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _refuse(self, status: int, what: str, **more: Any) -> None:
        """Answer with an error, after the answers before it, and end the connection."""
        if self._closing:
            return
        if self._phase is Phase.IDLE:
            self._phase = Phase.HEAD  # more may come, which must not reset the connection under the answer
        exchange = Exchange(self, keep=False, head_only=False)
        self._waiting.append(exchange)
        self._closing = True
        exchange(self._server.plane.counted(refuse(status, what, **more)))

    def _refuse_now(self, status: int, what: str, **more: Any) -> None:
        self._refuse(status, what, **more)
        raise _Refused

    def _too_long(self) -> None:
        self._refuse_now(413, "the body is too large", hint=f"send at most {self._limits.body} bytes")

    # -- time and pressure

    def check_time(self, now: float) -> None:
        """End a connection that has taken too long over what it is doing."""
        limits, age = self._limits, now - self._since
        if self._blocked and now - self._blocked > limits.write_s:
            self._transport.abort()
        elif self._phase is Phase.LINGER:
            if age > _LINGER_S:
                self._transport.abort()
        elif self._waiting:
            return  # it is our turn
        elif self._phase is Phase.IDLE:
            if age > limits.idle_s:
                self._transport.close()
        elif age > (limits.head_s if self._phase is Phase.HEAD else limits.body_s):
            self._refuse(408, "the request took too long to come", hint="send it at once")

    def leave_if_idle(self, since: float) -> None:
        """While the server drains: go, unless a request is under way or was just now."""
        if self._phase is Phase.IDLE and not self._waiting and self._since <= since:
            self._transport.close()

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
            self._transport.resume_reading()


def _path(url: bytes) -> str:
    """The path of a request target, decoded; in absolute form too."""
    if not url.startswith(b"/"):
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            return url.decode("latin-1")
    path = url.partition(b"?")[0] if b"?" in url else url
    return (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")
