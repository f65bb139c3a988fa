"""The queue in front of the model: bounded, fair between lanes, never waiting to fill a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, NamedTuple, Protocol, TypeVar

from trimtab.errors import Unavailable


class Waiter(Protocol):
    """Something that waits with a number of rows; rows are handed out in slices, and ``dropped`` ends the waiting."""

    size: int
    dropped: bool


W = TypeVar("W", bound=Waiter)


class Piece(NamedTuple, Generic[W]):
    """Rows ``start`` to ``stop`` of a waiter."""

    waiter: W
    start: int
    stop: int


class BatchQueue(Generic[W]):
    """Waiters by lane; those of one lane can be answered together.

    Parameters
    ----------
    max_rows
        Most rows in one batch. A waiter with more is answered in slices, between the others.
    limit
        Most waiters; one more is refused.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> queue = BatchQueue(max_rows=2)
    >>> for name in "abc":
    ...     queue.put("lane", SimpleNamespace(name=name, size=1, dropped=False))
    >>> [piece.waiter.name for piece in queue.take()[1]]
    ['a', 'b']
    """

    def __init__(self, *, max_rows: int = 32, limit: int = 1024) -> None:
        self._max_rows = max_rows
        self._limit = limit
        self._lanes: dict[Hashable, deque[tuple[W, int]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, lane: Hashable, waiter: W) -> None:
        """Let a waiter join the end of its lane.

        Raises
        ------
        Unavailable
            When the queue is full.
        """
        if self._count >= self._limit:
            raise Unavailable("too many requests are waiting", got=str(self._count), hint="try again in a second")
        self._lanes.setdefault(lane, deque()).append((waiter, 0))
        self._count += 1

    def take(self) -> tuple[Hashable, list[Piece[W]]]:
        """The next batch: the lane whose turn it is, and pieces of ``max_rows`` rows at most; nothing when empty."""
        if not self._lanes:
            return "", []
        lane = next(iter(self._lanes))
        waiting = self._lanes.pop(lane)
        pieces: list[Piece[W]] = []
        room = self._max_rows
        while waiting and room:
            waiter, start = waiting.popleft()
            if waiter.dropped:
                self._count -= 1
                continue
            stop = min(waiter.size, start + room)
            room -= stop - start
            pieces.append(Piece(waiter, start, stop))
            if stop < waiter.size:
                waiting.append((waiter, stop))  # behind those that came meanwhile, so that small ones pass
            else:
                self._count -= 1
        if waiting:
            self._lanes[lane] = waiting
        return lane, pieces
