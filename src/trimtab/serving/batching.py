"""The queue in front of the model: bounded, fair between lanes, by default never waiting to fill a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from trimtab.errors import Unavailable


class Waiter(Protocol):
    """Something that waits with a number of rows; rows are handed out in slices, and ``dropped`` ends the waiting."""

    size: int
    dropped: bool
    whole: bool
    """Handed out in one piece, however many rows that are."""
    came: int
    """By the queue's timer; looked at only in lanes that may be held back."""


W = TypeVar("W", bound=Waiter)


class Piece(NamedTuple, Generic[W]):
    """Rows ``start`` to ``stop`` of a waiter."""

    waiter: W
    start: int
    stop: int


class Bounds(NamedTuple):
    """What the batches of a lane keep to."""

    max_rows: int
    """Most rows in one batch."""
    max_wait_ns: int = 0
    """How long a batch with fewer rows is held back for more, since its oldest waiter came; 0 holds nothing back."""
    enough: int = 0
    """With so many rows it is held back no more; 0 for ``max_rows``."""


class _Hold:
    """What is known of a lane that may be held back."""

    __slots__ = ("bounds", "came", "cut", "rows")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.came: deque[int] = deque()
        """When those who wait for their first slice came, by the timer."""
        self.rows = 0
        """Rows that wait; of those who were dropped too, which only ends the holding sooner."""
        self.cut = False
        """Whether a part of a waiter was answered: the rest is not held back."""

    def until(self) -> int:
        """When it is held back no longer, by the timer; 0 for at once."""
        if self.cut or self.rows >= (self.bounds.enough or self.bounds.max_rows) or not self.came:
            return 0
        return self.came[0] + self.bounds.max_wait_ns


class BatchQueue(Generic[W]):
    """Waiters by lane; those of one lane can be answered together.

    Parameters
    ----------
    max_rows
        Most rows in one batch. A waiter with more is answered in slices, between the others.
    limit
        Most waiters; one more is refused.
    bounds
        Those of a lane; by default ``max_rows``, and nothing is held back.
    timer
        Monotonic nanoseconds; looked at only when a lane may be held back.

    Notes
    -----
    Lanes take turns. One that is held back keeps its place: once its oldest waiter has waited ``max_wait_ns``, or its
    batch is full, each other lane gets one batch at most before it. A full queue holds nothing back.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> queue = BatchQueue(max_rows=2)
    >>> for name in "abc":
    ...     queue.put("lane", SimpleNamespace(name=name, size=1, dropped=False, whole=False))
    >>> [piece.waiter.name for piece in queue.take()[1]]
    ['a', 'b']
    """

    def __init__(
        self,
        *,
        max_rows: int = 32,
        limit: int = 1024,
        bounds: Callable[[Hashable], Bounds] | None = None,
        timer: Callable[[], int] = lambda: 0,
    ) -> None:
        self._max_rows = max_rows
        self._limit = limit
        self.bounds = bounds
        """May be set before the first one waits."""
        self._timer = timer
        self._lanes: dict[Hashable, deque[tuple[W, int]]] = {}
        self._holds: dict[Hashable, _Hold] = {}
        """Of the lanes in which somebody waits, those that may be held back."""
        self._count = 0
        self.dropped = 0
        """Waiters that the last :meth:`take` found dropped, and let go."""

    def __len__(self) -> int:
        return self._count

    def room(self, lane: Hashable) -> int:
        """Most rows in one batch of a lane."""
        return self._max_rows if self.bounds is None else self.bounds(lane).max_rows

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
        if self.bounds is not None:
            self._hold(self.bounds(lane), lane, waiter)

    def _hold(self, bounds: Bounds, lane: Hashable, waiter: W) -> None:
        if bounds.max_wait_ns:
            hold = self._holds.get(lane)
            if hold is None:
                hold = self._holds[lane] = _Hold(bounds)
            hold.rows += waiter.size
            hold.came.append(waiter.came)

    def withdraw(self, lane: Hashable) -> list[tuple[W, int]]:
        """Take out all of a lane: each with the number of its rows that were handed out."""
        self._holds.pop(lane, None)
        found = list(self._lanes.pop(lane, ()))
        self._count -= len(found)
        return found

    def put_back(self, lane: Hashable, waiting: Sequence[tuple[W, int]]) -> None:
        """Let them wait again, before whoever came meanwhile."""
        if not waiting:
            return
        self._count += len(waiting)
        waiting = [*waiting, *self._lanes.get(lane, ())]
        self._lanes[lane] = deque(waiting)
        if self.bounds is not None and (bounds := self.bounds(lane)).max_wait_ns:
            hold = self._holds[lane] = _Hold(bounds)
            hold.rows = sum(waiter.size - start for waiter, start in waiting)
            hold.came = deque(waiter.came for waiter, start in waiting if start == 0)
            hold.cut = len(hold.came) < len(waiting)

    def wait_ns(self) -> int:
        """How long until :meth:`take` has a batch: 0 when it has one now, -1 when nobody waits."""
        if not self._lanes:
            return -1
        if len(self._holds) < len(self._lanes) or self._count >= self._limit:
            return 0
        return max(0, min(hold.until() for hold in self._holds.values()) - self._timer())

    def take(self) -> tuple[Hashable, list[Piece[W]]]:
        """The next batch: the lane whose turn it is, and pieces of its most rows at most.

        Nothing when nobody waits, or everybody is held back.
        """
        self.dropped = 0
        if not self._lanes:
            return "", []
        lane = self._due() if self._holds else next(iter(self._lanes))
        if lane is None:
            return "", []
        waiting = self._lanes.pop(lane)
        pieces: list[Piece[W]] = []
        room = self.room(lane)
        while waiting and room > 0:
            waiter, start = waiting.popleft()
            if waiter.dropped:
                self._count -= 1
                self.dropped += 1
                continue
            stop = waiter.size if waiter.whole else min(waiter.size, start + room)
            room -= stop - start
            pieces.append(Piece(waiter, start, stop))
            if stop < waiter.size:
                waiting.append((waiter, stop))  # behind those that came meanwhile, so that small ones pass
            else:
                self._count -= 1
        if waiting:
            self._lanes[lane] = waiting
        if self._holds:
            self._held_on(lane, waiting)
        return lane, pieces

    def _due(self) -> Hashable | None:
        """The first lane that is not held back."""
        now = self._timer() if self._count < self._limit else None
        for lane in self._lanes:
            hold = self._holds.get(lane)
            if hold is None or now is None or hold.until() <= now:
                return lane
        return None

    def _held_on(self, lane: Hashable, waiting: deque[tuple[W, int]]) -> None:
        """Look anew at a lane of which a batch was taken."""
        hold = self._holds.pop(lane, None)
        if hold is not None and waiting:
            self._holds[lane] = hold
            hold.rows = sum(waiter.size - start for waiter, start in waiting)
            fresh = sum(start == 0 for _, start in waiting)
            hold.cut = fresh < len(waiting)
            while len(hold.came) > fresh:  # those who were taken came first
                hold.came.popleft()
