"""Online rows: written as events arrive, read in one snapshot per batch of requests."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab.core.ports import Columns
from trimtab.errors import ConflictError, IntegrityError, SchemaError, UnknownName
from trimtab.features.batch import FeatureBatch, RequestBatch, Watermark
from trimtab.features.history import module_of
from trimtab.features.onrequest import LoadedModule, request_columns
from trimtab.features.parts import PartRows, part_rows
from trimtab.features.plan import ModulePart, Part, Plan
from trimtab.features.ports import OnlineRows

_MARK = struct.Struct("<12sqq")
"""Of each part of a source: its row id, and the watermark up to which its rows are written."""
_NONE = Watermark(0, 0)


def _mark_key(source: str) -> bytes:
    return f"watermark:{source}".encode()


def _marks(row: bytes | None) -> dict[bytes, Watermark]:
    """The watermark of each part of a source, by row id."""
    if row is None:
        return {}
    if len(row) % _MARK.size:
        raise IntegrityError("a watermark is damaged", got=f"{len(row)} bytes", hint="rebuild the online store")
    return {part: Watermark(seq, known) for part, seq, known in _MARK.iter_unpack(row)}


class OnlineWriter:
    """Applies source rows to online rows, exactly once each. One writer per store at a time.

    Every part of a source has its own watermark. A part that is new to the store starts at (0, 0), so the source's
    watermark falls back to that, its log is delivered again from the start, and the other parts skip what they have.

    Parameters
    ----------
    parts
        Of one plan or of several; parts with an equal ``row_id`` share their rows. Module parts have none.
    store
        Where the rows are kept.
    """

    def __init__(self, parts: Sequence[Part], store: OnlineRows) -> None:
        self._store = store
        self._parts: dict[str, dict[bytes, PartRows]] = {}
        for part in parts:
            if not isinstance(part, ModulePart):
                rows = part_rows(part)
                self._parts.setdefault(part.source, {}).setdefault(rows.id, rows)
        self._needs = {
            source: frozenset[str]().union(*(part.needs for part in group.values()))
            for source, group in self._parts.items()
        }

    @property
    def sources(self) -> list[str]:
        """The sources that some part reads, sorted."""
        return sorted(self._parts)

    def watermark(self, source: str) -> Watermark:
        """How far every part of a source has been applied; (0, 0) when one has not been at all.

        Raises
        ------
        UnknownName
            When no part reads that source.
        """
        parts = self._of(source)
        marks = _marks(self._store.get_many([_mark_key(source)])[0])
        return min(marks.get(part, _NONE) for part in parts)

    def apply(self, source: str, columns: Columns, first_seq: int) -> Watermark:
        """Apply rows of a source and its watermark in one atomic step.

        Parameters
        ----------
        source
            Name of the source.
        columns
            Its rows in known order, each column of shape (n,), n ≥ 0. A row that claims to have been known before
            its predecessor is taken as known with it, as :meth:`trimtab.features.history.History.extend` does.
        first_seq
            Position of the first of them. Rows below the watermark are skipped: delivering again is harmless.

        Returns
        -------
        Watermark
            Of the source, after these rows.

        Raises
        ------
        UnknownName
            When no part reads that source.
        SchemaError
            When a column is missing or of the wrong type; nothing is written.
        ConflictError
            When rows between the watermark and ``first_seq`` have never been applied; nothing is written.
        """
        parts = self._of(source)
        missing = self._needs[source] - columns.keys()
        if missing:
            raise SchemaError(
                f"rows of {source!r} lack columns", got=", ".join(columns), hint=f"add {', '.join(sorted(missing))}"
            )
        known = np.asarray(columns[next(iter(parts.values())).known], np.int64)
        keys = {part: rows.keys(columns) for part, rows in parts.items()}
        wanted = [_mark_key(source), *{key for names in keys.values() for key in names}]
        stored = dict(zip(wanted, self._store.get_many(wanted), strict=True))
        marks = _marks(stored[wanted[0]])
        written: dict[bytes, bytes] = {}
        made: dict[tuple[Watermark, object], list[object]] = {}
        for part, rows in parts.items():
            mark = marks.get(part, _NONE)
            skip = _overlap(source, mark, first_seq)
            if skip >= len(known):
                continue
            fresh, lifted = _rest(columns, known, skip, mark)
            additions = made.get((mark, rows.sharing))
            if additions is None:
                additions = made[mark, rows.sharing] = rows.additions(fresh, lifted)
            for key, several in _by_key(keys[part][skip:], additions).items():
                written[key] = rows.update(stored[key], several)
            marks[part] = Watermark(first_seq + len(known), int(lifted[-1]))
        if written:
            written[wanted[0]] = b"".join([_MARK.pack(part, *mark) for part, mark in marks.items()])
            self._store.put_many(written)
        return min(marks.get(part, _NONE) for part in parts)

    def _of(self, source: str) -> dict[bytes, PartRows]:
        parts = self._parts.get(source)
        if parts is None:
            raise UnknownName("no feature reads that source", got=source, hint=f"one of {', '.join(self.sources)}")
        return parts


def _overlap(source: str, mark: Watermark, first_seq: int) -> int:
    """How many rows of a batch have been applied before."""
    if mark.seq < first_seq:
        raise ConflictError(
            f"rows of {source!r} are missing before this batch",
            got=f"position {first_seq}, applied up to {mark.seq}",
            hint=f"deliver {source!r} again from {mark.seq}",
        )
    return mark.seq - first_seq


def _by_key(keys: list[bytes], additions: list[object]) -> dict[bytes, list[object]]:
    """Additions by store key, each key's in known order."""
    grouped: dict[bytes, list[object]] = {}
    for key, added in zip(keys, additions, strict=True):
        if key in grouped:
            grouped[key].append(added)
        else:
            grouped[key] = [added]
    return grouped


