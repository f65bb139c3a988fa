"""Listening sockets that several workers share, and how one of them leaves without a lost connection."""

from __future__ import annotations

import ctypes
import resource
import socket
import struct
import sys

from trimtab.errors import Unavailable

_OTHER_FILES = 64
"""Open files that are no connections: stores, records, libraries, and callers who are just told that it is full."""
_ATTACH_FILTER = 26
"""``SO_ATTACH_FILTER`` of Linux, which :mod:`socket` does not name."""
_NO_SYN = (
    (0x30, 0, 0, 13),  # load the byte of flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone, which begins a connection?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # let everything else pass
)
"""A classic packet filter: operation, jump if true, jump if false, operand."""


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


def turn_away(listener: socket.socket) -> bool:
    """Let no new connection begin on a listening socket; False where the system cannot.

    The kernel resets whatever stands in the queue of a socket that closes, although others listen on the same port.
    After this the first packet of a new connection is dropped as if the network had lost it. The caller's kernel sends
    it again after a second, and by then it goes to a socket that is still open. What had begun goes on and can be
    accepted, until the queue is empty and the socket can close.
    """
    if not sys.platform.startswith("linux"):
        return False
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _NO_SYN))
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", len(_NO_SYN), ctypes.addressof(program))
        )
    except OSError:
        return False
    return True
