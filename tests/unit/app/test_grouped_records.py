"""A record with a unit is of an A/B test only where it did not fall together with others: a canary writes units too."""

from types import SimpleNamespace

import pytest

from trimtab.app.abtests import _answered
from trimtab.app.live_observer import LiveObserver
from trimtab.serving.record import PREDICTIONS, PredictionRecord, encode_record
from trimtab.testing.memory import MemoryRecords


def record(name, arm, *, unit="", together=False):
    fields = (name, "p" + name, 0, "m", "v", arm, "r1", {}, b"", b"", {}, (0.5,), (0,) * 6, "ok", {}, unit, together)
    return PredictionRecord(*fields)


@pytest.mark.parametrize(
    ("more", "waited_for"), [({}, True), ({"unit": "ann", "together": True}, True), ({"unit": "ann"}, False)]
)
def test_a_user_s_answer_in_a_canary_is_waited_for_by_its_shadow_score(more, waited_for):
    observer = SimpleNamespace(_slow=False, _unpaired=set())
    LiveObserver._pair(observer, record("a", "canary", **more))
    assert (observer._unpaired == {("r1", "a")}) is waited_for
    LiveObserver._pair(observer, record("a", "shadow"))
    assert not observer._unpaired


def test_what_a_canary_answered_is_no_part_of_a_test():
    records = MemoryRecords()
    rows = [record("a", "champion", unit="ann"), record("b", "champion", unit="bob", together=True), record("c", "b")]
    records.write(PREDICTIONS, [encode_record(row) for row in rows])
    assert [row.request_id for row in _answered(records, "m", "r1")["champion"]] == ["a"]