def _rest(columns: Columns, known: NDArray[np.int64], skip: int, mark: Watermark) -> tuple[Columns, NDArray[np.int64]]:
    """The rows that are new to a part, and when each became known, never before the one that came before it."""
    if skip:
        columns, known = {name: column[skip:] for name, column in columns.items()}, known[skip:]
    if mark.seq:
        known = np.maximum(known, mark.known)
    return columns, np.maximum.accumulate(known)


class OnlineReader:
    """Reads the features of a plan from online rows, as :func:`trimtab.features.history.point_in_time` computes them.

    Parameters
    ----------
    plan
        What to read.
    store
        Where an :class:`OnlineWriter` with the plan's parts writes.
    modules
        The plan's on-request modules by name.

    Raises
    ------
    UnknownName
        When a module is missing.
    """

    def __init__(self, plan: Plan, store: OnlineRows, modules: Mapping[str, LoadedModule]) -> None:
        self._plan, self._store = plan, store
        self._sources = plan.sources()
        self._mark_keys = [_mark_key(source) for source in self._sources]
        self._groups: dict[object, list[tuple[PartRows, int]]] = {}
        """Parts that are read together, each with its first column."""
        self._modules: list[tuple[LoadedModule, int]] = []
        self._fresh: dict[str, int] = {}
        self._unpacked: dict[str, tuple[bytes | None, Mapping[bytes, Watermark]]] = {}
        """By source its row of watermarks, as it was last read: it is often the same again."""
        first = 0
        for part in plan.parts:
            if isinstance(part, ModulePart):
                self._modules.append((module_of(part, modules), first))
            else:
                rows = part_rows(part)
                self._groups.setdefault(rows.reading, []).append((rows, first))
                if rows.fresh > 0:
                    self._fresh[part.source] = min(rows.fresh, self._fresh.get(part.source, rows.fresh))
            first += len(part.names())
        self._width = first

    def read(self, batch: RequestBatch) -> FeatureBatch:
        """The features of a batch, all from one snapshot of the store.

        A request asked before the newest applied row became known is answered as of that row. ``stale`` names the
        sources whose watermark is older, at the last request, than the freshness their views expect.
        """
        values, watermarks = self.read_exact(batch)
        at = np.asarray(batch.at, np.int64)
        known = np.array([watermarks[source].known for source in self._sources], np.int64)
        with np.errstate(over="ignore"):  # a value beyond float32 is an infinity
            exact = values.astype(np.float32)
        stale: tuple[str, ...] = ()
        if self._fresh:
            latest = int(at.max()) if len(at) else 0
            stale = tuple(source for source, fresh in self._fresh.items() if latest - watermarks[source].known > fresh)
        return FeatureBatch(exact, ((at[:, None] - known) / 1e6).astype(np.float32), watermarks, stale)

    def read_exact(self, batch: RequestBatch) -> tuple[NDArray[np.float64], dict[str, Watermark]]:
        """The values before the cast to float32, shape (n, features), and the watermark of each source."""
        count, at = len(batch), batch.at.tolist()
        earliest = min(at, default=0)
        keys = self._mark_keys.copy()
        for group in self._groups.values():
            for part, _ in group:
                keys += part.keys(batch.keys)
        rows = self._store.get_many(keys)
        place = len(self._sources)
        marks = {source: self._marks_of(source, row) for source, row in zip(self._sources, rows[:place], strict=True)}
        watermarks: dict[str, Watermark] = {}
        out = np.empty((count, self._width))
        for group in self._groups.values():
            as_of: list[int] = []
            for part, _ in group:
                mark = marks[part.source].get(part.id, _NONE)
                watermarks[part.source] = min(mark, watermarks.get(part.source, mark))
                later = mark.seq and mark.known > earliest
                as_of += [max(moment, mark.known) for moment in at] if later else at
            values = group[0][0].read(rows[place : place + len(as_of)], as_of)
            place += len(as_of)
            width = values.shape[1]
            for number, (_, first) in enumerate(group):
                out[:, first : first + width] = values[number * count : (number + 1) * count]
        if self._modules:
            columns = request_columns(batch, self._plan.requests)
            for module, first in self._modules:
                out[:, first : first + len(module.features)] = module.compute(columns)
        return out, watermarks

    def _marks_of(self, source: str, row: bytes | None) -> Mapping[bytes, Watermark]:
        found = self._unpacked.get(source)
        if found is None or found[0] != row:
            found = self._unpacked[source] = row, _marks(row)
        return found[1]
