"""What the timetable alone says about a flight. This text travels in the bundle: standard library and numpy only.

There is no day of the year: with less than a year of history it would only tell the model how long ago a row was.
"""

from datetime import UTC, datetime, timedelta

import numpy as np

FEATURES = (
    "minute_of_day",
    "minute_of_hour",
    "day_of_week",
    "arrival_minute_of_day",
    "block_minutes",
    "distance",
    "miles_per_hour",
    "carrier",
    "origin",
    "dest",
)

PLACES = np.array([65_536, 256, 1], dtype=np.int64)
MINUTE = 60_000_000
DAY = 1440 * MINUTE


def _summer_time(year):
    """When New York's clocks go forward and back: second Sunday of March, first of November, at 2:00."""
    march, november = datetime(year, 3, 8, 7, tzinfo=UTC), datetime(year, 11, 1, 6, tzinfo=UTC)
    for first in (march, november):
        yield (first + timedelta(days=6 - first.weekday())).timestamp() * 1e6


# Odd places in this list begin summer time.
SWITCHES = np.array([switch for year in range(2007, 2100) for switch in _summer_time(year)], dtype=np.int64)


def new_york(utc):
    """Microseconds of local time; timetables follow the clock on the wall."""
    micros = utc.astype(np.int64)
    summer = np.searchsorted(SWITCHES, micros, side="right") % 2
    return micros + (summer - 5) * 60 * MINUTE


def ordinal(codes, start=0):
    """Three characters from ``start`` as one number, in alphabetical order, so that no list of airports is needed.

    A missing third letter counts as nothing. The number stays below 2**24, which float32 holds exactly.
    """
    width = start + 3
    letters = codes.astype(f"U{width}").view(np.uint32).reshape(-1, width)[:, start:]
    return letters @ PLACES


def compute(columns):
    """The features of n requests, from their inputs and keys."""
    departs, arrives = new_york(columns["sched_dep"]), new_york(columns["sched_arr"])
    block = (columns["sched_arr"] - columns["sched_dep"]).astype(np.int64) / MINUTE
    return {
        "minute_of_day": departs // MINUTE % 1440,
        "minute_of_hour": departs // MINUTE % 60,
        "day_of_week": (departs // DAY + 3) % 7,
        "arrival_minute_of_day": arrives // MINUTE % 1440,
        "block_minutes": block,
        "distance": columns["distance"],
        "miles_per_hour": 60 * columns["distance"] / np.maximum(block, 1),
        "carrier": ordinal(columns["carrier"]),
        "origin": ordinal(columns["origin"]),
        "dest": ordinal(columns["route"], start=4),
    }
