"""From the bytes of a connection to its requests, by httptools' parser, within limits."""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import httptools

from trimtab.adapters.wire.exchange import NO_HEADERS, WANTED, Incoming
from trimtab.adapters.wire.limits import Limits
from trimtab.adapters.wire.reply import Reply, refuse

_log = logging.getLogger("trimtab.serving")
_OWN = frozenset({b"content-length", b"expect", b"transfer-encoding"})
_READ = WANTED | _OWN
_LINE, _SEPARATORS = 32, 4
"""Bytes of a request line beside its target, and of a header beside its name and value."""
_WRAPPING = 8
"""A chunked body may take so many times its own length on the wire."""
_VERSIONS = ("1.1", "1.0")


class Phase(IntEnum):
    """What of a request has come."""

    IDLE = 0
    HEAD = 1
    BODY = 2


class _Refused(Exception):
    """The request is refused."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Sink(Protocol):
    """What becomes of what was read."""

    def take(self, incoming: Incoming, *, keep: bool) -> None:
        """Answer a request; ``keep``: the connection stays open after it."""
        ...

    def invite(self) -> None:
        """Tell the caller, who waits for it, to send the body."""
        ...


class Budget:
    """What all readers of a server hold together, and its time."""

    __slots__ = ("bodies", "now")

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds as of the last sweep, without those in which the server was held up: exact enough for limits."""
        self.bodies = 0
        """Bytes of bodies that are not complete."""


