"""Listening sockets: several workers have one each for the same port."""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from trimtab.errors import Unavailable

_OTHER_FILES = 128
"""Open files that are no connections: stores, records, libraries, and callers who are just told of a full house."""
_TRIES = 4
"""To take the last place of a queue, which somebody else may take first."""


def reserved_socket(host: str, port: int, *, shared: bool = False, option: str = "--port") -> socket.socket:
    """A port for listening sockets that come and go, kept until this one closes: it is bound and never listens.

    Workers share their port by ``SO_REUSEPORT``, so the kernel lets any other process of the same user share it too;
    connections are then spread over both. So whoever starts workers takes the port first.

    Parameters
    ----------
    port
        0 takes a free one.
    shared
        Whether workers that are to be joined hold it already; else nobody may.
    option
        Of the command line, by which a person chooses another.

    Raises
    ------
    Unavailable
        When another program has it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kept = socket.socket(family, socket.SOCK_STREAM)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            if port and not shared:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended are none
                alone.bind((host, port))
                # From here on it can be joined, by the one that is kept: nobody can take the port between the two.
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _join(kept, host, port)
    except OSError as error:
        kept.close()
        taken = error.errno == errno.EADDRINUSE
        hint = f"another program has it: end that one, or choose another port with {option}"
        raise Unavailable(
            f"cannot listen on {host}:{port}",
            got=str(error),
            hint=hint if taken else f"choose another with {option}",
        ) from None
    return kept


def _join(kept: socket.socket, host: str, port: int) -> None:
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        kept.bind((host, port))  # without SO_REUSEADDR: nobody who asks for the port alone gets it beside this one
    except OSError as error:
        if not port or error.errno != errno.EADDRINUSE:
            raise
        # What is left of connections of a program that did not share the port.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind((host, port))


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that several workers can listen on at once: the kernel spreads the connections.

    Raises
    ------
    Unavailable
        When the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen on {host}:{port}", got=str(error), hint="choose another port") from error
    listener.setblocking(False)
    return listener


@contextmanager
def last_callers(listener: socket.socket) -> Iterator[list[socket.socket]]:
    """The connections that wait in the queue of a socket; nobody joins it while the block runs, which is to close it.

    What stands in the queue of a listening socket that closes is reset, and a load balancer must not send a request
    elsewhere that was; between the last look into that queue and the closing there is always a moment. So the queue is
    made as short as can be, and the one place that it has then is taken by a connection of our own: a full queue
    answers nobody, and who asks again a second later is refused.
    """
    listener.listen(0)
    address = listener.getsockname()
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 - looked for, not bound
    waiting: list[socket.socket] = []
    with ExitStack() as taken:
        for _ in range(_TRIES):
            with suppress(OSError):
                while True:
                    waiting.append(listener.accept()[0])
            one = taken.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
            one.setblocking(False)
            with suppress(OSError):
                one.connect_ex((own, *address[1:]))
            if _connected(one):  # on its own machine that takes no time
                break
        yield waiting


def _connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def open_to(connections: int) -> int:
    """Let the process have so many connections open; how many it can have, when the system allows fewer."""
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(soft - _OTHER_FILES, 1)
    return connections
