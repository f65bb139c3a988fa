"""What one caller may take of a server."""

from __future__ import annotations

from dataclasses import dataclass

SWEEP_S = 0.5
"""How often connections are looked at. What begins between two looks counts from the first; it gets that more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds, of one connection where nothing else is said."""

    body: int = 1_048_576
    bodies: int = 268_435_456
    """Bodies of all connections together that have begun to come and are not complete."""
    head: int = 32_768
    """Request line and headers together, trailers too."""
    headers: int = 100
    connections: int = 10_000
    pipelined: int = 16
    """Requests of one connection under way; beyond, it is not read."""
    head_s: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_s: float = 60.0
    """From the end of the headers to the end of the body."""
    idle_s: float = 75.0
    """Without a request."""
    write_s: float = 30.0
    """Without reading 16 KiB of what was answered, or the rest of it."""
