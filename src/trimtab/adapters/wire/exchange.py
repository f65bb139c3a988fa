"""What a request looks like to the data plane, whatever server took it off the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from trimtab.adapters.wire.reply import Reply

WANTED = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"inference-header-content-length",
        b"traceparent",
        b"x-request-id",
        b"x-trimtab-arm",
        b"x-trimtab-deadline-ms",
        b"x-trimtab-unit",
    }
)
"""The headers that mean something here; servers leave the others out."""
NO_HEADERS: Mapping[bytes, bytes] = {}


class Incoming(NamedTuple):
    """A request whose body is complete."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    headers: Mapping[bytes, bytes]
    """Those of :data:`WANTED` that came, by lower-case name."""
    body: bytes


Respond = Callable[[Reply], None]
"""Takes the answer to one request; called exactly once, from the event loop's thread."""
