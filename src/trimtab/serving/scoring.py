"""A table of requests through the pipeline: typed a column at a time, scored in pieces, every row accounted for.

The stages, the model and the checks are those of a request over HTTP. A row that cannot be believed keeps its place,
with no prediction and a status that says why.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.core.ports import Columns
from trimtab.datasets.coercion import absent, coerce, rule
from trimtab.errors import InputError, SchemaError, Unavailable
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.features.plan import Plan
from trimtab.features.sources import Column
from trimtab.serving.answers import Answers
from trimtab.serving.matrices import believed, side_by_side
from trimtab.serving.pipeline import Deployed, Pipeline
from trimtab.serving.recording import statuses

ARM = "batch"
"""The arm of a record that was written for a batch: no answer to anybody, and no fair sample of anything."""
TABLE = "batch"
"""The table of records that holds them, apart from ``predictions``: monitors, gates and training never see it."""
PIECE = 8192
"""Rows that go through the pipeline at once: what a wide net holds between its layers stays bounded."""
SMALL_PIECE = 2048
"""The same where several threads take pieces in turn: a matrix that was just made is still in the cache of its core."""
_LEAST_PIECE = 256
OK = "ok"
QUARANTINED = "quarantined"

Raw = Mapping[str, Sequence[object] | NDArray[Any]]
_TYPES: dict[str, type] = {"str": str, "bool": bool, "int": int, "float": float, "time": datetime}
_BEYOND_FLOAT32 = "past the range of float32"
_VALUE_TEXT = 80


class RowNumbers(Sequence[str]):
    """The ids of rows that have none but their number: made when they are asked for, because most never are."""

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return RowNumbers(self._numbers[place]) if isinstance(place, slice) else str(int(self._numbers[place]))


@dataclass(frozen=True, slots=True)
class Fault:
    """One quarantined row: its number in the table, and the first thing found wrong with it."""

    row: int
    column: str
    reason: str
    value: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of a table after typing."""

    rows: int
    batch: RequestBatch
    """The accepted ones."""
    places: NDArray[np.int64] | None
    """Where they stood, shape (accepted,); None when all were accepted."""
    sent: Sequence[NDArray[np.float32]] | None
    """The columns of the matrix, each of shape (n,), when the rows bring the features themselves; else a reader makes
    them."""
    faults: Mapping[int, tuple[str, str, str]]
    """By place of the refused ones: column, reason and value."""
    may_lack: NDArray[np.bool_] | None = None
    """Of the columns in ``sent``: whether NaN is believed there."""
    closely: Callable[[], Taken] | None = None
    """Where values are only looked at when the matrix is made: the same rows with a look at each."""


