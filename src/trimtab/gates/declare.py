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
    """Greatest chance that a challenger whose daily gains, cut at the bound, are 0 or less on average is let through,
    however often one looks, when each day is evidence of its own."""
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
    """The candidate's metric on the held-out tail must be at most ``bound``; for losses.

    Examples
    --------
    >>> at_most("log_loss", 0.5).bound
    0.5
    """
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

    Two things are asked: evidence of ``1 / alpha`` to 1 that the mean of the daily gains, each cut at a bound fixed
    from the held-out days, is above 0; and a plain mean gain, nothing cut, above 0.

    ``alpha`` bounds the chance of letting through a challenger whose *cut* gains are not above 0 on average, if each
    day is evidence of its own. With a correlation of 0.3 between neighbouring days an equal challenger passes in 12.5 %
    instead of at most 10 %. One that is worse on most days passes far more rarely, and an equal one does no harm, which
    is why the default is not 0.01. Not bounded is one that gains a little on most days and loses much on rare ones:
    until such a day comes nothing shows it (docs/decisions/0003-default-policy.md).
    """
    where = declared_at()
    declared.text(loss, what="the loss of beats_champion", where=where)
    # At one half or above, luck decides as often as evidence does.
    declared.number(alpha, what="alpha of beats_champion", where=where, above=0, most=0.5)
    return Comparison(loss, alpha, declared.length(expires, what="expires of beats_champion", where=where))
