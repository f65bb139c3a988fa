"""The gates a project declares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from trimtab.core.clock import Micros
from trimtab.errors import ProjectError
from trimtab.features import declared
from trimtab.features.sources import declared_at


@dataclass(frozen=True)
class Floor:
    """A bound that a candidate must keep on its held-out tail, before any shadow traffic."""

    measure: str
    """A metric of the task, ``latency_p99_ms`` or ``size_bytes``."""
    bound: float
    side: Literal["at_least", "at_most"]


@dataclass(frozen=True)
class Comparison:
    """The champion must be beaten on matured rows that both predicted, by day blocks, sequentially."""

    loss: str
    alpha: float
    """Greatest chance that a challenger that is no better is promoted, however often one looks."""
    expires: Micros
    """After this long in the shadow without evidence, the challenger is rejected."""


Gate = Floor | Comparison

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(kB|MB|GB)")


def at_least(metric: str, bound: float) -> Floor:
    """The candidate's metric on the held-out tail must be at least ``bound``.

    Examples
    --------
    >>> at_least("roc_auc", 0.7).bound
    0.7
    """
    return _floor(metric, bound, "at_least")


def at_most(metric: str, bound: float) -> Floor:
    """The candidate's metric on the held-out tail must be at most ``bound``; for losses."""
    return _floor(metric, bound, "at_most")


def _floor(metric: str, bound: float, side: Literal["at_least", "at_most"]) -> Floor:
    where = declared_at()
    declared.text(metric, what=f"the metric of {side}", where=where)
    return Floor(metric, float(declared.number(bound, what=f"the bound of {side}", where=where)), side)


def p99_below(bound: str) -> Floor:
    """One-row inference must take less than ``bound`` at the 99th percentile.

    Examples
    --------
    >>> p99_below("50ms").bound
    50.0
    """
    held = declared.length(bound, what="the bound of p99_below", where=declared_at())
    return Floor("latency_p99_ms", held / 1000, "at_most")


def size_below(bound: str) -> Floor:
    """The bundle must be smaller than ``bound`` (kB, MB, GB: powers of ten).

    Examples
    --------
    >>> size_below("500MB").bound
    500000000.0
    """
    match = _SIZE.fullmatch(bound.strip()) if isinstance(bound, str) else None
    if match is None:
        raise ProjectError(
            "not a size", got=repr(bound), hint='write a number and kB, MB or GB, as in "500MB"', where=declared_at()
        )
    return Floor("size_bytes", float(match[1]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[match[2]], "at_most")


def beats_champion(loss: str, *, alpha: float = 0.1, expires: str | Micros = "28d") -> Comparison:
    """The challenger's mean loss must be lower than the champion's, on evidence that may be read every day.

    ``alpha`` bounds the chance of promoting a challenger that is *not better at all*. One that is worse is promoted
    far more rarely, and one that is equal does no harm, which is why the default is not 0.01
    (docs/decisions/0003-default-policy.md).
    """
    where = declared_at()
    declared.text(loss, what="the loss of beats_champion", where=where)
    # At one half or above, luck decides as often as evidence does.
    declared.number(alpha, what="alpha of beats_champion", where=where, above=0, most=0.5)
    return Comparison(loss, alpha, declared.length(expires, what="expires of beats_champion", where=where))
