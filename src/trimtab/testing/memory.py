"""The stores in memory: what a unit test uses in place of an adapter. They pass the same suites.

State lives in the object, so "another process" is the same object here; :class:`MemoryRecords` of several writers
share one by ``MemoryRecords("b", like=a)``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Clock, Micros
from trimtab.core.ids import sha256
from trimtab.core.ledger import GENESIS, Draft, Event, check_repeated, event_hash, normalized
from trimtab.core.ports import Place
from trimtab.errors import ConflictError, InputError, IntegrityError, StaleEpoch, UnknownName


class MemoryLedger:
    """:class:`trimtab.core.ledger.Ledger` in memory.

    Examples
    --------
    >>> ledger = MemoryLedger()
    >>> _ = ledger.append("platform", [Draft("e1", "Started", {}, 0, 0)], expected=0, epoch=1)
    >>> [event.type for event in ledger.read()]
    ['Started']
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._lock = threading.Lock()

    def append(self, stream: str, drafts: Sequence[Draft], *, expected: int, epoch: int) -> list[Event]:
        """Append drafts to a stream and return the stored events."""
        wanted = [normalized(draft) for draft in drafts]
        ids = [draft.id for draft in wanted]
        if len(set(ids)) < len(ids):
            raise InputError("the same event twice in one append", got=", ".join(ids))
        with self._lock:
            seq, previous, highest = self.head()
            if epoch < highest:
                raise StaleEpoch("a newer writer has taken over", got=f"epoch {epoch}, the ledger is at {highest}")
            held = [event for event in self._events if event.stream == stream]
            if len(held) != expected:
                stored = held[expected : expected + len(ids)]
                if ids and [event.id for event in stored] == ids:
                    check_repeated(stored, wanted)
                    return stored
                raise ConflictError(f"stream {stream} is not where it was expected", got=f"{len(held)} events")
            if taken := {event.id for event in self._events} & set(ids):
                raise ConflictError("an event with this id is in the ledger already", got=", ".join(sorted(taken)))
            new = []
            for offset, draft in enumerate(wanted, start=1):
                mark = event_hash(previous, stream, expected + offset, epoch, draft)
                new.append(Event(seq + offset, stream, expected + offset, epoch, draft, previous, mark))
                previous = mark
            self._events = self._events + new
            return new

    def read(self, *, after: int = 0, stream: str | None = None) -> Iterator[Event]:
        """Yield the events with ``seq > after``, of one stream or of all."""
        return (event for event in self._events[after:] if stream is None or event.stream == stream)

    def head(self) -> tuple[int, str, int]:
        """The last ``seq``, its hash, and the highest epoch."""
        return (
            (self._events[-1].seq, self._events[-1].hash, self._events[-1].epoch) if self._events else (0, GENESIS, 0)
        )


class MemoryBlobs:
    """:class:`trimtab.core.ports.Blobs` in memory."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        """Bytes by name; a test may change them to see what happens."""

    def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256."""
        name = sha256(data)
        self.content[name] = bytes(data)
        return name

    def open(self, name: str) -> bytes:
        """The bytes with that SHA-256."""
        if name not in self.content:
            raise UnknownName("no such blob", got=name)
        if sha256(self.content[name]) != name:
            raise IntegrityError("a blob is not what was stored", got=name)
        return self.content[name]

    def exists(self, name: str) -> bool:
        """Whether the blob is stored."""
        return name in self.content


