"""The load generator: a closed loop over kept connections in one thread, on raw sockets and epoll.

Each connection sends its next request when the answer to the last has come. Every answer is verified.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Check = Callable[[int, bytes], bool]
"""(row number, body) → whether the body is the right answer."""
BEHIND_S = 0.01
SILENCE_S = 20.0
"""A server that says nothing for so long is given up."""


answered = Counter()
"""Answers of status 200 that were had, by port."""


class ServerLost(Exception):
    """The server closed a connection, or fell silent."""


@dataclass
class Load:
    """What came of a load."""

    requests: int = 0
    errors: int = 0
    """Answers with another status than 200."""
    wrong: int = 0
    """Answers of status 200 with another value than the model's."""
    seconds: float = 0.0
    latencies_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    first_error: str = ""
    refused: int = 0
    """Of the errors, those that say to come again: 429 and 503."""
    unsent: int = 0
    """Due, and given up, because no connection was free or the generator was busy."""
    right_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Latencies of the answers of status 200, of a load that sheds."""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def quantile_ms(self, share: float) -> float:
        return float(np.quantile(self.latencies_ns, share)) / 1e6


class _Connection:
    __slots__ = ("buffer", "due", "row", "sent", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.row = self.sent = 0
        self.due = 0


def drive(
    address: tuple[str, int],
    requests: Sequence[bytes],
    check: Check,
    *,
    connections: int,
    seconds: float = 0.0,
    count: int = 0,
) -> Load:
    """Send whole HTTP requests for some seconds, or a number of them, and wait for every answer.

    Raises
    ------
    ServerLost
        When a connection ends before its answer, or nothing comes for 20 s.
    """
    open_connections = [_Connection(address) for _ in range(connections)]
    gc.collect()
    gc.disable()
    try:
        load = _looped(open_connections, requests, check, seconds, count)
        answered[address[1]] += load.requests - load.errors
        return load
    finally:
        gc.enable()
        for one in open_connections:
            one.socket.close()


def _looped(opened: list[_Connection], requests: Sequence[bytes], check: Check, seconds: float, count: int) -> Load:
    now = time.perf_counter_ns
    poll = select.epoll()
    by_number = {one.socket.fileno(): one for one in opened}
    load, latencies = Load(), []
    kinds, following = len(requests), 0
    begun = now()
    end = begun + int(seconds * 1e9) if seconds else begun + 10**15
    left = count or 10**12
    waiting = 0
    for one in opened:
        poll.register(one.socket.fileno(), select.EPOLLIN)
        if left:
            left -= 1
            one.row, following, one.sent = following, (following + 1) % kinds, now()
            one.socket.sendall(requests[one.row])
            waiting += 1
    while waiting:
        ready = poll.poll(SILENCE_S)
        if not ready:
            raise ServerLost(f"silent for {SILENCE_S:g} s, {waiting} answers missing")
        for number, _ in ready:
            one = by_number[number]
            data = one.socket.recv(262_144)
            if not data:
                raise ServerLost("a connection was closed before its answer")
            if one.buffer:
                data = one.buffer + data
            found = _response(data)
            if found is None:
                one.buffer = data
                continue
            one.buffer = b""
            came = now()
            latencies.append(came - one.sent)
            _verify(load, found, one.row, check)
            if left and came < end:
                left -= 1
                one.row, following, one.sent = following, (following + 1) % kinds, came
                one.socket.sendall(requests[one.row])
            else:
                waiting -= 1
    load.seconds = (now() - begun) / 1e9
    load.latencies_ns = np.array(latencies, np.int64)
    load.requests = len(latencies)
    poll.close()
    return load


def hold(
    address: tuple[str, int],
    requests: Sequence[bytes],
    check: Check,
    *,
    connections: int,
    rate: float,
    seconds: float,
    shed: bool = False,
) -> Load:
    """Ask at a fixed rate, whatever the server does, for some seconds.

    With ``shed`` a request that was due :data:`BEHIND_S` ago, because every connection was busy or the generator itself
    was, is given up and counted: it never became a request.

    A latency counts from when the request was due, so that a server that stalls is charged for all it kept waiting.
    A request that is due while every connection is busy waits for one.

    Raises
    ------
    ServerLost
        As :func:`drive`.
    """
    opened = [_Connection(address) for _ in range(connections)]
    gc.collect()
    gc.disable()
    try:
        load = _held(opened, requests, check, rate, seconds, shed=shed)
        answered[address[1]] += load.requests - load.errors
        return load
    finally:
        gc.enable()
        for one in opened:
            one.socket.close()


def _held(
    opened: list[_Connection], requests: Sequence[bytes], check: Check, rate: float, seconds: float, *, shed: bool
) -> Load:
    now, load, latencies, right = time.perf_counter_ns, Load(), array("q"), array("q")
    poll, by_number = select.epoll(), {one.socket.fileno(): one for one in opened}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    idle, step, kinds = list(opened), 1e9 / rate, len(requests)
    total, sent, begun = int(rate * seconds), 0, now()
    while len(latencies) + load.unsent < total:
        late = now() - begun
        if shed and sent < total:
            missed = min(total, int((late - BEHIND_S * 1e9) / step)) - sent
            if missed > 0:
                load.unsent, sent = load.unsent + missed, sent + missed
        while idle and sent < total and sent * step <= late:
            one = idle.pop()
            one.row, one.sent = sent % kinds, begun + int(sent * step)
            one.socket.sendall(requests[one.row])
            sent += 1
        # The system's timer is too coarse for the gap between two requests: look without waiting while one is near.
        gap = sent * step - late if idle and sent < total else 1e9
        ready = poll.poll(max(0.0, gap / 1e9 - 0.0005)) if gap < 1e9 else poll.poll(SILENCE_S)
        if not ready and gap >= 1e9 and len(idle) < len(opened):
            raise ServerLost(f"silent for {SILENCE_S:g} s")
        for number, _ in ready:
            one = by_number[number]
            data = one.socket.recv(262_144)
            if not data:
                raise ServerLost("a connection was closed before its answer")
            data = one.buffer + data
            found = _response(data)
            one.buffer = data if found is None else b""
            if found is not None:
                latencies.append(now() - one.sent)
                _verify(load, found, one.row, check)
                if found[0] == b"200":
                    right.append(latencies[-1])
                idle.append(one)
    load.seconds, load.requests = (now() - begun) / 1e9, total - load.unsent
    load.right_ns = np.array(right, np.int64)
    load.latencies_ns = np.array(latencies, np.int64)
    poll.close()
    return load


def _verify(load: Load, found: tuple[bytes, bytes], row: int, check: Check) -> None:
    status, body = found
    if status != b"200":
        load.errors += 1
        load.refused += status in (b"429", b"503")
        load.first_error = load.first_error or f"{status.decode()}: {body[:300].decode(errors='replace')}"
    elif not check(row, body):
        load.wrong += 1
        load.first_error = load.first_error or f"wrong for row {row}: {body[:300].decode(errors='replace')}"


_lengths: dict[bytes, int] = {}
_CHUNKED = -1


def _response(data: bytes) -> tuple[bytes, bytes] | None:
    """Status and body, or None while something is missing."""
    edge = data.find(b"\r\n\r\n")
    if edge < 0:
        return None
    head = data[:edge]
    length = _lengths.get(head)
    if length is None:
        if len(_lengths) > 10_000:
            _lengths.clear()
        length = _lengths[head] = _length(head)
    if length == _CHUNKED:
        return None if not data.endswith(b"0\r\n\r\n") else (data[9:12], _joined(data[edge + 4 :]))
    body = data[edge + 4 :]
    return (data[9:12], body) if len(body) >= length else None


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
        if line.startswith(b"transfer-encoding:") and b"chunked" in line:
            return _CHUNKED
    return 0


def _joined(chunks: bytes) -> bytes:
    parts = []
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        parts.append(rest[:length])
        chunks = rest[length + 2 :]
    return b"".join(parts)
