"""Leaving callers over gRPC without failing a call.

The library has no such thing: from the moment in which its server is told to stop, calls that come are cancelled, and
callers come until they hear of it. What it does do without a loss is to send connections away that are old. So every
connection gets old soon; who leaves first closes the port, which the library does not notice, and waits until the last
connection has gone elsewhere. Only then is there nobody to cancel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LOOK_S = 0.1
_SPARE_S = 2.0
"""Of ten seconds: on a busy machine callers are slow to go."""
_SPREAD = 1.1
"""The library ends connections up to a tenth before or after their age, so that they do not all come back at once."""


def age_ms(drain_s: float) -> int:
    """How old a connection gets, in milliseconds, so that the last has gone well before there is no more time to drain.

    Examples
    --------
    >>> age_ms(10), age_ms(1)
    (7273, 455)
    """
    spare = min(max(_SPARE_S, _SPARE_S / 10 * drain_s), drain_s / 2)
    return max(1, round((drain_s - spare) / _SPREAD * 1000))


def close_port(port: int) -> None:
    """Close the sockets of this process that listen on a port, under whoever holds them; the descriptors stay taken."""
    for descriptor in [number for number, listens in _sockets(port) if listens]:
        with socket.socket() as deaf:
            os.dup2(deaf.fileno(), descriptor, inheritable=False)


def connections(port: int) -> int:
    """How many connections this process has accepted on a port and not closed."""
    return sum(not listens for _, listens in _sockets(port))


async def all_gone(port: int, *, within_s: float) -> bool:
    """Wait until no connection to a port is left; whether that came to be in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while connections(port):
        if loop.time() >= end:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


def _sockets(port: int) -> Iterator[tuple[int, bool]]:
    """The descriptors of this process's TCP sockets of a port, and whether each listens."""
    for name in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            if not stat.S_ISSOCK(os.fstat(int(name.name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name.name))) as seen:
                inet = seen.family in (socket.AF_INET, socket.AF_INET6) and seen.type == socket.SOCK_STREAM
                if inet and seen.getsockname()[1] == port:
                    yield int(name.name), bool(seen.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
