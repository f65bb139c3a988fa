"""Which stretch of a history a replay answers when nobody says it."""

import numpy as np
import pytest

from trimtab.app.data import Known
from trimtab.app.replaying import ReplayRequest, _period, first_answered
from trimtab.core.clock import DAY, HOUR, WEEK, instant, iso
from trimtab.datasets.splits import LabelEvents
from trimtab.errors import InputError
from trimtab.features.batch import RequestBatch

FIRST = instant("2026-01-01T09:30Z")


def known(*, days):
    at = FIRST + np.arange(0, int(days * DAY) + 1, HOUR, dtype=np.int64)
    labels = LabelEvents(np.array(["r"]), np.array([1.0]), at[-1:])
    return Known({}, RequestBatch([str(n) for n in range(len(at))], at, {}, {}), labels, {})


def period(history, tmp_path, **asked):
    return _period(ReplayRequest(tmp_path, **asked), history)


def test_a_year_starts_on_the_first_monday_after_sixty_days(tmp_path):
    start, until = period(known(days=365), tmp_path)
    assert iso(start) == "2026-03-09T00:00:00Z"
    assert FIRST + 60 * DAY <= start < FIRST + 60 * DAY + WEEK
    assert until == FIRST + 365 * DAY + 2 * DAY


@pytest.mark.parametrize("days", [2, 8, 30, 84, 179])
def test_a_short_history_starts_at_the_midnight_after_its_first_third(days, tmp_path):
    start, until = period(known(days=days), tmp_path)
    assert start % DAY == 0
    assert FIRST + days * DAY // 3 <= start < FIRST + days * DAY // 3 + DAY
    assert start < FIRST + days * DAY < until


def test_a_history_of_hours_is_refused_with_what_to_pass(tmp_path):
    history = known(days=0.25)
    with pytest.raises(InputError) as refused:
        period(history, tmp_path)
    assert refused.value.hint == "pass an earlier start, as in --start 2026-01-01T11:30:00Z"
    start, until = period(history, tmp_path, start="2026-01-01T11:30:00Z")
    assert history.requests.at[0] < start < history.requests.at[-1] < until


def test_a_start_after_the_history_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(InputError, match="no request was asked from the start") as refused:
        period(known(days=30), tmp_path, start="2027-01-01")
    assert "requests from 2026-01-01T09:30:00Z to 2026-01-31T09:30:00Z" in refused.value.got


def test_a_longer_history_never_starts_earlier():
    starts = [first_answered(FIRST, FIRST + days * DAY) for days in range(2, 400)]
    assert starts == sorted(starts)
