"""What a worker says about itself, in a file of its own."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a worker says about itself; rewritten whenever the generation changes."""

    number: int
    pid: int
    started: int
    """Microseconds, by the worker's clock."""
    host: str
    port: int
    generation: int
    versions: tuple[str, ...]
    problem: str = ""
    """Why the newest route table is not in force; empty when it is."""
    missing: dict[str, str] = {}
    """Versions that the route table holds in reserve and that could not be loaded, and why."""
    grpc_port: int = -1
    """-1 when gRPC is not served."""
    ahead: dict[str, int] = {}
    """Models whose route is that of a newer generation, the rest of which waits for a version that is loaded."""


def read_status(path: Path) -> WorkerStatus | None:
    """The status a worker wrote, None when there is none or it is unreadable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=WorkerStatus)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def takes_connections(status: WorkerStatus) -> bool:
    """Whether a worker listens by now: it says which versions it has loaded a moment before it does."""
    try:
        socket.create_connection((status.host, status.port), timeout=1).close()
    except OSError:
        return False
    return True
