"""How figures and times are written, on pages and in the terminal."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from trimtab.core.clock import Micros

MISSING = "\N{EN DASH}"
"""Stands where there is no number."""
MINUS = "\N{MINUS SIGN}"
_MINUTE_S, _HOUR_S = 60, 3600


def known(value: float | None) -> bool:
    """Whether there is a number at all."""
    return value is not None and math.isfinite(value)


def score(value: float | None, *, digits: int = 3) -> str:
    """A measure such as an AUC.

    Examples
    --------
    >>> score(0.4637)
    '0.464'
    """
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else MISSING


def signed(value: float | None, *, digits: int = 4) -> str:
    """A gain, always with its sign (a true minus sign).

    Examples
    --------
    >>> signed(0.0123), signed(-0.5, digits=1) == MINUS + "0.5"
    ('+0.0123', True)
    """
    return f"{value:+.{digits}f}".replace("-", MINUS) if value is not None and math.isfinite(value) else MISSING


def percent(share: float | None, *, digits: int = 1) -> str:
    """A share as a percentage.

    Examples
    --------
    >>> percent(0.237)
    '23.7 %'
    """
    return f"{100 * share:.{digits}f} %" if share is not None and math.isfinite(share) else MISSING


def count(value: float) -> str:
    """A whole number with separators.

    Examples
    --------
    >>> count(336776)
    '336,776'
    """
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    """A span of time in the units a reader would say.

    Examples
    --------
    >>> seconds(0.0042), seconds(7.25), seconds(95), seconds(7380)
    ('4.2 ms', '7.2 s', '1 min 35 s', '2 h 3 min')
    """
    if value < 1:
        return f"{1000 * value:.3g} ms"
    if value < _MINUTE_S:
        return f"{value:.1f} s"
    if value < _HOUR_S:
        return f"{value // _MINUTE_S:.0f} min {value % _MINUTE_S:.0f} s"
    return f"{value // _HOUR_S:.0f} h {value % _HOUR_S // _MINUTE_S:.0f} min"


def moment(when: Micros) -> datetime:
    """The instant as a UTC datetime."""
    return datetime.fromtimestamp(when / 1_000_000, UTC)


def day(when: Micros, *, year: bool = False) -> str:
    """A date as people write it.

    Examples
    --------
    >>> day(1_362_355_200_000_000), day(1_362_355_200_000_000, year=True)
    ('4 Mar', '4 Mar 2013')
    """
    at = moment(when)
    return f"{at.day} {at:%b %Y}" if year else f"{at.day} {at:%b}"


def period(start: Micros, end: Micros | None, *, year: bool = False) -> str:
    """From one date to another, or to the end.

    Examples
    --------
    >>> period(1_362_355_200_000_000, None).replace(MISSING, "to")
    '4 Mar to end'
    """
    last = day(end, year=year) if end is not None else "end"
    return f"{day(start, year=year)} {MISSING} {last}"


def minute(when: Micros) -> str:
    """Date and time to the minute, UTC, sortable.

    Examples
    --------
    >>> minute(1_362_355_200_000_000)
    '2013-03-04 00:00'
    """
    return f"{moment(when):%Y-%m-%d %H:%M}"


def plain(value: object) -> str:
    """Any JSON value inside a sentence or a table cell.

    Examples
    --------
    >>> plain(0.123456), plain(True), plain(12000)
    ('0.1235', 'yes', '12,000')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
