"""What workers have counted, read back and added up: the other end of :mod:`trimtab.serving.meter`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trimtab.core.clock import MINUTE, Micros
from trimtab.serving import meter
from trimtab.serving.latency import BUCKETS, quantile
from trimtab.serving.routing import RouteTable

Key = tuple[str, tuple[str, ...]]
Blocks = Mapping[Key, Sequence[int]]
"""Cells by kind and labels."""

MOST_ARMS = 32
"""Arms of one model that are told by name: those that were silent longest go into :data:`OTHER`, so that a year of
promotions stays readable."""
SILENT = 15 * MINUTE
"""An arm that answered within this time keeps its name, however many there are."""
OTHER = "other"
"""Version and arm of all that has lost its name."""


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
    last: Micros = 0
    """When it last answered, to about a second; 0 where nobody took that down."""

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

    Of the times at which arms last answered the latest counts.

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
            elif key[0] == meter.LAST:
                found[key] = [max(before[0], cells[0])]
            elif any(cells):
                found[key] = [a + b for a, b in zip(before, cells, strict=True)]
    return found


def whole(blocks: Mapping[Key, list[int]]) -> dict[Key, list[int]]:
    """Blocks of all workers without arms of which nothing is left, and without cells below zero.

    What has lost its name is taken from the past (:func:`renamed`) while the worker that counted it may live on: its
    cells in the past are below zero until then. A worker whose file was lost would leave them so.
    """
    found = {}
    for key, cells in blocks.items():
        own = cells
        if key[0] == meter.ARM and min(cells) < 0:
            own = [max(cell, 0) for cell in cells]
        if key[0] != meter.ARM or any(own):
            found[key] = own
    return found


def named(table: RouteTable) -> frozenset[tuple[str, str, str]]:
    """The arms (model, version, name) that answer by the route table, or would after going back."""
    arms = {(model, arm.version, arm.name) for model, route in table.routes.items() for arm in route.arms}
    return frozenset(arms | {(model, held, "champion") for model, route in table.routes.items() for held in route.held})


def nameless(arms: Iterable[Arm], *, now: Micros, keep: Collection[tuple[str, str, str]] = ()) -> list[Arm]:
    """The arms that lose their names: of a model with more than :data:`MOST_ARMS` those that were silent longest.

    Parameters
    ----------
    keep
        Arms that never do: see :func:`named`.
    """
    models: dict[str, list[Arm]] = {}
    for arm in arms:
        if arm.version != OTHER:
            models.setdefault(arm.model, []).append(arm)
    gone = []
    for own in models.values():
        silent = [arm for arm in own if arm.last < now - SILENT and (arm.model, arm.version, arm.arm) not in keep]
        gone += sorted(silent, key=lambda arm: arm.last)[: max(len(own) - MOST_ARMS, 0)]
    return gone


def renamed(arms: Iterable[Arm]) -> dict[Key, list[int]]:
    """What to add so that these arms have counted nothing, and :data:`OTHER` of their model all of it.

    Examples
    --------
    >>> renamed([Arm("m", "v", "champion", [3]), Arm("m", "w", "canary", [1])])[("arm", ("m", "other", "other"))]
    [4]
    """
    parts: list[Blocks] = []
    for arm in arms:
        parts.append({(meter.ARM, (arm.model, arm.version, arm.arm)): [-cell for cell in arm.cells]})
        parts.append({(meter.ARM, (arm.model, OTHER, OTHER)): arm.cells})
    return added(parts)


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
        Arm(labels[0], labels[1], labels[2], cells, blocks.get((meter.LAST, labels), (0,))[0])
        for (kind, labels), cells in blocks.items()
        if kind == meter.ARM
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
