"""A small HTTP client for Trimtab's own servers: JSON in, JSON out, one connection kept open."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from trimtab.core.ids import Json
from trimtab.errors import InputError, Unavailable, UnknownName


class JsonClient:
    """Talks to one server; not for use from several threads at once.

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
        """The JSON answer to a POST."""
        return self._ask("POST", path, msgspec.json.encode(body))

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        try:
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
            content = answer.read()
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


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None
