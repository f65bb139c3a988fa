"""The data plane as a bare ASGI application: reads a bounded body, hands it on, writes the reply."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trimtab.adapters.wire.http import DataPlane
from trimtab.adapters.wire.reply import Reply, refuse
from trimtab.serving.infer import LENGTH_HEADER

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_log = logging.getLogger("trimtab.serving")
_CLOSE = (b"connection", b"close")


class _TooLong(Exception):
    """The body is past the limit."""


class _Gone(Exception):
    """The caller hung up before the body was complete."""


def asgi(plane: DataPlane, *, max_body: int) -> App:
    """An ASGI application around a data plane.

    Parameters
    ----------
    max_body
        Largest body in bytes. A longer one is refused as soon as that is known, without keeping it in memory.
    """

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        content_type, encoding, length, json_length = _headers(scope["headers"])
        if encoding not in ("", "identity"):
            reply = refuse(
                415, "a compressed body is not taken", got=encoding[:80], hint="send it plain", headers=(_CLOSE,)
            )
            await _write(send, plane.counted(reply))
            return
        try:
            body = await _body(receive, length, max_body)
        except _Gone:
            return
        except _TooLong:
            reply = refuse(413, "the body is too large", hint=f"send at most {max_body} bytes", headers=(_CLOSE,))
            await _write(send, plane.counted(reply))
            return
        try:
            reply = await plane.handle(scope["method"], scope["path"], content_type, body, json_length=json_length)
        except Exception:  # noqa: BLE001 - the last line of defence: the caller gets an answer, the worker lives on
            _log.exception("a request failed")
            reply = plane.counted(refuse(500, "an internal error", hint="see the log of the worker"))
        await _write(send, reply)

    return app


def _headers(headers: list[tuple[bytes, bytes]]) -> tuple[str, str, int, bytes | None]:
    """Content type, content encoding, declared length, and how much of the body is JSON."""
    content_type, encoding, length, json_length = "", "", -1, None
    for name, value in headers:
        if name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"content-encoding":
            encoding = value.decode("latin-1").strip().lower()
        elif name == b"content-length" and value.isdigit():
            length = int(value[:20])
        elif name == LENGTH_HEADER:
            json_length = value
    return content_type, encoding, length, json_length


async def _body(receive: Receive, length: int, max_body: int) -> bytes:
    if length > max_body:
        raise _TooLong
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body: bytes = message.get("body", b"")
        if len(parts) + len(body) > max_body:
            raise _TooLong
        if not message.get("more_body", False):
            return bytes(parts) + body if parts else body
        parts += body


async def _write(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
