"""Which batch size, threads and workers to serve with: what is worth measuring, and which of it to choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

BATCHES = (1, 8, 32, 64, 128)
NEARLY = 0.03
"""Rates closer than this share are taken to be equal: two measurements of the same thing differ by as much."""
_KEPT_UP = 0.98


class Trial(NamedTuple):
    """A way to serve."""

    workers: int
    threads: int
    batch: int
    """Most rows in a batch."""


class Measured(NamedTuple):
    """What a load found of it."""

    trial: Trial
    requests: int
    errors: int
    """Requests without an answer, or with an answer of another status than 200."""
    rate: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float
    rows: float = 0.0
    """Mean rows in a batch."""


class Target(NamedTuple):
    """What is wanted."""

    p99_ms: float
    rate: float = 0.0
    """Requests a second that must be carried; 0 for as many as possible."""

    def met(self, found: Measured) -> bool:
        """Whether every request was answered, in time, and as many as were asked for."""
        kept_up = found.rate >= _KEPT_UP * self.rate
        return found.requests > 0 and not found.errors and kept_up and found.p99_ms <= self.p99_ms


def scales(workers: Sequence[int], threads: Sequence[int], *, cores: int) -> list[tuple[int, int]]:
    """Workers and threads to try, the cheapest first, none with more threads at work than cores.

    With one thread for each, workers that were asked for by hand may be more than cores.

    Examples
    --------
    >>> scales([1, 2], [1, 2], cores=2)
    [(1, 1), (1, 2), (2, 1)]
    """
    found = {(w, t) for w in workers for t in threads if t == min(threads) or w * t <= cores}
    return sorted(found, key=lambda pair: (pair[0] * pair[1], pair[0]))


def sizes(batches: Sequence[int], *, waiting: int) -> Iterator[int]:
    """Batch sizes worth a look: none beyond the first that holds all the rows that wait at once.

    Examples
    --------
    >>> list(sizes(BATCHES, waiting=16))
    [1, 8, 32]
    """
    for size in sorted(set(batches)):
        yield size
        if size >= waiting:
            return


def grows(before: Measured, now: Measured) -> bool:
    """Whether the larger batch brought anything, so that a still larger one is worth a look."""
    return now.rate > (1 + NEARLY) * before.rate or now.p99_ms < (1 - NEARLY) * before.p99_ms


def choose(measured: Sequence[Measured], target: Target) -> Measured | None:
    """The best that meets the target; None when nothing does.

    For a rate: the fewest workers, then threads, that carry it, and of their batch sizes the one with the lowest p99.
    Without one: the highest rate; among those nearly as high the fewest workers and threads, then the lowest p99.
    """
    good = [found for found in measured if target.met(found)]
    if not good:
        return None
    if target.rate:
        return min(good, key=lambda found: (_cost(found), found.p99_ms))
    most = max(found.rate for found in good)
    near = [found for found in good if found.rate >= (1 - NEARLY) * most]
    return min(near, key=lambda found: (_cost(found), found.p99_ms))


def worse_of(one: Measured, other: Measured) -> Measured:
    """Of two measurements of one trial the one to count on."""
    return max(one, other, key=lambda found: (found.errors, found.p99_ms, -found.rate))


def closest(measured: Sequence[Measured]) -> Measured | None:
    """The one to name when nothing meets the target: without errors, if there is one, and with the lowest p99."""
    return min(measured, key=lambda found: (found.errors > 0, found.p99_ms), default=None)


def _cost(found: Measured) -> tuple[int, int]:
    return found.trial.workers * found.trial.threads, found.trial.workers
