"""Heads of requests that were parsed before, byte for byte: callers repeat themselves, and parsing costs most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_COUNT, _BYTES = 256, 1024
"""So many heads are remembered, of at most so many bytes."""
_ALWAYS_NEW = (b"x-request-id", b"traceparent")
"""Headers that no two requests share."""
_SPECIAL = (b"expect", b"transfer-encoding")
"""Headers that ask for more than an answer."""


class Head(NamedTuple):
    """What the parser made of the head of a POST that keeps its connection."""

    path: str
    headers: Mapping[bytes, bytes]
    length: int
    """Of the body, in bytes."""


class KnownHeads(dict[bytes, Head]):
    """By the bytes of a head, its empty line included.

    A head stands for itself only at the start of a request that came in one piece with its body and nothing else.
    """

    def remember(self, data: bytes, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Keep the head of a whole request, when it is an ordinary one.

        Parameters
        ----------
        data
            What came in one piece: a POST that keeps its connection, from its first byte to its last.
        path, headers
            What the parser made of it.
        """
        end = data.find(b"\r\n\r\n") + 4
        length = headers.get(b"content-length")
        if length is None or end > _BYTES or int(length) != len(data) - end:
            return
        # As it was sent: after an offer of another protocol, what the parser made lacks what was dealt with before.
        sent = data[:end].lower()
        if any(name in sent for name in _SPECIAL) or any(name in headers for name in _ALWAYS_NEW):
            return
        if len(self) >= _COUNT:
            self.clear()
        self[data[:end]] = Head(path, headers, int(length))
