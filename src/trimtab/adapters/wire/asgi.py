"""The data plane as a bare ASGI application: reads a bounded body, hands it on, writes the reply."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trimtab.adapters.wire.exchange import WANTED, Incoming
from trimtab.adapters.wire.observed import Plane
from trimtab.adapters.wire.reply import Reply, refuse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_CLOSE = (b"connection", b"close")


class _TooLong(Exception):
    """The body is past the limit."""


class _Gone(Exception):
    """The caller hung up before the body was complete."""


def asgi(plane: Plane, *, max_body: int) -> App:
    """An ASGI application around a data plane.

    Parameters
    ----------
    max_body
        Largest body in bytes. A longer one is refused as soon as that is known, without keeping it in memory.
    """

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["http_version"] == "1.1" and sum(name == b"host" for name, _ in scope["headers"]) != 1:
            reply = refuse(400, "a request needs one Host header", hint="send it once", headers=(_CLOSE,))
            await _write(send, plane.counted(reply, scope["method"], scope["path"]))
            return
        # From behind: the server adds trailers at the end, which must not take the place of headers.
        headers = {name: value for name, value in reversed(scope["headers"]) if name in WANTED}
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        if encoding not in ("", "identity"):
            reply = refuse(
                415, "a compressed body is not taken", got=encoding[:80], hint="send it plain", headers=(_CLOSE,)
            )
            await _write(send, plane.counted(reply, scope["method"], scope["path"]))
            return
        try:
            body = await _body(receive, _length(scope["headers"]), max_body)
        except _Gone:
            return
        except _TooLong:
            reply = refuse(413, "the body is too large", hint=f"send at most {max_body} bytes", headers=(_CLOSE,))
            await _write(send, plane.counted(reply, scope["method"], scope["path"]))
            return
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(reply: Reply) -> None:
            if not answer.done():  # the caller may have hung up
                answer.set_result(reply)

        plane.take(Incoming(scope["method"], scope["path"], headers, body), respond)
        await _write(send, await answer)

    return app


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """The declared length of the body, -1 for none."""
    found = next((value for name, value in headers if name == b"content-length"), b"")
    return int(found[:20]) if found.isdigit() else -1


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


class UvicornServer:
    """A data plane carried by uvicorn.

    Its listening socket closes with it: what waits in the queue then is reset.

    Parameters
    ----------
    drain_s
        How long a server that was told to stop waits for answers under way.
    """

    def __init__(self, plane: Plane, *, max_body: int, drain_s: int = 10, backlog: int = 2048) -> None:
        import uvicorn
        from uvicorn.config import Config

        self._server = uvicorn.Server(
            Config(
                asgi(plane, max_body=max_body),
                http="httptools",
                loop="none",
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=backlog,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=drain_s,
            )
        )

    def stop(self) -> None:
        """End :meth:`run`, or keep it from beginning."""
        self._server.should_exit = True

    async def run(self, listener: socket.socket, ready: Callable[[], None] | None = None) -> None:
        """Answer until stopped, then finish what was accepted."""
        if ready is not None:
            ready()  # the socket listens: connections wait in its queue
        await self._server.serve(sockets=[listener])
