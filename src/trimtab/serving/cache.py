"""A cache of predictions: the infer stage that asks the model only for rows that it has not answered lately.

An entry is found by the version and by every bit of the model's input row, after features and preprocessing. So nothing
in it can be out of date because an event came or a version changed: then the key is another one. What an entry may
outlive is only a model that is no function of its inputs, and for that there is a time to live.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError
from trimtab.serving.pipeline import Deployed, Timer, Values, infer

ENTRY_BYTES = 320
"""What an entry takes beside its key and its outputs: two byte strings, a pair, a number and its place in the table.
Measured with ``tracemalloc``: 188 to 305."""
HIT, MISS, SHARED = "hit", "miss", "shared"
"""A row found; one that the model was asked for; one that equals such a row of its batch, computed once for both."""


class Counts(Protocol):
    """A number that grows; :class:`trimtab.serving.meter.Counter` is one."""

    def add(self, number: int = 1) -> None: ...


class PredictionCache:
    """Rows of bytes under keys of bytes, the least recently used dropped first; for any number of threads.

    Parameters
    ----------
    limit
        Most bytes, with what the table itself takes; more than one entry needs.
    ttl_ns
        How long an entry is good for; being found does not prolong it.
    timer
        Monotonic nanoseconds.

    Raises
    ------
    InputError
        When a bound is not positive.

    Examples
    --------
    >>> now = iter(range(100))
    >>> cache = PredictionCache(10_000, ttl_ns=50, timer=lambda: next(now))
    >>> cache.put(b"key", b"outputs")
    >>> cache.get(b"key"), cache.get(b"other")
    (b'outputs', None)
    """

    def __init__(self, limit: int, *, ttl_ns: int, timer: Timer) -> None:
        if limit < 1 or ttl_ns < 1:
            raise InputError(
                "a cache needs room and time", got=f"{limit} bytes, {ttl_ns} ns", hint="cache_bytes=64MB, cache_ttl=60s"
            )
        self._limit, self._ttl, self._timer = limit, ttl_ns, timer
        self._entries: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()
        self.bytes = 0
        """What the entries take, by :data:`ENTRY_BYTES`."""
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """What was put under a key, None when there is nothing or its time is over."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            if found[0] <= self._timer():
                del self._entries[key]
                self.bytes -= _size(key, found[1])
                return None
            self._entries.move_to_end(key)
            return found[1]

    def put(self, key: bytes, row: bytes) -> None:
        """Keep a row; what was used longest ago makes room, and a row that is larger than all of it is not kept."""
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self.bytes -= _size(key, old[1])
            size = _size(key, row)
            if size > self._limit:
                return
            self._entries[key] = (self._timer() + self._ttl, row)
            self.bytes += size
            while self.bytes > self._limit:
                gone, (_, dropped) = self._entries.popitem(last=False)
                self.bytes -= _size(gone, dropped)


def _size(key: bytes, row: bytes) -> int:
    return len(key) + len(row) + ENTRY_BYTES


class CachedInfer:
    """The infer stage with a cache before it; give it to :class:`~trimtab.serving.pipeline.Pipeline` as ``infer``.

    Equal rows of one batch are computed once. Outputs are the bits that the model gave when the row was first asked;
    sums in a net may differ in their last bit with the number of rows that go through it together.

    Parameters
    ----------
    cache
        Where rows are kept. Models in other processes are asked by several threads, and each of them looks here.
    count
        Makes the counter of a model and a result.
    stage
        The infer stage behind it.

    Notes
    -----
    Versions that are no longer loaded are not looked for: their entries are never used again and so go first.
    """

    def __init__(
        self,
        cache: PredictionCache,
        *,
        count: Callable[[str, str], Counts],
        stage: Callable[[Deployed, Values], Values] = infer,
    ) -> None:
        self._cache, self._count, self._stage = cache, count, stage
        self._numbers: dict[str, bytes] = {}
        self._counters: dict[tuple[str, str], Counts] = {}
        self._lock = Lock()

    def __call__(self, deployed: Deployed, values: Values) -> Values:
        """Outputs as :func:`trimtab.serving.pipeline.infer` gives them."""
        model = deployed.manifest.model
        front = self._numbers.get(deployed.version) or self._number(deployed.version)
        if len(values) == 1:
            key = front + values.tobytes()
            row = self._cache.get(key)
            if row is not None:
                self._add(model, HIT)
                return np.frombuffer(bytearray(row), np.float32).reshape(1, -1)
            raw = self._stage(deployed, values)
            self._add(model, MISS)
            if _plain(raw, 1):
                self._cache.put(key, raw.tobytes())
            return raw
        return self._several(deployed, values, front)

    def _several(self, deployed: Deployed, values: Values, front: bytes) -> Values:
        size, data = values.shape[1] * values.itemsize, values.tobytes()
        keys = [front + data[at : at + size] for at in range(0, len(data), size)] if size else [front] * len(values)
        rows: dict[bytes, bytes | None] = {}
        first: list[int] = []
        missing: list[bytes] = []
        hits = 0
        for place, key in enumerate(keys):
            if key not in rows:
                rows[key] = row = self._cache.get(key)
                if row is None:
                    first.append(place)
                    missing.append(key)
            hits += rows[key] is not None
        model = deployed.manifest.model
        if missing:
            raw = self._stage(deployed, values if len(missing) == len(values) else values[first])
            if not _plain(raw, len(missing)):
                return raw if len(missing) == len(values) else self._stage(deployed, values)
            self._add(model, MISS, len(missing))
            out, wide = raw.tobytes(), raw.shape[1] * raw.itemsize
            for number, key in enumerate(missing):
                rows[key] = row = out[number * wide : (number + 1) * wide]
                self._cache.put(key, row)
            if len(missing) == len(values):
                return raw
        if hits:
            self._add(model, HIT, hits)
        if len(keys) - hits > len(missing):
            self._add(model, SHARED, len(keys) - hits - len(missing))
        joined = bytearray().join([row for key in keys if (row := rows[key]) is not None])
        return np.frombuffer(joined, np.float32).reshape(len(values), -1)

    def _number(self, version: str) -> bytes:
        """A short name of a version, its own in this process: no two versions ever share a key."""
        with self._lock:
            return self._numbers.setdefault(version, len(self._numbers).to_bytes(4, "little"))

    def _add(self, model: str, result: str, rows: int = 1) -> None:
        with self._lock:
            counter = self._counters.get((model, result))
            if counter is None:
                counter = self._counters[model, result] = self._count(model, result)
            counter.add(rows)


def _plain(raw: NDArray[np.float32], rows: int) -> bool:
    """Whether outputs are what a model should give, so that rows of them can be kept."""
    return raw.ndim == 2 and raw.dtype == np.float32 and len(raw) == rows
