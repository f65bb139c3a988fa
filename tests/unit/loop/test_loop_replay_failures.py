"""A version that fails to answer: a replay counts it as live does, and goes on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.unit.serving.parts import House, MemoryRecords, Reader, engine_with, small_plan

from trimtab.core.clock import DAY, HOUR, WEEK, VirtualClock
from trimtab.datasets.splits import LabelEvents
from trimtab.features.batch import RequestBatch
from trimtab.loop.reading import Timeline
from trimtab.loop.replay import Replay, ReplayOptions, ReplayParts
from trimtab.loop.state import State
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.monitoring.rebuild import answers_from_records, failures

START = 20 * WEEK
CONFIG = ObserverConfig("m", "regression", "squared_error", matures=DAY)
SHOPS = ["aa", "poison", "aa", "bb"]
BASKETS = [1.0, 2.0, np.nan, 4.0]
"""One request an hour: answered, raises in the version's own code, not a number, answered."""


class Stream:
    sources = ()


@pytest.fixture
def replayed():
    house, records = House(), MemoryRecords()
    house.add("A", 1.0, reader=Reader())
    n = len(SHOPS)
    at = START + HOUR * np.arange(n, dtype=np.int64) + 1
    requests = RequestBatch(
        [f"r{row}" for row in range(n)], at, {"shop": np.array(SHOPS)}, {"basket": np.array(BASKETS)}
    )
    labels = LabelEvents(np.array(requests.ids), np.ones(n), at + HOUR)
    parts = ReplayParts(
        model="m",
        width=2,
        timeline=Timeline({}, requests, labels),
        clock=VirtualClock(START),
        writer=Stream(),
        engine=engine_with(house, ("champion", "A", 1.0)),
        observer=Observer(CONFIG),
        loop=SimpleNamespace(state=State("model:m"), step=lambda observations: []),
        records=records,
        compute=None,
        job=None,
        load=house.load,
        watcher=SimpleNamespace(ticked=lambda now, answered: None, decided=None),
        timer=lambda: 0,
    )
    replay = Replay(parts, ReplayOptions(START, START + n * HOUR))
    replay.served.watermarks["sales"] = np.zeros(n, np.int64)
    replay.run()
    return replay, records


def test_what_could_not_be_answered_stays_empty_for_both_sides(replayed):
    served = replayed[0].served
    np.testing.assert_array_equal(served.champion, [4.0, np.nan, np.nan, 7.0])
    np.testing.assert_array_equal(served.frozen, [4.0, np.nan, np.nan, 7.0])
    assert served.version.tolist()[:2] == [0, -1]
    assert np.isnan(served.features[1]).all()


def test_failed_answers_are_errors_in_a_replay_as_in_a_rebuilt_observer(replayed):
    replay, records = replayed
    (arm,) = replay.observer.arms("")
    assert (arm.answered, arm.errors) == (2, 2)
    live = Observer(CONFIG)
    for answers in answers_from_records(records.rows, small_plan()):
        live.answered(answers)
    for (rollout, name, version), lost in failures(records.rows).items():
        live.failed(rollout, name, version, count=lost.rows, together=lost.together, units=lost.units)
    assert live.arms("") == replay.observer.arms("")
    days = [observer.advance(START + 9 * DAY) for observer in (live, replay.observer)]
    assert [day.blocks[0].answered for (day,) in days] == [2, 2]
