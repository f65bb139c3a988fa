"""The console and the API of the control process: events in, status and decisions out, over HTTP.

Everything but ``/health`` needs the token: ``Authorization: Bearer <token>``, or the cookie that ``/?token=<token>``
sets for a browser. Handlers call a :class:`Control`; nothing from a request is taken as a path, code or a query.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from trimtab.core.ids import Json
from trimtab.errors import ConflictError, InputError, TooLarge, TrimtabError, Unavailable, UnknownName

COOKIE = "trimtab_token"
_REFUSAL = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Trimtab: a token is needed</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}
:root{color-scheme:light dark}</style>
<h1>A token is needed</h1>
<p><code>trimtab up</code> printed it at its first start, with the address of this page. Open
<code>/?token=&lt;token&gt;</code> once; the browser keeps it.</p>
<p>If it is lost, end <code>trimtab up</code> and start <code>trimtab up --new-token</code>. Where
<code>TRIMTAB_TOKEN</code> is set, that is the token.</p>
</html>
"""

Handler = Callable[[Request], Awaitable[Response]]


class Control(Protocol):
    """What the control process does for its callers. Every method may be called from any thread."""

    def ingest(self, source: str, rows: list[Mapping[str, Json]]) -> dict[str, Json]:
        """Take events of a source; on disk when it returns. Says what was accepted, repeated or quarantined."""
        ...

    def status(self) -> dict[str, Json]:
        """Everything the status page shows."""
        ...

    def log(self, *, at: str | None, model: str | None, limit: int) -> dict[str, Json]:
        """The latest events of the ledger, and what was live at a moment."""
        ...

    def ask(self, model: str, kind: str, fields: Mapping[str, Json]) -> dict[str, Json]:
        """Pass on what an operator asks for: ``train approve deny rollback force``."""
        ...

    def advance(self, when: str) -> dict[str, Json]:
        """Move the clock, where a driver controls it; else ``InputError``."""
        ...

    def page(self) -> str:
        """The status page as HTML."""
        ...


def control_app(
    control: Control, *, token_digest: str, max_body: int, max_rows: int, own_digest: str = ""
) -> Starlette:
    """The ASGI application of the control process.

    Parameters
    ----------
    token_digest
        SHA-256 of the token, hexadecimal.
    own_digest
        Of a second token that counts as well: the one by which the command line of the same machine comes in.
    max_body, max_rows
        Largest body in bytes (413 above) and most rows in one body.
    """
    console = _Console(control, max_body, max_rows)
    guard = functools.partial(_guarded, digests=tuple(filter(None, (token_digest, own_digest))))
    routes = [
        Route("/", guard(console.page), methods=["GET"]),
        Route("/health", console.health, methods=["GET"]),
        Route("/v1/status", guard(console.status), methods=["GET"]),
        Route("/v1/log", guard(console.log), methods=["GET"]),
        Route("/v1/events/{source}", guard(console.ingest), methods=["POST"]),
        Route("/v1/models/{model}/{kind}", guard(console.ask), methods=["POST"]),
        Route("/v1/clock", guard(console.advance), methods=["POST"]),
    ]
    handlers: Any = {TrimtabError: _error, HTTPException: _http_error, Exception: _error}
    return Starlette(routes=routes, exception_handlers=handlers)


class _Console:
    """One method per route; the work is done by the control, off the event loop."""

    def __init__(self, control: Control, max_body: int, max_rows: int) -> None:
        self._control, self._max_body, self._max_rows = control, max_body, max_rows

    async def ingest(self, request: Request) -> Response:
        body = await _json_body(request, self._max_body)
        rows = body if isinstance(body, list) else body.get("rows", [body]) if isinstance(body, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError('the body must be an event, a list of events or {"rows": [...]}', got=type(body).__name__)
        if len(rows) > self._max_rows:
            raise TooLarge("too many events in one body", got=str(len(rows)), hint=f"send at most {self._max_rows}")
        return JSONResponse(await run_in_threadpool(self._control.ingest, request.path_params["source"], rows))

    async def status(self, _: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._control.status))

    async def log(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", "100")
        if not limit.isdigit() or not 0 < int(limit) <= 10_000:
            raise InputError("limit must be a number from 1 to 10000", got=repr(limit))
        read = functools.partial(self._control.log, at=query.get("at"), model=query.get("model"), limit=int(limit))
        return JSONResponse(await run_in_threadpool(read))

    async def ask(self, request: Request) -> Response:
        body = await _json_body(request, self._max_body)
        if not isinstance(body, dict):
            raise InputError("the body must be a JSON object", got=type(body).__name__)
        where = request.path_params
        return JSONResponse(await run_in_threadpool(self._control.ask, where["model"], where["kind"], body))

    async def advance(self, request: Request) -> Response:
        body = await _json_body(request, self._max_body)
        if not isinstance(body, dict) or not isinstance(body.get("now"), str):
            raise InputError('the body must be {"now": "<ISO 8601 time>"}')
        return JSONResponse(await run_in_threadpool(self._control.advance, body["now"]))

    async def page(self, request: Request) -> Response:
        token = request.query_params.get("token")
        if token is not None:
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        return HTMLResponse(await run_in_threadpool(self._control.page))

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})


def _guarded(handler: Handler, *, digests: tuple[str, ...]) -> Handler:
    async def checked(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = request.query_params.get("token") or request.cookies.get(COOKIE, "")
        found = hashlib.sha256(given.encode()).hexdigest()
        if not any([hmac.compare_digest(found, digest) for digest in digests]):  # noqa: C419 - each is compared, always
            refused = {"WWW-Authenticate": "Bearer"}
            if "text/html" in request.headers.get("accept", ""):  # a person with a browser
                return HTMLResponse(_REFUSAL, status_code=401, headers=refused)
            body = {
                "error": "a valid token is needed",
                "hint": "send Authorization: Bearer <token>",
                "kind": "Unauthorized",
            }
            return JSONResponse(body, status_code=401, headers=refused)
        return await handler(request)

    return checked


async def _json_body(request: Request, limit: int) -> Any:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge("the body is too large", got=f"{declared} bytes", hint=f"send at most {limit} bytes")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise TooLarge("the body is too large", got=f"over {limit} bytes", hint=f"send at most {limit} bytes")
    except ClientDisconnect:
        raise InputError("the connection closed before the body was complete") from None
    try:
        return msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("the body is not JSON", got=str(error)[:200]) from None


async def _error(_: Request, error: Exception) -> Response:
    match error:
        case UnknownName():
            status = 404
        case TooLarge():
            status = 413
        case InputError():
            status = 400
        case ConflictError():
            status = 409
        case Unavailable():
            status = 503
        case _:
            status = 500
    body = error.to_json() if isinstance(error, TrimtabError) else {"error": "internal error"}
    return JSONResponse(body, status_code=status, headers={"Retry-After": "1"} if status == 503 else None)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"error": error.detail, "kind": "HttpError"}, status_code=error.status_code, headers=error.headers
    )
