"""Listening sockets: several workers have one each for the same port."""

from __future__ import annotations

import resource
import socket

from trimtab.errors import Unavailable

_OTHER_FILES = 64
"""Open files that are no connections: stores, records, libraries, and callers who are just told that it is full."""


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


def open_to(connections: int) -> int:
    """Let the process have so many connections open; how many it can have, when the system allows fewer."""
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(soft - _OTHER_FILES, 1)
    return connections
