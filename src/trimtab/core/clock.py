"""Time as an injected dependency, and time as a number.

All times in Trimtab are integers: microseconds since 1970-01-01T00:00Z. All durations are integers in
microseconds. Text is parsed once, at the boundary, by :func:`instant` and :func:`duration`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Protocol

from trimtab.errors import InputError

Micros = int
"""Microseconds: since the epoch for an instant, plain for a duration."""

SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE
DAY: Micros = 24 * HOUR
WEEK: Micros = 7 * DAY

_UNITS = {"ms": 1_000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


class Clock(Protocol):
    """The only source of the current time.

    Contract: ``now`` never goes backwards within one clock object, may be called from any thread, and
    does not block.
    """

    def now(self) -> Micros:
        """The current time in microseconds since the epoch, UTC."""
        ...


class VirtualClock:
    """A clock that stands still until it is told to move; replay and tests run on it.

    Examples
    --------
    >>> clock = VirtualClock(instant("2013-03-04"))
    >>> clock.advance_to(instant("2013-03-04T06:00Z"))
    >>> iso(clock.now())
    '2013-03-04T06:00:00Z'
    """

    def __init__(self, start: Micros = 0) -> None:
        self._now = start

    def now(self) -> Micros:
        """The time it was last advanced to."""
        return self._now

    def advance_to(self, when: Micros) -> None:
        """Move to ``when``; a time already passed is ignored, because a clock never goes backwards."""
        self._now = max(self._now, when)


def duration(text: str | Micros) -> Micros:
    """Read a duration such as ``"3h"``, ``"7d"``, ``"90s"`` or ``"50ms"``.

    Raises
    ------
    InputError
        When the text is not a number followed by one of ms, s, m, h, d, w.

    Examples
    --------
    >>> duration("3h") == 3 * HOUR
    True
    """
    if isinstance(text, int):
        return text
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InputError("not a duration", got=repr(text), hint='write a number and a unit, as in "3h", "7d" or "50ms"')
    return round(float(match[1]) * _UNITS[match[2]])


def duration_text(length: Micros) -> str:
    """Write a duration in the largest unit that divides it.

    Examples
    --------
    >>> duration_text(86_400_000_000)
    '1d'
    """
    for unit in ("d", "h", "m", "s", "ms"):
        if length % _UNITS[unit] == 0 and length >= _UNITS[unit]:
            return f"{length // _UNITS[unit]}{unit}"
    return f"{length / _UNITS['ms']:g}ms"


def instant(text: str | datetime | Micros) -> Micros:
    """Read an ISO 8601 date or time; without an offset it is taken as UTC.

    Raises
    ------
    InputError
        When the text is not ISO 8601.

    Examples
    --------
    >>> instant("1970-01-02")
    86400000000
    """
    if isinstance(text, int):
        return text
    try:
        when = text if isinstance(text, datetime) else datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError("not a time", got=repr(text), hint="write ISO 8601, as in 2013-03-04T06:00Z") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    delta = when - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def iso(when: Micros) -> str:
    """Write an instant as ISO 8601 in UTC, with a fraction only where there is one.

    Examples
    --------
    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    seconds, micros = divmod(when, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{micros:06d}Z" if micros else f"{text}Z"
