"""What workers have counted, read back and added up: the other end of :mod:`trimtab.serving.meter`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trimtab.serving import meter
from trimtab.serving.latency import BUCKETS, quantile

Key = tuple[str, tuple[str, ...]]
Blocks = Mapping[Key, Sequence[int]]
"""Cells by kind and labels."""

MOST_ARMS = 32
"""Arms of one model that are kept: the oldest are forgotten, so that a year of promotions stays readable."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How long one stage took."""

    counts: Sequence[int]
    """By bucket of :mod:`trimtab.serving.latency`."""
    sum_us: int

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean_us(self) -> float:
        """The mean, exact; NaN when nothing was counted."""
        return self.sum_us / self.count if self.count else float("nan")

    def quantile_us(self, q: float) -> float:
        """A percentile, within 6.25 %; NaN when nothing was counted."""
        return quantile(self.counts, q)

    def __add__(self, other: Stage) -> Stage:
        return Stage([a + b for a, b in zip(self.counts, other.counts, strict=True)], self.sum_us + other.sum_us)


NOTHING = Stage((0,) * BUCKETS, 0)


@dataclass(frozen=True, slots=True)
class Arm:
    """What one arm of a model has done."""

    model: str
    version: str
    arm: str
    cells: Sequence[int]

    @property
    def answered(self) -> int:
        return self.cells[meter.ANSWERED]

    @property
    def failed(self) -> int:
        return self.cells[meter.FAILED]

    @property
    def batch_sizes(self) -> Sequence[int]:
        return self.cells[meter.BATCH_SIZES : meter.BATCH_SIZES + len(meter.BATCH_BOUNDS) + 1]

    def stage(self, name: str) -> Stage:
        """How long a stage of :data:`trimtab.serving.meter.STAGES` took."""
        start = meter.stage_at(name)
        counts = list(self.cells[start + 1 : start + 1 + BUCKETS])
        if name in meter.OF_BATCH:
            # What took no microsecond was not counted. A reader may see a bucket before its time: never below zero.
            counts[0] += max(self.cells[meter.TIMED] - sum(counts), 0)
        return Stage(counts, self.cells[start])


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """How a living worker stands."""

    name: str
    gauges: Mapping[str, int]
    arms: Sequence[Arm]
    replies: Mapping[tuple[str, str, int], Stage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counted:
    """Everything that was counted since the home was made, over all workers that ever were."""

    arms: Sequence[Arm]
    replies: Mapping[tuple[str, str, int], Stage]
    """By method, route and status."""
    counters: Mapping[str, Mapping[tuple[tuple[str, str], ...], int]]
    """By name, then by labels."""
    workers: Sequence[WorkerNow] = ()
    """Those that live."""

    def total(self, model: str | None = None) -> Stage:
        """How long callers waited, over all arms that answered them."""
        found = NOTHING
        for arm in self.arms:
            if arm.arm != "shadow" and model in (None, arm.model):
                found = found + arm.stage("total")
        return found


def added(parts: Iterable[Blocks]) -> dict[Key, list[int]]:
    """Blocks of the same kind and labels, added up; the order is that in which they were first seen.

    Examples
    --------
    >>> added([{("count", ("a",)): [1]}, {("count", ("a",)): [2], ("count", ("b",)): [5]}])
    {('count', ('a',)): [3], ('count', ('b',)): [5]}
    """
    found: dict[Key, list[int]] = {}
    for blocks in parts:
        for key, cells in blocks.items():
            if key[0] == meter.GAUGES:
                continue
            before = found.get(key)
            if before is None:
                found[key] = list(cells)
            elif any(cells):
                found[key] = [a + b for a, b in zip(before, cells, strict=True)]
    return found


def kept(blocks: Mapping[Key, list[int]]) -> dict[Key, list[int]]:
    """The blocks without the oldest arms of a model that has had more than :data:`MOST_ARMS`."""
    arms: dict[str, list[Key]] = {}
    for key in blocks:
        if key[0] == meter.ARM:
            arms.setdefault(key[1][0], []).append(key)
    gone = {key for keys in arms.values() for key in keys[:-MOST_ARMS]}
    return {key: cells for key, cells in blocks.items() if key not in gone}


def counted(blocks: Mapping[Key, list[int]], living: Mapping[str, Blocks] | None = None) -> Counted:
    """What the blocks say.

    Parameters
    ----------
    living
        The blocks of each living worker, by its name.
    """
    counters: dict[str, dict[tuple[tuple[str, str], ...], int]] = {}
    for (kind, labels), cells in blocks.items():
        if kind == meter.COUNT:
            pairs = tuple(zip(labels[1::2], labels[2::2], strict=True))
            counters.setdefault(labels[0], {})[pairs] = cells[0]
    workers = [_worker(name, own) for name, own in sorted((living or {}).items())]
    return Counted(_arms(blocks), _replies(blocks), counters, workers)


def _arms(blocks: Blocks) -> list[Arm]:
    return [
        Arm(labels[0], labels[1], labels[2], cells) for (kind, labels), cells in blocks.items() if kind == meter.ARM
    ]


def _replies(blocks: Blocks) -> dict[tuple[str, str, int], Stage]:
    return {
        (labels[0], labels[1], int(labels[2])): Stage(cells[1:], cells[0])
        for (kind, labels), cells in blocks.items()
        if kind == meter.HTTP
    }


def _worker(name: str, blocks: Blocks) -> WorkerNow:
    gauges = next((cells for (kind, _), cells in blocks.items() if kind == meter.GAUGES), ())
    return WorkerNow(name, dict(zip(meter.GAUGE_NAMES, gauges, strict=False)), _arms(blocks), _replies(blocks))
