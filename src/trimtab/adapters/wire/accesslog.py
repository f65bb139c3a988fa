"""The access log: one line of JSON per request, sampled, without bodies, headers or tokens.

It never slows an answer: lines wait in memory, a thread writes them, and what does not fit is dropped and counted.
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import msgspec

from trimtab.core.clock import Micros, iso
from trimtab.serving.meter import Counter

_log = logging.getLogger("trimtab.serving")
_encoder = msgspec.json.Encoder()
_MOST_PATH = 200
FLUSH_S = 0.2


class Finished(msgspec.Struct, frozen=True):
    """A request that was answered, as the access log and traces see it."""

    when: Micros
    """When it was read."""
    took_us: int
    request_id: str
    method: str
    path: str
    route: str
    """The pattern of the path; empty for none."""
    status: int
    model: str = ""
    version: str = ""
    arm: str = ""
    rows: int = 0
    stages: Mapping[str, int] = {}
    """Microseconds by stage, in the order in which they came."""
    traceparent: str = ""
    grpc: str = ""
    """The status code of a call over gRPC by its name; ``status`` is then what HTTP would have said. Empty for HTTP."""


class _Line(msgspec.Struct, omit_defaults=True):
    time: str
    request_id: str
    method: str
    path: str
    status: int
    us: int
    model: str = ""
    version: str = ""
    arm: str = ""
    rows: int = 0
    stages_us: Mapping[str, int] = {}
    grpc: str = ""


def access_line(done: Finished) -> bytes:
    """A request as a line of JSON.

    Examples
    --------
    >>> access_line(Finished(0, 950, "r1", "GET", "/health", "/health", 200)).decode().strip()
    '{"time":"1970-01-01T00:00:00Z","request_id":"r1","method":"GET","path":"/health","status":200,"us":950}'
    """
    line = _Line(
        iso(done.when), done.request_id, done.method[:16], done.path[:_MOST_PATH], done.status, done.took_us,
        done.model, done.version[:12], done.arm, done.rows, done.stages, done.grpc,
    )  # fmt: skip
    return _encoder.encode(line) + b"\n"


def drawn(request_id: str, share: float) -> bool:
    """Whether a request is among the share that is looked at; the same for every process that sees its id.

    Examples
    --------
    >>> drawn("r1", 1.0), drawn("r1", 0.0)
    (True, False)
    """
    return zlib.crc32(request_id.encode()) < share * 2**32


class AccessLog:
    """Writes lines to a file that several workers may share. Server errors are always written, whatever the share.

    Parameters
    ----------
    path
        Opened for appending; opened again when it was moved away (rotated).
    share
        Of requests that are written, from 0 to 1.
    dropped
        Counts lines that were not written.
    limit
        Most lines that wait.
    """

    def __init__(self, path: Path, *, share: float, dropped: Counter, limit: int = 10_000) -> None:
        self.share = share
        self._path, self._dropped, self._limit = path, dropped, limit
        self._lines: deque[bytes] = deque()
        self._stop = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def add(self, done: Finished) -> None:
        """Take a request, when it was drawn; never blocks, never raises."""
        if done.status < 500 and not drawn(done.request_id, self.share):
            return
        if len(self._lines) >= self._limit:
            self._dropped.add()
        else:
            self._lines.append(access_line(done))

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        count = len(self._lines)
        if not count:
            return
        lines = [self._lines.popleft() for _ in range(count)]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Opened anew each time: whoever rotates logs need not tell us.
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                text = b"".join(lines)
                if os.write(file, text) < len(text):
                    raise OSError(28, "not all lines were taken")
            finally:
                os.close(file)
            self._failed = False
        except OSError as error:
            self._dropped.add(count)
            if not self._failed:
                _log.error("the access log cannot be written: %s", error)
            self._failed = True
