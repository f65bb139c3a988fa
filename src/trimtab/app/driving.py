"""A small load generator: requests over kept connections, as fast as they are answered or at a fixed rate."""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trimtab.errors import Unavailable

SILENCE_S = 10.0
"""A worker that says nothing for so long is given up."""


@dataclass
class Load:
    """What came of a load."""

    requests: int = 0
    """Requests that were sent, or due."""
    errors: int = 0
    seconds: float = 0.0
    """As long as was asked for, and longer when the last answer came later."""
    first_error: str = ""
    latencies_ns: array[int] = field(default_factory=lambda: array("q"), repr=False)

    @property
    def rate(self) -> float:
        """Answers of status 200 a second."""
        return (self.requests - self.errors) / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        """Infinite when nothing was answered."""
        if not self.latencies_ns:
            return float("inf")
        return float(np.quantile(np.frombuffer(self.latencies_ns, np.int64), share)) / 1e6


class _Connection:
    __slots__ = ("buffer", "sent", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sent = 0


def drive(
    addresses: Sequence[tuple[str, int]],
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    rate: float = 0.0,
) -> Load:
    """Send whole HTTP requests in turn for some seconds, and wait for the answers.

    Parameters
    ----------
    addresses
        Connections are spread evenly over them.
    rate
        Requests a second, whatever the server does; 0 for a closed loop, in which each connection sends its next
        request when the last is answered. At a rate, a latency counts from when the request was due: a server that
        stalls is charged for all that it kept waiting. What is due and unsent at the end is an error.

    Raises
    ------
    Unavailable
        When a connection ends before its answer, or nothing comes for 10 s.
    """
    opened: list[_Connection] = []
    try:
        opened += [_Connection(addresses[place % len(addresses)]) for place in range(connections)]
        return _Drive(opened, requests, rate=rate).run(seconds)
    except OSError as error:
        raise Unavailable("the load broke off", got=str(error)) from None
    finally:
        for one in opened:
            one.socket.close()


class _Drive:
    def __init__(self, opened: list[_Connection], requests: Sequence[bytes], *, rate: float) -> None:
        self._requests, self._step = requests, 1e9 / rate if rate else 0.0
        self._by_number = {one.socket.fileno(): one for one in opened}
        self._idle = list(opened)
        self._load = Load()

    def run(self, seconds: float) -> Load:
        load, now, poll = self._load, time.perf_counter_ns, select.epoll()
        answered, over = 0, False
        for number in self._by_number:
            poll.register(number, select.EPOLLIN)
        begun = now()
        end = begun + int(seconds * 1e9)
        heard = begun
        with poll:
            while True:
                at = now()
                if at < end:
                    self._send(begun, at)
                elif self._step and not over:
                    # If we slept past the end ourselves, what was due by then is late, not lost for want of a server.
                    self._send(begun, end - 1)
                over = at >= end
                if over and len(self._idle) == len(self._by_number):
                    break
                # Of the same moment: with a later one, the end may pass between, and nothing would be left to wait for.
                ready = poll.poll(self._pause(begun, at, end))
                heard = now() if ready else heard
                if now() - heard > SILENCE_S * 1e9:
                    raise Unavailable("a worker fell silent under load", got=f"for {SILENCE_S:g} s")
                for number, _ in ready:
                    self._receive(self._by_number[number])
                answered = now() if ready else answered
        # Not until now: on a busy machine we may be woken late, and that is no answer's fault.
        load.seconds = (max(end, answered) - begun) / 1e9
        if self._step:  # those that were due and never sent have waited too
            due = int(seconds * 1e9 / self._step)
            for place in range(load.requests, due):
                load.latencies_ns.append(now() - begun - int(place * self._step))
            load.errors += max(0, due - load.requests)
            load.requests = max(due, load.requests)
        return load

    def _send(self, begun: int, at: int) -> None:
        """What is due, over the connections that are idle."""
        load = self._load
        while self._idle and (not self._step or load.requests * self._step <= at - begun):
            one = self._idle.pop()
            one.sent = begun + int(load.requests * self._step) if self._step else at
            one.socket.sendall(self._requests[load.requests % len(self._requests)])
            load.requests += 1

    def _pause(self, begun: int, at: int, end: int) -> float:
        """Seconds to wait for an answer: until the next request is due, or the end."""
        if not (self._step and self._idle):
            return max(0.001, min(SILENCE_S, (end - at) / 1e9)) if at < end else SILENCE_S
        gap = (begun + self._load.requests * self._step - at) / 1e9
        # The system's timer is too coarse for the last half millisecond: look without waiting then.
        return max(0.0, min(gap, (end - at) / 1e9) - 0.0005) if at < end else SILENCE_S

    def _receive(self, one: _Connection) -> None:
        data = one.socket.recv(262_144)
        if not data:
            raise Unavailable("a worker closed a connection before its answer")
        one.buffer += data
        head, edge, body = one.buffer.partition(b"\r\n\r\n")
        if not edge or len(body) < _length(head):
            return
        one.buffer = b""
        self._load.latencies_ns.append(time.perf_counter_ns() - one.sent)
        if head[9:12] != b"200":
            self._load.errors += 1
            self._load.first_error = (
                self._load.first_error or f"{head[9:12].decode()}: {body[:200].decode('utf-8', 'replace')}"
            )
        self._idle.append(one)


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0