class MemoryRecords:
    """:class:`trimtab.core.ports.Records` in memory.

    Parameters
    ----------
    writer
        The name of this writer.
    like
        Records whose tables to share.
    """

    def __init__(self, writer: str = "test", *, like: MemoryRecords | None = None) -> None:
        self._writer = writer
        self._rows: dict[str, dict[str, list[bytes | None]]] = {} if like is None else like._rows

    def write(self, table: str, rows: Sequence[bytes], *, sync: bool = False) -> Place:  # noqa: ARG002
        """Append rows as one batch and return the place after the last of them."""
        held = self._rows.setdefault(table, {}).setdefault(self._writer, [])
        held.extend(rows)
        return Place(self._writer, len(held))

    def make_sure(self, table: str, size: int) -> None:
        """There is room."""

    def scan(self, table: str, *, after: Mapping[str, int] | None = None) -> Iterator[tuple[Place, bytes]]:
        """Yield every row past the given offset of each writer."""
        for writer, rows in sorted(self._rows.get(table, {}).items()):
            start = (after or {}).get(writer, 0)
            for offset, row in enumerate(rows[start:], start=start + 1):
                if row is not None:
                    yield Place(writer, offset), row

    def tables(self) -> list[str]:
        """The names of the tables that hold rows, sorted."""
        return sorted(table for table, writers in self._rows.items() if any(writers.values()))

    def erase(self, table: str, rows: Mapping[str, Sequence[int]]) -> int:
        """Overwrite the named rows for good; how many were erased."""
        count = 0
        for writer, offsets in rows.items():
            held = self._rows.get(table, {}).get(writer, [])
            if bad := [offset for offset in offsets if not 0 < offset <= len(held)]:
                raise InputError("not the end of a row", got=f"{writer}: offset {bad[0]}")
            for offset in offsets:
                count += held[offset - 1] is not None
                held[offset - 1] = None
        return count


class MemorySeries:
    """:class:`trimtab.core.ports.Series` in memory."""

    def __init__(self) -> None:
        self._batches: set[str] = set()
        self._cells: dict[tuple[str, Micros], NDArray[np.float64]] = {}
        self._lock = threading.Lock()

    def add(self, batch: str, cells: Mapping[tuple[str, Micros], NDArray[np.float64]]) -> bool:
        """Add vectors to ``(name, bucket start)`` cells; False when this batch was added before."""
        with self._lock:
            if batch in self._batches:
                return False
            merged = {}
            for place, given in cells.items():
                vector = np.array(given, dtype=np.float64)
                old = self._cells.get(place)
                if vector.ndim != 1 or (old is not None and old.shape != vector.shape):
                    raise InputError("vectors of one cell differ in length", got=f"{place[0]}: {vector.shape}")
                merged[place] = vector if old is None else old + vector
            self._batches.add(batch)
            self._cells.update(merged)
            return True

    def read(
        self, prefix: str, *, start: Micros = 0, end: Micros = 2**62
    ) -> dict[tuple[str, Micros], NDArray[np.float64]]:
        """The cells whose name begins with ``prefix`` and whose bucket lies in ``[start, end)``."""
        with self._lock:
            return {
                place: vector.copy()
                for place, vector in sorted(self._cells.items(), key=lambda item: item[0])
                if place[0].startswith(prefix) and start <= place[1] < end
            }

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        with self._lock:
            self._batches.clear()
            self._cells.clear()


class MemoryRows:
    """:class:`trimtab.features.ports.OnlineRows` in memory."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows under these keys, ``None`` where there is none."""
        rows = self._rows
        return [rows.get(key) for key in keys]

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        """Write these rows in one atomic step."""
        if b"" in rows:
            raise InputError("a row needs a key", got="an empty key")
        self._rows = self._rows | {key: bytes(row) for key, row in rows.items()}  # a reader keeps its snapshot

    def sync(self) -> None:
        """Nothing to do: memory is as far as it goes."""

    def clear(self) -> None:
        """Drop every row, before a rebuild."""
        self._rows = {}


class MemoryPrecomputed:
    """:class:`trimtab.serving.ports.Precomputed` in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: dict[tuple[str, str, bytes], tuple[Micros, tuple[float, ...]]] = {}

    def get(self, model: str, version: str, key: bytes) -> tuple[float, ...] | None:
        """The outputs of one answer, None when there is none or its time is over."""
        until, outputs = self._answers.get((model, version, key), (0, ()))
        return outputs if until > self._clock.now() else None

    def put_many(self, model: str, version: str, answers: Mapping[bytes, Sequence[float]], *, until: Micros) -> None:
        """Keep answers, by key, that are good until a time (not included)."""
        if b"" in answers:
            raise InputError("an answer needs a key", got="an empty key")
        kept = {(model, version, key): (until, tuple(map(float, outputs))) for key, outputs in answers.items()}
        self._answers = self._answers | kept

    def drop(self, *, before: Micros) -> int:
        """Delete the answers that were good until ``before`` at most; how many."""
        kept = {place: held for place, held in self._answers.items() if held[0] > before}
        dropped = len(self._answers) - len(kept)
        self._answers = kept
        return dropped
