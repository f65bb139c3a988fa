"""What was known when: the rows of a source in known order, and features computed from them point in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.core.ports import Columns
from trimtab.errors import InputError, SchemaError, UnknownName
from trimtab.features.batch import RequestBatch
from trimtab.features.offline import Rows, latest_values, window_values
from trimtab.features.onrequest import LoadedModule, request_columns
from trimtab.features.plan import LatestPart, ModulePart, Part, Plan, WindowPart
from trimtab.features.sources import Source

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class History:
    """Rows of one source in known order: by the time they became known, and at equal times as they came.

    The position of a row in this order is its ``seq``; a watermark counts rows in it.
    """

    source: str
    time: Ints
    """When each row happened, microseconds, shape (n,)."""
    known: Ints
    """When each row became known, microseconds, ascending, shape (n,)."""
    columns: Columns
    """Every column of the source, by name, shape (n,)."""
    time_column: str = "time"
    known_column: str = "known"

    @staticmethod
    def of(source: Source, columns: Columns) -> History:
        """Put the rows of a source into known order.

        Raises
        ------
        SchemaError
            When the columns of time, known time or a key are missing, or the columns are of unequal lengths.

        Examples
        --------
        >>> from trimtab.features.sources import Entity, Events
        >>> sales = Events("sales", time="at", known="seen", keys=[Entity("shop")], schema={})
        >>> rows = {"at": np.array([1, 2]), "seen": np.array([9, 3]), "shop": np.array(["a", "b"])}
        >>> History.of(sales, rows).columns["shop"].tolist()
        ['b', 'a']
        """
        _check(columns, (source.time, source.known, *source.key_names), source.name)
        known = np.asarray(columns[source.known], np.int64)
        if bool((known[1:] >= known[:-1]).all()):
            table = dict(columns)
        else:
            order = np.argsort(known, kind="stable")
            table = {name: column[order] for name, column in columns.items()}
            known = known[order]
        return History(source.name, np.asarray(table[source.time], np.int64), known, table, source.time, source.known)

    def __len__(self) -> int:
        return len(self.known)

    def until(self, known: Micros) -> History:
        """The rows that were known at that time or before; shares memory with this history."""
        end = int(self.known.searchsorted(known, side="right"))
        columns = {name: column[:end] for name, column in self.columns.items()}
        return History(self.source, self.time[:end], self.known[:end], columns, self.time_column, self.known_column)

    def at(self, places: Ints) -> History:
        """The rows at these positions, which ascend."""
        columns = {name: column[places] for name, column in self.columns.items()}
        known = self.known[places]
        return History(self.source, self.time[places], known, columns, self.time_column, self.known_column)

    def extend(self, columns: Columns) -> History:
        """This history and rows that arrived after it, in order of arrival.

        A row that claims to have been known before its predecessor is taken as known with it: it could not have been
        used earlier. The online writer does the same, so positions and times agree.
        """
        _check(columns, tuple(self.columns), self.source)
        known = np.concatenate([self.known, np.asarray(columns[self.known_column], np.int64)])
        return History(
            self.source,
            np.concatenate([self.time, np.asarray(columns[self.time_column], np.int64)]),
            np.maximum.accumulate(known),
            {name: np.concatenate([column, columns[name]]) for name, column in self.columns.items()},
            self.time_column,
            self.known_column,
        )


def point_in_time(
    plan: Plan,
    histories: Mapping[str, History],
    requests: RequestBatch,
    modules: Mapping[str, LoadedModule],
    *,
    watermarks: Mapping[str, Ints] | None = None,
    trust_time: bool = False,
) -> NDArray[np.float32]:
    """The features of each request, from what was known when it was asked.

    Parameters
    ----------
    plan
        What to compute.
    histories
        By source; rows known later than a request do not count for it.
    requests
        In any order, shape (n,).
    modules
        On-request modules by name.
    watermarks
        By source, shape (n,): instead of the time of asking, the number of rows that had been applied when a request
        was answered says what was known. A request asked before the last of these rows became known (clocks of two
        processes) is answered as of that row, as the online store does.
    trust_time
        Pretend that every row was known the moment it happened. This is the classic leak: rows that arrived after the
        question take part in the answer, training looks better than it is, and serving cannot follow. It exists so
        that the leak can be shown and caught (:mod:`trimtab.features.parity`); never train with it.

    Returns
    -------
    ndarray
        float32, shape (n, features), columns as ``plan.names()``. A sum or count of nothing is 0; a mean, minimum or
        maximum of nothing is NaN, and so is a latest value that is unknown or past its TTL.

    Raises
    ------
    UnknownName
        When a source or a module of the plan is not given.
    InputError
        When a watermark lies past the end of a history, or watermarks come with ``trust_time``.
    """
    out = np.empty((len(requests), len(plan.names())), np.float32)
    _fill(out, plan, requests, modules, _rows(plan, histories, requests, watermarks, trust=trust_time))
    return out


def point_in_time_exact(
    plan: Plan,
    histories: Mapping[str, History],
    requests: RequestBatch,
    modules: Mapping[str, LoadedModule],
    *,
    watermarks: Mapping[str, Ints] | None = None,
) -> Floats:
    """As :func:`point_in_time`, before the cast to float32; for comparisons."""
    out = np.empty((len(requests), len(plan.names())))
    _fill(out, plan, requests, modules, _rows(plan, histories, requests, watermarks, trust=False))
    return out


def module_of(part: ModulePart, modules: Mapping[str, LoadedModule]) -> LoadedModule:
    """The loaded module of a part; ``UnknownName`` when it was not given, ``InputError`` when it is another one."""
    module = modules.get(part.module)
    if module is None:
        raise UnknownName("an on-request module was not loaded", got=part.module, hint="load every module of the plan")
    if module.sha256 != part.sha256:
        raise InputError(f"module {part.module!r} is not the one in the plan", got=module.sha256[:12])
    return module


def _fill(
    out: NDArray[np.float32] | Floats,
    plan: Plan,
    requests: RequestBatch,
    modules: Mapping[str, LoadedModule],
    rows: Mapping[str, Rows],
) -> None:
    """Compute part after part into the columns of ``out``, each part as soon as the one before is written."""
    first = 0
    with np.errstate(over="ignore"):  # a value beyond float32 is an infinity
        for part in plan.parts:
            width = len(part.names())
            if isinstance(part, ModulePart):
                columns = request_columns(requests, plan.requests)
                out[:, first : first + width] = module_of(part, modules).compute(columns)
            else:
                back, values = _part_values(part, rows[part.source], requests.keys)
                for offset, column in enumerate(values):
                    out[back, first + offset] = column
            first += width


def _part_values(part: Part, rows: Rows, keys: Columns) -> tuple[Ints, list[Floats]]:
    if isinstance(part, WindowPart):
        return window_values(part, rows, keys[part.entity])
    assert isinstance(part, LatestPart)
    return latest_values(part, rows, [keys[name] for name in part.keys])


def _rows(
    plan: Plan,
    histories: Mapping[str, History],
    requests: RequestBatch,
    watermarks: Mapping[str, Ints] | None,
    *,
    trust: bool,
) -> dict[str, Rows]:
    """For each source its rows, and how many of them count for each request."""
    if trust and watermarks is not None:
        raise InputError("watermarks and trust_time contradict each other", hint="give one of them")
    rows = {}
    at = np.asarray(requests.at, np.int64)
    for source in plan.sources():
        history = histories.get(source)
        if history is None:
            raise UnknownName("no history of a source that the plan needs", got=source, hint="give every plan source")
        if trust:
            history = _as_if_known(history)
        if watermarks is None:
            rows[source] = Rows(
                history.time, history.known, history.columns, history.known.searchsorted(at, "right"), at
            )
        else:
            limits = np.asarray(watermarks[source], np.int64)
            rows[source] = Rows(history.time, history.known, history.columns, limits, _as_of(history, at, limits))
    return rows


def _as_of(history: History, at: Ints, limits: Ints) -> Ints:
    """The time of asking, or the last applied row's known time where that is later."""
    if bool(((limits < 0) | (limits > len(history))).any()):
        raise InputError(
            f"a watermark lies outside the history of {history.source!r}",
            got=f"{int(limits.max())} of {len(history)} rows",
            hint="load the history up to the time of the newest record",
        )
    if not len(history):
        return at
    return np.where(limits > 0, np.maximum(at, history.known[limits - 1]), at)


def _as_if_known(history: History) -> History:
    """The leak: the same rows, each known the moment it happened."""
    order = np.argsort(history.time, kind="stable")
    columns = {name: column[order] for name, column in history.columns.items()}
    time = history.time[order]
    return History(history.source, time, time, columns, history.time_column, history.known_column)


def _check(columns: Columns, needed: tuple[str, ...], source: str) -> None:
    missing = sorted(set(needed) - set(columns))
    if missing:
        raise SchemaError(f"rows of {source!r} lack columns", got=", ".join(sorted(columns)), hint=f"add {missing}")
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise SchemaError(f"columns of {source!r} are of unequal lengths", got=str(sorted(lengths)))