class RequestReader:
    """Reads the requests of one connection; the parser calls its ``on_`` methods.

    Attributes
    ----------
    phase, since
        What has come of the current request, and since when that is so.
    path, headers, keep
        Of the request that was read last.
    """

    __slots__ = (
        "_body",
        "_budget",
        "_counted",
        "_head_size",
        "_header_count",
        "_hosts",
        "_limits",
        "_more",
        "_others",
        "_parser",
        "_sink",
        "_size",
        "_taken",
        "_url",
        "headers",
        "keep",
        "method",
        "path",
        "phase",
        "since",
        "version",
    )

    def __init__(self, sink: Sink, limits: Limits, budget: Budget) -> None:
        self._sink, self._limits, self._budget = sink, limits, budget
        self._parser: Any = httptools.HttpRequestParser(self)
        self.phase, self.since = Phase.IDLE, budget.now
        self.path, self.keep, self.method, self.version = "", False, b"", ""
        self.headers: dict[bytes, bytes] = {}
        self._url = self._body = b""
        self._more: bytearray | None = None
        """The body, when it comes in more than one piece."""
        self._size = self._header_count = self._head_size = self._hosts = 0
        self._taken = self._counted = 0
        self._others = False
        """Whether what is fed now also holds the end of an earlier request."""

    def feed(self, data: bytes) -> Reply | None:
        """Read what has come; the refusal when it must not be answered, and nothing is to be fed after that."""
        rest: bytes | memoryview = data
        self._others = False
        while True:
            try:
                self._parser.feed_data(rest)
                return None if self.phase is Phase.IDLE else self._bound(len(rest))
            except httptools.HttpParserUpgrade as stopped:
                # Another protocol is offered, not demanded: the request is answered in this one, and so are the next.
                rest = memoryview(rest)[stopped.args[0] :]
                plain = self._without_offer() if self.phase is Phase.BODY else b""
                self._parser = httptools.HttpRequestParser(self)
                if plain:
                    rest = plain + bytes(rest)
                if not rest:
                    return None
            except httptools.HttpParserCallbackError as error:
                if isinstance(error.__context__, _Refused):
                    return error.__context__.reply
                _log.error("a request failed", exc_info=error.__context__)
                return refuse(500, "an internal error", hint="see the log of the worker")
            except httptools.HttpParserError as error:
                return refuse(400, "this is not HTTP/1.1", got=str(error)[:100])

    def begun(self) -> tuple[str, str]:
        """Method and path of the request that has come in part, for who is told of its refusal; empty until its head
        is complete.
        """
        if self.phase is not Phase.BODY:
            return "", ""
        return self.method.decode("ascii"), target_path(self._url)

    def close(self) -> None:
        """Let go of what is held."""
        self._let_go()
        self._parser = self._more = None

    def _without_offer(self) -> bytes:
        """The head that was read last, for a new parser: after an offer of another protocol it skips the body."""
        lines = [self.method + b" " + self._url + b" HTTP/1.1"]
        lines.append(b"host:")  # that was looked at
        lines += [b"connection: close"] * (not self._parser.should_keep_alive())
        own = {name: value for name, value in self.headers.items() if name != b"expect"}  # that was dealt with
        return b"\r\n".join([*lines, *(name + b": " + value for name, value in own.items()), b"", b""])

    def _bound(self, size: int) -> Reply | None:
        """Refuse a request whose head, or the wrapping of its body, goes on and on; and one body too many."""
        limits, budget = self._limits, self._budget
        if not self._others:  # how much is of which request the parser does not say: one read is let pass
            self._taken += size
        if self.phase is Phase.HEAD:
            # Names and values count, whatever the cut; what separates them is no more than this in any honest head.
            most = limits.head + _LINE + _SEPARATORS * limits.headers
            return _large_head(limits) if self._taken > most else None
        if self._taken > _WRAPPING * limits.body + limits.head:
            return refuse(413, "the body is sent in too small chunks", hint="send it with a Content-Length")
        budget.bodies += self._size - self._counted
        self._counted = self._size
        if budget.bodies > limits.bodies:
            self._let_go()
            what, after = "too many large bodies at once", ((b"retry-after", b"1"),)
            return refuse(503, what, hint="try again in a second", headers=after)
        return None

    def _let_go(self) -> None:
        self._budget.bodies -= self._counted
        self._counted = 0

    # -- what the parser calls

    def on_message_begin(self) -> None:
        self.phase, self.since = Phase.HEAD, self._budget.now
        self._url = self._body = b""
        self.headers = {}
        self._size = self._header_count = self._head_size = self._taken = self._hosts = 0
        self._more, self.method = None, b""

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url
        self._head_size += len(url)
        if self._head_size > self._limits.head:
            raise _Refused(_large_head(self._limits))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._head_size += len(name) + len(value)
        if self._head_size > self._limits.head:
            raise _Refused(_large_head(self._limits))
        if self._header_count > self._limits.headers:
            raise _Refused(refuse(431, "too many headers", hint=f"send at most {self._limits.headers}"))
        name = name.lower()
        if name in _READ and self.phase is Phase.HEAD:  # later ones are trailers, which say nothing here
            self.headers[name] = value
        elif name == b"host" and self.phase is Phase.HEAD:
            self._hosts += 1

    def on_headers_complete(self) -> None:
        self.phase, self.since = Phase.BODY, self._budget.now
        headers, parser = self.headers, self._parser
        self.method, self.version = parser.get_method(), parser.get_http_version()
        if self.version not in _VERSIONS:
            raise _Refused(refuse(400, "this is not HTTP/1.1", got=f"HTTP/{self.version}"))
        if self._hosts != 1 and self.version == "1.1":  # RFC 9112, 3.2
            got = f"{self._hosts} of them" if self._hosts else "none"
            raise _Refused(refuse(400, "a request needs one Host header", got=got, hint="send it once"))
        if self.method == b"CONNECT":
            allow = ((b"allow", b"GET, HEAD, POST"),)
            raise _Refused(refuse(405, "this is no proxy", got="CONNECT", headers=allow))
        if b"content-encoding" in headers and headers[b"content-encoding"].strip().lower() not in (b"", b"identity"):
            shown = headers[b"content-encoding"][:80].decode("latin-1")
            raise _Refused(refuse(415, "a compressed body is not taken", got=shown, hint="send it plain"))
        length = headers.get(b"content-length")
        if length is not None and int(length[:20]) > self._limits.body:
            self._too_long()
        if b"expect" in headers:
            self._expect(headers[b"expect"])

    def _expect(self, what: bytes) -> None:
        if what.strip().lower() != b"100-continue":
            raise _Refused(refuse(417, "an expectation that is not met", got=what[:80].decode("latin-1")))
        if self.version == "1.1":
            self._sink.invite()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._limits.body:
            self._too_long()
        if self._more is not None:
            self._more += body
        elif self._body:
            self._more = bytearray(self._body)
            self._more += body
        else:
            self._body = body

    def on_message_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade() and (b"transfer-encoding" in self.headers or b"content-length" in self.headers):
            return  # its body is still to be read, by another parser
        self.phase, self.since, self._others = Phase.IDLE, self._budget.now, True
        if self._counted:
            self._let_go()
        # HTTP/1.0 would have to be told that its connection is kept.
        self.keep = parser.should_keep_alive() and self.version == "1.1"
        self.path = target_path(self._url)
        body = self._body if self._more is None else bytes(self._more)
        incoming = Incoming(self.method.decode("ascii"), self.path, self.headers or NO_HEADERS, body)
        self._sink.take(incoming, keep=self.keep)

    def _too_long(self) -> None:
        raise _Refused(refuse(413, "the body is too large", hint=f"send at most {self._limits.body} bytes"))


def _large_head(limits: Limits) -> Reply:
    return refuse(431, "the head of the request is too large", hint=f"at most {limits.head} bytes")


def target_path(url: bytes) -> str:
    """The path of a request target, decoded; in absolute form too.

    Examples
    --------
    >>> target_path(b"/predict/a%20b?x=1"), target_path(b"http://host/v2"), target_path(b"*")
    ('/predict/a b', '/v2', '*')
    """
    if not url.startswith(b"/"):
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            return url.decode("latin-1")
    path = url.partition(b"?")[0] if b"?" in url else url
    return (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")