class Intake:
    """Types the columns that a plan asks for; made once per version.

    Parameters
    ----------
    plan
        Of the version.
    timed
        Whether the table says when each row was asked.
    exact
        Whether the typed inputs are needed besides the features: for records and keys of answers. Without them, a model
        that takes its columns as they are gets its matrix straight from the table.
    """

    def __init__(self, plan: Plan, *, timed: bool = False, exact: bool = False) -> None:
        shape = plan.requests
        self.shape, self.timed = shape, timed
        kinds = {**shape.keys, **shape.inputs, **({shape.at: "time"} if timed else {})}
        self.kinds: Mapping[str, str] = kinds
        """What kind each column has to be, of those that are read."""
        self.optional = frozenset(shape.optional)
        self._rules = [
            rule(
                name,
                Column(_TYPES[kind], shape.ranges.get(name), name in self.optional),
                identifying=name in shape.keys,
            )
            for name, kind in kinds.items()
        ]
        self._sent = not plan.parts
        plain = all(kind == "float" and name not in shape.ranges for name, kind in shape.inputs.items())
        self.straight = self._sent and plain and not shape.keys and not timed and not exact
        """Whether the columns may become the matrix without a look at each value."""

    def check(self, columns: Sequence[str]) -> None:
        """Refuse a table that lacks a column.

        Raises
        ------
        SchemaError
            When it does; it names the column and one that is spelt alike.
        """
        for name in self.kinds:
            if name not in columns and name not in self.optional:
                near = difflib.get_close_matches(name, columns, n=1)
                raise SchemaError(
                    f"column {name!r} is missing",
                    got=f"columns {', '.join(columns) or 'none'}"[:300],
                    hint=f"rename {near[0]!r} to {name!r}" if near else f"the model takes {', '.join(self.kinds)}",
                )

    def take(self, raw: Raw, rows: int, *, ids: Sequence[str], at: Micros) -> Taken:
        """Type n rows.

        Parameters
        ----------
        raw
            Columns by name; those that no rule names are not read.
        at
            When rows that do not say it themselves were asked.
        """
        if self.straight and (sent := self._columns(raw, rows)) is not None:
            batch = RequestBatch(ids, np.broadcast_to(np.int64(at), rows), {}, {})
            may_lack = np.array([name in self.optional for name in self.shape.inputs], bool)
            return Taken(rows, batch, None, sent, {}, may_lack, lambda: self._closely(raw, rows, ids=ids, at=at))
        return self._closely(raw, rows, ids=ids, at=at)

    def _closely(self, raw: Raw, rows: int, *, ids: Sequence[str], at: Micros) -> Taken:
        typed, faults = self._typed(raw, rows)
        places = None
        if faults:
            kept = np.ones(rows, bool)
            kept[list(faults)] = False
            places = np.flatnonzero(kept)
            typed = {name: values[places] for name, values in typed.items()}
            ids = [ids[place] for place in places.tolist()]
        count = rows - len(faults)
        asked = typed.pop(self.shape.at) if self.timed else np.full(count, at, np.int64)
        keys: Columns = {name: typed[name] for name in self.shape.keys}
        inputs: Columns = {name: typed[name] for name in self.shape.inputs}
        return Taken(rows, RequestBatch(ids, asked.astype(np.int64, copy=False), keys, inputs), places, None, faults)

    def _typed(self, raw: Raw, rows: int) -> tuple[dict[str, NDArray[Any]], dict[int, tuple[str, str, str]]]:
        typed: dict[str, NDArray[Any]] = {}
        faults: dict[int, tuple[str, str, str]] = {}
        for wanted in self._rules:
            if wanted.name not in raw:
                typed[wanted.name] = absent(wanted, rows)
                continue
            values, found = coerce(wanted, raw[wanted.name])
            typed[wanted.name] = values
            for where, reason in [*found, *self._beyond(values)]:
                bad = [where] if isinstance(where, int) else np.flatnonzero(where).tolist()
                for place in bad:
                    faults.setdefault(place, (wanted.name, reason, _shown(raw[wanted.name][place])))
        return typed, faults

    def _beyond(self, values: NDArray[Any]) -> Iterator[tuple[NDArray[np.bool_], str]]:
        """What a model that takes its columns as they are cannot hold: over HTTP such a request is refused."""
        if self._sent and values.dtype.kind == "f":
            with np.errstate(over="ignore"):
                past = np.isinf(values.astype(np.float32))
            if past.any():
                yield past, _BEYOND_FLOAT32

    def _columns(self, raw: Raw, rows: int) -> list[NDArray[np.float32]] | None:
        """The columns of the matrix, whose values are still to be looked at; None where one does not hold numbers."""
        columns: list[NDArray[np.float32]] = []
        for name in self.shape.inputs:
            found = raw.get(name)
            if found is None:
                columns.append(np.full(rows, np.nan, np.float32))  # it is optional: the table was checked
                continue
            if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf":
                return None
            with np.errstate(over="ignore", invalid="ignore"):
                columns.append(found.astype(np.float32, copy=False))
        return columns


@dataclass(slots=True)
class Scored:
    """What became of n rows of a table, in their order."""

    outputs: NDArray[np.float64]
    """Shape (n, outputs); NaN where there is no prediction."""
    codes: NDArray[np.int32]
    """Shape (n,): for each row its place in ``statuses``."""
    statuses: list[str] = field(default_factory=lambda: [OK])
    answers: list[tuple[Answers, NDArray[np.int64] | None]] = field(default_factory=list)
    """What the pipeline said, each with the places of its rows (None: all of them)."""
    faults: list[Fault] = field(default_factory=list)
    """The quarantined rows, in order."""

    def code(self, status: str) -> int:
        """The place of a status, added when it is new."""
        if status not in self.statuses:
            self.statuses.append(status)
        return self.statuses.index(status)

    def counts(self) -> dict[str, int]:
        """Rows by status."""
        if len(self.statuses) == 1:
            return {OK: len(self.codes)} if len(self.codes) else {}
        found = np.bincount(self.codes, minlength=len(self.statuses)).tolist()
        return {status: count for status, count in zip(self.statuses, found, strict=True) if count}

    def reasons(self) -> Counter[tuple[str, str]]:
        """Quarantined rows by column and reason."""
        return Counter((fault.column, fault.reason) for fault in self.faults)


def output_width(pipeline: Pipeline, deployed: Deployed) -> int:
    """How many numbers a version gives per row: found by asking it about a row of zeros."""
    zeros = _sent(np.zeros((1, deployed.width), np.float32))
    return int(np.atleast_2d(pipeline.score(deployed, zeros).T).T.shape[-1])


Part = tuple[Answers, int, int]
"""Answers, and of which accepted rows: from one number to before another."""
Each = Callable[[Callable[[int], list[Part] | None], Iterable[int]], Iterable[list[Part] | None]]
"""Does something with each of several things; what came of them, in their order: ``map``, or that of a pool."""


