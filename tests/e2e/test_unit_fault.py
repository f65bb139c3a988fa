"""A sender changes a unit: the drift of the feature made of it is named within days, and nothing is called contained."""

from __future__ import annotations

import pytest
from tests.projects.staged import prepare_flights, stage_flights

from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.core.clock import DAY, instant
from trimtab.loop import events as e

CHANGED, UNTIL = "2013-03-11", "2013-03-15"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    return stage_flights(folder / "flights", prepare_flights(folder / "data"), until=UNTIL)


def replay(root, *faults):
    request = ReplayRequest(root, start="2013-03-04", until=UNTIL, faults=faults, out=root / f"out{len(faults)}")
    return run_replay(request)


def alarmed(replayed):
    return {
        event.data["feature"]
        for event in replayed.watch.events
        if event.type == e.DRIFT_CHANGED and event.data["severity"] == "critical"
    }


def test_kilometres_for_miles(root):
    changed = replay(root, f"unit:departures.distance*1.609@{CHANGED}")
    (fault,) = changed.result["faults"]
    assert fault["what"] == f"departures.distance is multiplied by 1.609 from {CHANGED}T00:00:00Z on"
    assert "feature calendar.distance is critical" in fault["detection"]
    assert instant(CHANGED) < fault["detected"] <= instant(CHANGED) + 3 * DAY
    assert fault["contained"] is None  # no version was trained on the new unit yet
    because_of_it = alarmed(changed) - alarmed(replay(root))
    assert because_of_it == {"calendar.distance", "calendar.miles_per_hour"}
