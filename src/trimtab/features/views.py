"""Feature views: windows over events, the latest row of a table, and code that runs on the request itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from trimtab.core.clock import DAY, HOUR, MINUTE, Micros
from trimtab.errors import ProjectError
from trimtab.features import declared
from trimtab.features.sources import Entity, Source, declared_at

Along = Literal["known", "time"]
Aggregation = Literal["count", "sum", "mean", "min", "max"]


def hop_of(length: Micros) -> Micros:
    """How finely the far end of a window moves: 5 min below 12 h, 1 h below 12 d, 1 d beyond.

    The near end is exact. Both paths, training and serving, call this one function.

    Examples
    --------
    >>> hop_of(3 * HOUR) // MINUTE, hop_of(7 * DAY) // HOUR
    (5, 1)
    """
    if length < 12 * HOUR:
        return 5 * MINUTE
    return HOUR if length < 12 * DAY else DAY


def window_start(at: Micros, length: Micros) -> Micros:
    """The first instant inside the window of ``length`` that ends at ``at`` (the hopped tail).

    A window holds the rows with ``window_start(at, length) <= when <= at``.
    """
    hop = hop_of(length)
    return (at - length) // hop * hop


@dataclass(frozen=True)
class WindowView:
    """Aggregates of a source over sliding windows, once per entity in ``by``."""

    source: Source
    by: tuple[Entity, ...]
    over: tuple[Micros, ...]
    aggregates: tuple[tuple[Aggregation, str], ...]
    """Pairs of aggregation and column; the column of ``count`` is ``*``."""
    along: Along
    fresh: Micros
    """Expected freshness: an older watermark is reported as stale; 0 means no expectation."""
    where: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class LatestView:
    """The latest known values of a source per key, missing when older than ``ttl``."""

    source: Source
    columns: tuple[str, ...]
    ttl: Micros
    """Greatest age, ``at - time`` of the row, at which a value still counts; 0 means any age."""
    where: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class OnRequest:
    """A module of the project (stdlib and numpy only) that computes features from the request alone.

    The module defines ``FEATURES: tuple[str, ...]`` and ``compute(columns) -> dict[str, array]``, where
    ``columns`` holds the request's inputs, entity keys and ``at``: arrays of shape (n,), times as
    ``datetime64[us]``, strings as numpy ``str``.
    """

    module: str
    where: str = field(default="", compare=False, repr=False)


View = WindowView | LatestView | OnRequest


def windows(
    source: Source,
    *,
    by: Sequence[Entity],
    over: Sequence[str | Micros],
    count: str = "",
    sum: Sequence[str] = (),
    mean: Sequence[str] = (),
    min: Sequence[str] = (),
    max: Sequence[str] = (),
    fresh: str | Micros = 0,
    along: Along = "known",
) -> WindowView:
    """Aggregate events over sliding windows, separately for each entity in ``by``.

    Parameters
    ----------
    by
        Entities, each a key of the source and of the requests; every entity gets its own features.
    over
        Window lengths such as ``"3h"``; the far end moves in hops (:func:`hop_of`), the near end is exact.
    count
        ``"*"`` to count rows.
    sum, mean, min, max
        Columns to aggregate; integers and booleans exactly, floats to 1e-9.
    fresh
        How old the source's watermark may be before a read is reported as stale.
    along
        ``"known"``: rows that became known within the window; ``"time"``: rows that happened within it, among
        those known by then.

    Examples
    --------
    >>> from trimtab.features.sources import Entity, Events
    >>> shop = Entity("shop")
    >>> sales = Events("sales", time="at", known="at", keys=[shop], schema={"amount": int})
    >>> windows(sales, by=[shop], over=["1h"], count="*", mean=["amount"]).aggregates
    (('count', '*'), ('mean', 'amount'))
    """
    where = declared_at()
    declared.a(Source, source, what="the source of windows", hint=_SOURCE, where=where)
    entities = declared.every_one(Entity, by, what="by= of windows", hint="write by=[shop], a tt.Entity", where=where)
    named: list[tuple[Aggregation, str]] = [("count", "*")] if count else []
    for aggregation, columns in (("sum", sum), ("mean", mean), ("min", min), ("max", max)):
        named.extend((aggregation, name) for name in _names(columns, f"{aggregation}= of windows", where))  # type: ignore[misc]
    if count not in ("", "*"):
        raise ProjectError("count takes only rows", got=repr(count), hint='write count="*"', where=where)
    if not (named and over and entities):
        raise ProjectError("a window view needs by, over and at least one aggregate", where=where)
    if along not in ("known", "time"):
        raise ProjectError("along is neither known nor time", got=repr(along), where=where)
    spans = declared.every_one((str, int), over, what="over= of windows", hint='write over=["3h", "7d"]', where=where)
    lengths = tuple(sorted(declared.length(span, what="a length of windows", where=where) for span in spans))
    freshness = declared.length(fresh, what="fresh= of windows", where=where, zero=True)
    return WindowView(source, entities, lengths, tuple(named), along, freshness, where)


_SOURCE = "pass what tt.Events(...) or tt.Table(...) returned, not its name"


def _names(columns: object, what: str, where: str) -> tuple[str, ...]:
    given = [columns] if isinstance(columns, str) else columns
    return declared.every_one(str, given, what=what, hint='write names, as in ["amount"]', where=where)


def latest(source: Source, columns: Sequence[str], *, ttl: str | Micros = 0) -> LatestView:
    """Take the latest known values of a source for the request's keys.

    Examples
    --------
    >>> from trimtab.features.sources import Entity, Table
    >>> weather = Table("weather", time="hour", known="known_at", keys=[Entity("origin")], schema={"wind": float})
    >>> latest(weather, ["wind"], ttl="3h").columns
    ('wind',)
    """
    where = declared_at()
    declared.a(Source, source, what="the source of latest", hint=_SOURCE, where=where)
    names = _names(columns, "the columns of latest", where)
    return LatestView(source, names, declared.length(ttl, what="ttl= of latest", where=where, zero=True), where)
