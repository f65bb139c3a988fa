"""What goes back over the wire, whatever the server: status, JSON body, and the few headers that matter."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from trimtab.core.ids import Json
from trimtab.errors import InputError, Overloaded, TooLarge, TrimtabError, Unavailable, UnknownName

JSON_TYPE = b"application/json"
HTML_TYPE = b"text/html; charset=utf-8"
BYTES_TYPE = b"application/octet-stream"
TEXT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Headers = tuple[tuple[bytes, bytes], ...]


class Reply(NamedTuple):
    """An answer to one request."""

    status: int
    body: bytes
    content_type: bytes = JSON_TYPE
    headers: Headers = ()


def reply_json(value: Json, *, status: int = 200) -> Reply:
    """A value as JSON."""
    return Reply(status, msgspec.json.encode(value))


def status_of(error: TrimtabError) -> int:
    """The HTTP status that says whose fault it was.

    Examples
    --------
    >>> status_of(UnknownName("no such model")), status_of(Unavailable("full"))
    (404, 503)
    """
    match error:
        case UnknownName():
            return 404
        case TooLarge():
            return 413
        case InputError():
            return 400
        case Overloaded():
            return 429
        case Unavailable():
            return 503
        case _:
            return 500


def reply_error(error: TrimtabError, *, plain: bool = False) -> Reply:
    """An error as JSON: its parts, or with ``plain`` the one sentence that the Open Inference Protocol has."""
    status = status_of(error)
    body = msgspec.json.encode({"error": str(error)} if plain else error.to_json())
    return Reply(status, body, headers=((b"retry-after", b"1"),) if status in (429, 503) else ())


def refuse(status: int, what: str, *, got: str = "", hint: str = "", headers: Headers = ()) -> Reply:
    """A refusal by the protocol itself: wrong method, wrong media type, no such path."""
    fields = {"error": what, "got": got, "hint": hint}
    body = {name: text for name, text in fields.items() if text} | {"kind": "InputError"}
    return Reply(status, msgspec.json.encode(body), headers=headers)
