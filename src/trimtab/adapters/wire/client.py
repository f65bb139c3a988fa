"""A small HTTP client for Trimtab's own servers: JSON in, JSON out, one connection kept open."""

from __future__ import annotations

import http.client
import math
import select
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from trimtab.core.ids import Json
from trimtab.errors import InputError, Unavailable, UnknownName

_KEPT_S = 1.0
"""How long a connection may have been idle to be used again: less than any server of ours waits to close one."""


class JsonClient:
    """Talks to one server; not for use from several threads at once.

    A connection that was idle for a while, or that the server has closed, is made anew before a request is sent. A
    request that was sent is sent again only when it is a GET: the server may have taken it.

    Parameters
    ----------
    url
        ``http://host:port``.
    token
        Sent as a bearer token when given.
    timeout_s
        Seconds that any one step of a request may take.
    headers
        Sent with every request.
    """

    def __init__(
        self, url: str, *, token: str = "", timeout_s: float = 30.0, headers: Mapping[str, str] | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise InputError("not the address of a server", got=repr(url), hint="write http://host:port")
        self.url = url
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}
        self._used = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str) -> Any:
        """The JSON answer to a GET."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Json) -> Any:
        """The JSON answer to a POST; a NaN in the body is sent as ``null``, which is a missing value.

        Raises
        ------
        InputError
            When the body holds an infinity, which as ``null`` would pass for a missing value, or something that JSON
            has no form for: it is not sent then. When the server refuses it.
        """
        try:
            data = msgspec.json.encode(body)
        except (TypeError, ValueError) as error:  # the latter is of a text that is no Unicode
            raise InputError(
                "a value cannot be sent as JSON",
                got=(_first(body, "", _unsendable) or str(error))[:200],
                hint="send a number, a text, true, false, or null where it may be missing",
            ) from None
        if b"null" in data and (found := _first(body, "", _infinite)):
            raise InputError(
                "an infinity cannot be sent", got=found, hint="send a finite number, or NaN where it may be missing"
            )
        return self._ask("POST", path, data)

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        try:
            answer, content = self._exchanged(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unavailable(
                "the server does not answer",
                got=f"{method} {self.url}{path}: {error}",
                hint="is `trimtab up` running for this project?",
            ) from None
        decoded = _decoded(content)
        if answer.status < 400:
            return decoded
        fields = decoded if isinstance(decoded, dict) else {}
        kind = UnknownName if answer.status == 404 else Unavailable if answer.status >= 500 else InputError
        raise kind(
            str(fields.get("error", f"{method} {path} was refused")),
            got=str(fields.get("got", f"status {answer.status}")),
            hint=str(fields.get("hint", "")),
        )

    def _exchanged(self, method: str, path: str, body: bytes | None) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connection
        kept = connection.sock
        if kept is not None and (time.monotonic() - self._used > _KEPT_S or _ended(kept)):
            connection.close()
            kept = None
        try:
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
        except (BrokenPipeError, ConnectionResetError):  # a close without an answer is the latter too
            if kept is None or method != "GET":
                raise
            connection.close()
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
        content = answer.read()
        self._used = time.monotonic()
        return answer, content


def _first(value: Any, place: str, wrong: Callable[[Any], bool]) -> str:
    """The first wrong value in a body, and where it is; empty when there is none."""
    if isinstance(value, Mapping):
        inside = ((one, f"{place}.{name}" if place else str(name)) for name, one in value.items())
    elif isinstance(value, list | tuple):
        inside = ((one, f"{place}[{number}]") for number, one in enumerate(value))
    else:
        shown = str(value) if isinstance(value, float) else f"{value!r} of type {type(value).__name__}"
        return f"{place}: {shown}" if wrong(value) else ""
    return next((found for one, there in inside if (found := _first(one, there, wrong))), "")


def _infinite(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _unsendable(value: object) -> bool:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError):
        return True
    return False


def _ended(kept: socket.socket) -> bool:
    """Whether a connection on which nothing is under way has something to read: its end."""
    looked = select.poll()
    looked.register(kept, select.POLLIN)
    return bool(looked.poll(0))


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None
