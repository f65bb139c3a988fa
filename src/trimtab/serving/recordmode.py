"""When prediction records are written, and what happens when they cannot be: two declared choices, and no silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trimtab.core.ports import Place, Records
from trimtab.errors import InputError, Unavailable
from trimtab.serving.meter import UNWRITABLE, Meter

REFUSE, DROP = "refuse", "drop"
WRITTEN, LOST = "trimtab_records_written_total", "trimtab_records_lost_total"
MOST_ROWS, MOST_BYTES = 10_000, 8 << 20
"""Most that waits in memory; with more, it is written at once."""
MOST_WAIT_MS = 10_000
_AGAIN_MS = 100
"""How soon what could not be written is tried again, without a request that would try it."""
_COMPLAIN_NS = 60_000_000_000
_LEAST_ROOM, _MOST_ROOM = 4096, 65_536
"""Bytes that must find room before records count as writable again without having been written."""

_BATCHED = re.compile(r"batched:([1-9][0-9]{0,4})ms")

Later = Callable[[float, Callable[[], object]], object]
"""Calls a function after so many seconds, in the thread that writes."""


@dataclass(frozen=True, slots=True)
class RecordMode:
    """When a record is written.

    ``sync``
        Before its answer leaves: ``kill -9`` loses none, a power cut what was not yet forced to disk.
    ``sync+fsync``
        Forced to disk before its answer leaves: a power cut loses none either.
    ``batched:<n>ms``
        At most n milliseconds later, together with others: ``kill -9`` loses what was answered in the last n
        milliseconds, or while the one batch that was under way was computed, if that took longer.

    Examples
    --------
    >>> read_mode("batched:5ms")
    RecordMode(wait_ms=5, fsync=False)
    """

    wait_ms: int = 0
    """0 writes before the answer leaves."""
    fsync: bool = False


def read_mode(text: str) -> RecordMode:
    """The mode that a setting names.

    Raises
    ------
    InputError
        When it names none, or a wait of more than :data:`MOST_WAIT_MS`.
    """
    if text in ("sync", "sync+fsync"):
        return RecordMode(fsync=text != "sync")
    found = _BATCHED.fullmatch(text)
    if found is None or int(found[1]) > MOST_WAIT_MS:
        hint = f"sync, sync+fsync, or batched:5ms (at most {MOST_WAIT_MS} ms)"
        raise InputError("no such way to write records", got=repr(text), hint=hint)
    return RecordMode(wait_ms=int(found[1]))


def read_policy(text: str) -> str:
    """``refuse`` or ``drop``.

    Raises
    ------
    InputError
        When it is neither.
    """
    if text not in (REFUSE, DROP):
        raise InputError("no such policy for a full disk", got=repr(text), hint=f"{REFUSE} or {DROP}")
    return text


class KeptRecords:
    """:class:`trimtab.core.ports.Records` written when the mode says, with a declared end when they cannot be.

    Parameters
    ----------
    records
        What it writes to.
    mode, when_full
        See :class:`RecordMode`; with ``refuse``, :meth:`write` raises ``Unavailable`` when records cannot be written,
        so that nothing is answered that is not recorded; with ``drop`` they are counted as lost.
    meter
        Counts what was written and what was lost. Both counters are made at once: on a full disk it could be too late.
    timer
        Monotonic nanoseconds.
    complain
        Told of losses, and of the beginning of a time in which nothing can be recorded; once a minute at most.
    relieved
        Told when what ``complain`` was told of with ``refuse`` has ended.

    Notes
    -----
    One thread. In the mode ``batched`` nothing waits before :attr:`later` is set: there would be nobody to write it.
    While rows that wait cannot be written, ``refuse`` takes no further ones: each is tried at once, together with those
    that wait, so that what was answered is never lost, and the first write that succeeds ends it.

    Examples
    --------
    >>> from trimtab.serving.meter import LocalCells
    >>> from trimtab.testing.memory import MemoryRecords
    >>> kept = KeptRecords(MemoryRecords("w"), RecordMode(wait_ms=5), meter=Meter(LocalCells()), timer=lambda: 0)
    >>> kept.later = lambda seconds, call: None
    >>> _ = kept.write("t", [b"a"])
    >>> kept.waiting, [row for _, row in kept.scan("t")]
    (1, [])
    >>> kept.flush()
    >>> kept.waiting, [row for _, row in kept.scan("t")]
    (0, [b'a'])
    """

    def __init__(
        self,
        records: Records,
        mode: RecordMode,
        *,
        meter: Meter,
        timer: Callable[[], int],
        when_full: str = REFUSE,
        complain: Callable[[str], object] = lambda _: None,
        relieved: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._records, self._mode, self._drop = records, mode, read_policy(when_full) == DROP
        self._timer, self._complain, self._relieved, self._gauge = timer, complain, relieved, meter.gauge
        self._written, self._lost = meter.counter(WRITTEN), meter.counter(LOST)
        self._complained = -_COMPLAIN_NS
        self._waiting: dict[str, list[bytes]] = {}
        self._rows = self._bytes = 0
        self._due = False
        """Whether a flush is under way to be called."""
        self._stuck = False
        """Whether the last write failed while rows waited."""
        self._place = Place("", 0)
        self.unwritable = ""
        """With ``refuse``: why nothing can be recorded, and so nothing is answered; empty when it can."""
        self._said = False
        """Whether that was complained of."""
        self._wanted = ("", 0)
        """The table and the bytes that found no room."""
        self.later: Later | None = None
        """Set by whoever runs the loop; None writes at once."""

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return self._rows

    def write(self, table: str, rows: Sequence[bytes], *, sync: bool = False) -> Place:
        """Write rows as the mode says; the place after the last row that was written.

        Raises
        ------
        Unavailable
            With ``refuse``: they cannot be written, and are not kept.
        """
        if not self._mode.wait_ms or self.later is None or sync or self._stuck or not rows:
            return self._now(table, rows, sync=sync or self._mode.fsync)
        self._waiting.setdefault(table, []).extend(rows)
        self._rows += len(rows)
        self._bytes += sum(map(len, rows))
        if self._rows > MOST_ROWS or self._bytes > MOST_BYTES:
            self._forced(table, len(rows))
        elif not self._due:
            self._call(self._mode.wait_ms)
        return self._place

    def flush(self) -> None:
        """Write what waits.

        Raises
        ------
        Unavailable
            With ``refuse``: it cannot be written now, and waits on.
        """
        for table in list(self._waiting):
            rows = self._waiting[table]
            try:
                self._place = self._records.write(table, rows)
            except Unavailable as error:
                if not self._drop:
                    self._stuck = True
                    self._failed(table, rows, error)
                    raise
                self._lose(len(rows), error)
            else:
                self._succeeded(len(rows))
            del self._waiting[table]
            self._rows -= len(rows)
            self._bytes -= sum(map(len, rows))
        self._stuck = False

    def probe(self) -> None:
        """Where nothing could be recorded: look whether it can by now; there may be no request that would try it."""
        if not self.unwritable:
            return
        table, size = self._wanted
        try:
            if self._waiting:
                self.flush()
            else:
                self._records.make_sure(table, size)
                self._succeeded(0)
        except Unavailable as error:
            self._failed(table, (), error)

    def close(self) -> None:
        """Write what waits a last time; what cannot be written is lost, counted and told of."""
        try:
            self.flush()
        except Unavailable as error:
            self._complained -= _COMPLAIN_NS  # the last word is not held back
            self._lose(self._rows, error)
            self._waiting.clear()
            self._rows = self._bytes = 0

    def make_sure(self, table: str, size: int) -> None:
        """Raise ``Unavailable`` when so many bytes find no room."""
        self._records.make_sure(table, size)

    def scan(self, table: str, *, after: Mapping[str, int] | None = None) -> Iterator[tuple[Place, bytes]]:
        """Every row that is written."""
        return self._records.scan(table, after=after)

    def tables(self) -> list[str]:
        """The tables that hold written rows."""
        return self._records.tables()

    def erase(self, table: str, rows: Mapping[str, Sequence[int]]) -> int:
        """Overwrite rows that are written."""
        return self._records.erase(table, rows)

    def _now(self, table: str, rows: Sequence[bytes], *, sync: bool) -> Place:
        if self._waiting:
            self.flush()
        try:
            self._place = self._records.write(table, rows, sync=sync)
        except Unavailable as error:
            if not self._drop:
                self._failed(table, rows, error)
                raise
            if not rows:
                raise
            self._lose(len(rows), error)
        else:
            self._succeeded(len(rows))
        return self._place

    def _failed(self, table: str, rows: Sequence[bytes], error: Unavailable) -> None:
        """With ``refuse``: nothing can be recorded, and so nothing is answered."""
        if rows or not self._wanted[0]:
            self._wanted = table, min(max(sum(map(len, rows)), _LEAST_ROOM), _MOST_ROOM)
        self.unwritable = str(error)
        self._gauge(UNWRITABLE, 1)
        if not self._said:
            waits = f"; {self._rows} answered ones wait to be" if self._rows else ""
            self._said = self._say(f"predictions are refused, for they cannot be recorded{waits}", error)

    def _succeeded(self, rows: int) -> None:
        self._written.add(rows)
        if not self.unwritable:
            return
        self.unwritable = ""
        self._gauge(UNWRITABLE, 0)
        if self._said:
            self._said = False
            self._relieved("predictions are recorded again, and answered")

    def _forced(self, table: str, last: int) -> None:
        """Write, because no more may wait; when that fails, those that came last were not answered and are let go."""
        try:
            self.flush()
        except Unavailable:
            if table in self._waiting:
                gone = self._waiting[table][-last:]
                del self._waiting[table][-last:]
                self._rows -= last
                self._bytes -= sum(map(len, gone))
            raise

    def _flush_due(self) -> None:
        self._due = False
        try:
            self.flush()
        except Unavailable:
            self._call(_AGAIN_MS)

    def _call(self, wait_ms: int) -> None:
        if self.later is not None:
            self._due = True
            self.later(wait_ms / 1000, self._flush_due)

    def _lose(self, rows: int, error: Unavailable) -> None:
        if rows:
            self._lost.add(rows)
            self._say(f"predictions are answered without a record, {self._lost.value} so far", error)

    def _say(self, what: str, error: Unavailable) -> bool:
        now = self._timer()
        if now - self._complained < _COMPLAIN_NS:
            return False
        self._complained = now
        self._complain(f"{what}: {error}")
        return True
