"""What the requests of a replay are answered from: events delivered, and features read, in the order of what was known.

None of it depends on which version answers. So while the replay waits for a training it may be done ahead of the clock:
every read still sees exactly the events that were known when its request was asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.datasets.splits import LabelEvents
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.features.history import History
from trimtab.features.online import OnlineWriter

_MOST_ROWS = 50_000
"""Requests that may be read ahead; bounds memory."""

Timed = Callable[[str], AbstractContextManager[None]]
"""Adds what happens inside to a stage."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything that will be delivered: rows of each source, requests and labels, each in known order."""

    histories: Mapping[str, History]
    requests: RequestBatch
    labels: LabelEvents
    """In known order."""


@dataclass(frozen=True, slots=True)
class Read:
    """Requests from position ``first`` up to ``stop`` that saw the same events, with their features.

    ``features`` is None where reading them failed: whoever answers reads them again, and tells what is wrong.
    """

    first: int
    stop: int
    batch: RequestBatch
    features: FeatureBatch | None


class Reading:
    """Delivers events and reads features, tick by tick.

    Parameters
    ----------
    writer
        Takes the events; sources that feed no feature are left out.
    read
        Reads the features of a batch; None when it fails in a way that concerns only these requests.
    asked
        Positions of the first request to be read and of the one after the last.
    ticks
        Moments, in microseconds, after which everything known by then is delivered.
    """

    def __init__(
        self,
        timeline: Timeline,
        writer: OnlineWriter,
        *,
        read: Callable[[RequestBatch], FeatureBatch | None],
        asked: tuple[int, int],
        ticks: range,
        timed: Timed,
    ) -> None:
        self._timeline, self._writer, self._read, self._timed = timeline, writer, read, timed
        self._asked, self._ticks = asked, ticks
        self._delivered = dict.fromkeys(timeline.histories, 0)
        self._waiting: deque[Read | Micros] = deque()
        self._rows = 0
        self._reached = ticks.start
        self._steps = self._every_step()

    def deliver(self, now: Micros) -> None:
        """Apply every event known by ``now``; a source that only carries labels feeds no feature."""
        with self._timed("deliver events"):
            for source, history in self._timeline.histories.items():
                if source not in self._writer.sources:
                    continue
                first = self._delivered[source]
                stop = int(np.searchsorted(history.known, now, side="right"))
                if stop > first:
                    rows = {name: values[first:stop] for name, values in history.columns.items()}
                    self._writer.apply(source, rows, first)
                    self._delivered[source] = stop

    def until(self, tick: Micros) -> Iterator[Read]:
        """What was asked by the next tick, in order; then every event known by the tick has been delivered."""
        while isinstance(step := self._taken(), Read):
            yield step
        assert step == tick, (step, tick)

    def _taken(self) -> Read | Micros:
        if not self._waiting:
            return next(self._steps)
        step = self._waiting.popleft()
        if isinstance(step, Read):
            self._rows -= step.stop - step.first
        return step

    def ahead(self, limit: Micros, *, steps: int = 1) -> bool:
        """Take the next steps before their time; False when none may be taken now.

        None is taken beyond the first tick at or after ``limit``, beyond a read that failed, or when too many wait.
        """
        for _ in range(steps):
            last = self._waiting[-1] if self._waiting else None
            failed = isinstance(last, Read) and last.features is None
            if failed or self._rows >= _MOST_ROWS or self._reached >= min(limit, self._ticks[-1]):
                return False
            step = next(self._steps)
            self._waiting.append(step)
            if isinstance(step, Read):
                self._rows += step.stop - step.first
        return True

    def _every_step(self) -> Iterator[Read | Micros]:
        """Each batch of requests, and after those of a tick the tick itself."""
        at, edges = self._timeline.requests.at, self._edges()
        position, end = self._asked
        edge = 0
        for tick in self._ticks:
            last = min(int(np.searchsorted(at, tick, side="right")), end)
            while position < last:
                while edges[edge] <= position:
                    edge += 1
                stop = min(int(edges[edge]), last)
                yield self._next(position, stop)
                position = stop
            self.deliver(tick)
            self._reached = tick
            yield tick

    def _next(self, first: int, stop: int) -> Read:
        requests, part = self._timeline.requests, slice(first, stop)
        self.deliver(int(requests.at[first]))
        batch = RequestBatch(
            requests.ids[part],
            requests.at[part],
            {name: values[part] for name, values in requests.keys.items()},
            {name: values[part] for name, values in requests.inputs.items()},
        )
        with self._timed("read features"):
            return Read(first, stop, batch, self._read(batch))

    def _edges(self) -> NDArray[np.int64]:
        """Positions after which a batch must end, because an event was delivered before the next request."""
        at = self._timeline.requests.at
        known_by_then = np.zeros(len(at), np.int64)
        for history in self._timeline.histories.values():
            known_by_then += np.searchsorted(history.known, at, side="right")
        return np.append(np.flatnonzero(np.diff(known_by_then) != 0) + 1, len(at))