def piece_for(rows: int, *, threads: int) -> int:
    """How many rows each of several threads takes at once, so that all of them have something to do.

    Examples
    --------
    >>> piece_for(65_536, threads=2), piece_for(2000, threads=2), piece_for(10, threads=2)
    (2048, 1000, 256)
    """
    return max(_LEAST_PIECE, min(SMALL_PIECE, -(-rows // threads)))


def score(
    pipeline: Pipeline,
    deployed: Deployed,
    taken: Taken,
    *,
    width: int,
    first: int = 0,
    piece: int = PIECE,
    each: Each = map,
) -> Scored:
    """Answer the rows that were taken, and say of every row what became of it.

    A piece that the features, the model or the bundle's own code refuse is halved until the rows at fault stand alone;
    only these go without an answer.

    Parameters
    ----------
    width
        Numbers per row, from :func:`output_width`.
    first
        Number of the first row in its table.
    piece
        Rows that go through the pipeline at once.
    each
        Takes the pieces through the pipeline: one after the other, or in the threads of a pool.

    Raises
    ------
    Unavailable
        When a store cannot be reached: nothing is wrong with the rows then.
    """
    scored = Scored(np.full((taken.rows, width), np.nan), np.zeros(taken.rows, np.int32))
    for place, (column, reason, value) in sorted(taken.faults.items()):
        scored.codes[place] = scored.code(f"{QUARANTINED}:{column}:{reason}")
        scored.faults.append(Fault(first + place, column, reason, value))
    count = len(taken.batch)
    nothing = _sent(np.empty((0, 0), np.float32))

    def through(start: int) -> list[Part] | None:
        stop = min(start + piece, count)
        if taken.sent is None:
            return list(_answered(pipeline, deployed, taken, start, stop))
        values = side_by_side([column[start:stop] for column in taken.sent], stop - start)
        if not believed(values, taken.may_lack):
            return None
        found = _answered(pipeline, deployed, taken, start, stop, values=values)
        # Nobody records these: the matrix is let go while it is in the cache, and the next one takes its place there.
        return [(replace(answers, features=nothing), begin, end) for answers, begin, end in found]

    for parts in each(through, range(0, count, piece)):
        if parts is None and taken.closely is not None:
            again = taken.closely()
            return score(pipeline, deployed, again, width=width, first=first, piece=piece, each=each)
        for answers, begin, end in parts or ():
            places = np.arange(begin, end) if taken.places is None else taken.places[begin:end]
            _settle(scored, answers, places, first)
    if taken.faults or len(scored.statuses) > 1:
        scored.faults.sort(key=lambda fault: fault.row)
    return scored


def _settle(scored: Scored, answers: Answers, places: NDArray[np.int64], first: int) -> None:
    whole = len(places) == len(scored.codes)
    target: Any = slice(None) if whole else slice(int(places[0]), int(places[-1]) + 1)
    if not whole and int(places[-1]) - int(places[0]) + 1 != len(places):
        target = places
    if answers.error:
        kind, _, said = answers.error.partition(":")
        scored.codes[target] = scored.code(f"error:{kind}")
        scored.faults.extend(Fault(first + place, "", kind, said[:_VALUE_TEXT]) for place in places.tolist())
        return
    scored.outputs[target] = answers.outputs.reshape(len(places), -1)
    scored.answers.append((answers, None if whole else places))
    finite = bool(np.isfinite(answers.outputs).all())
    if finite and not answers.features.stale:
        return
    said_of = statuses(answers)
    scored.codes[target] = [scored.code(status) for status in said_of]
    if not finite:
        bad = [place for place, status in zip(places.tolist(), said_of, strict=True) if status == "error:not_finite"]
        scored.outputs[bad] = np.nan
        scored.faults.extend(Fault(first + place, "", "not_finite", "") for place in bad)


def _answered(
    pipeline: Pipeline,
    deployed: Deployed,
    taken: Taken,
    start: int,
    stop: int,
    *,
    values: NDArray[np.float32] | None = None,
) -> Iterator[Part]:
    """Answers for the accepted rows from ``start`` to ``stop``, in parts where some of them are refused."""
    batch = _rows(taken.batch, start, stop)
    features = None if values is None else _sent(values)
    try:
        yield pipeline.predict(deployed, batch, arm=ARM, features=features), start, stop
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - a bundle's own modules may raise anything
        if stop - start > 1:
            half = (start + stop) // 2
            upper, lower = (None, None) if values is None else (values[: half - start], values[half - start :])
            yield from _answered(pipeline, deployed, taken, start, half, values=upper)
            yield from _answered(pipeline, deployed, taken, half, stop, values=lower)
            return
        said = f"{error.what}: {error.got}" if isinstance(error, InputError) else str(error)
        nothing = _sent(np.empty((1, 0), np.float32))
        why = f"{type(error).__name__}:{said}"
        yield Answers(batch, nothing, deployed.version, ARM, "", np.full(1, np.nan), (0,) * 6, why), start, stop


def _rows(batch: RequestBatch, start: int, stop: int) -> RequestBatch:
    def part(columns: Columns) -> Columns:
        return {name: values[start:stop] for name, values in columns.items()}

    if start == 0 and stop == len(batch):
        return batch
    return RequestBatch(batch.ids[start:stop], batch.at[start:stop], part(batch.keys), part(batch.inputs))


def _sent(values: NDArray[np.float32]) -> FeatureBatch:
    return FeatureBatch(values, np.empty((len(values), 0), np.float32), {}, ())


def _shown(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _VALUE_TEXT else text[: _VALUE_TEXT - 1] + "…"
