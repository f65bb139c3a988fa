"""Durations, instants and the virtual clock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.core.clock import DAY, HOUR, MINUTE, SECOND, WEEK, VirtualClock, duration, duration_text, instant, iso
from trimtab.errors import InputError

UNITS = {"ms": 1000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)))
def test_a_whole_duration_is_its_number_of_units(count, unit):
    assert duration(f"{count}{unit}") == count * UNITS[unit]


@given(st.integers(1, 10**9))
def test_a_duration_survives_being_written(milliseconds):
    assert duration(duration_text(milliseconds * 1000)) == milliseconds * 1000


def test_fractions_and_spaces():
    assert duration(" 1.5h ") == 90 * MINUTE
    assert duration(7) == 7


@pytest.mark.parametrize("text", ["", "3", "h", "-1h", "3 h", "3H", "1h30m", "1e3s", ".5s", "nan", "3y"])
def test_what_is_not_a_duration_is_refused_with_a_hint(text):
    with pytest.raises(InputError) as caught:
        duration(text)
    assert caught.value.hint
    assert repr(text) in caught.value.got


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 - naive is UTC
def test_an_instant_survives_being_written(moment):
    when = instant(moment)
    if moment.year >= 1970:  # iso is for times since the epoch
        assert instant(iso(when)) == when
    assert instant(moment.replace(tzinfo=UTC)) == when


@given(st.integers(-14 * 60, 14 * 60))
def test_an_offset_is_taken_into_account(minutes):
    local = datetime(2013, 3, 4, 6, tzinfo=timezone(timedelta(minutes=minutes)))
    assert instant(local.isoformat()) == instant("2013-03-04T06:00Z") - minutes * MINUTE


def test_microseconds_are_exact():
    assert instant("2013-03-04T06:00:00.000001Z") - instant("2013-03-04T06:00Z") == 1
    assert iso(1) == "1970-01-01T00:00:00.000001Z"


@pytest.mark.parametrize("text", ["", "yesterday", "2013-13-01", "2013-02-30", "12:00"])
def test_what_is_not_a_time_is_refused(text):
    with pytest.raises(InputError):
        instant(text)


@given(st.lists(st.integers(0, 10**9)))
def test_a_virtual_clock_stands_at_the_latest_time(times):
    clock = VirtualClock(5)
    for when in times:
        clock.advance_to(when)
    assert clock.now() == max([5, *times])
