"""Units of a canary step: whatever order they come in, each is counted once, and alike after a restart."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.monitoring.test_observer import START, batch

from trimtab.core.clock import DAY
from trimtab.monitoring.blocks import ArmCount
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.monitoring.units import ASKED, ERRED, SLOW, StepUnits, unit_number

SLOW_CONFIG = ObserverConfig("late", "binary", "log_loss", matures=2 * DAY, slow_after=100)
CHAMPION = ("r1", "champion", "A")
VERSIONS = {"champion": "A", "canary": "B"}


def ask(observer, name, *, arm="champion", unit="", failed="", slow=False, at=START, rollout="r1"):
    """One request: answered, not a number, or failed as a batch or as a record of one does."""
    version, timings = VERSIONS[arm], (200 if slow else 3,)
    more = {"together": [True], "units": [unit]} if unit else {}
    if failed == "told":
        observer.failed(rollout, arm, version, together=bool(unit), units=[unit or name])
        return
    said = np.nan if failed else 0.5
    made = batch([name], [at], [said], version=version, arm=arm, rollout=rollout, timings=timings, **more)
    observer.answered(msgspec.structs.replace(made, error="x" if failed == "batch" else ""))


def distinct(observer, step=0, rollout="r1"):
    """Units asked, failed and slow, by arm."""
    found = {}
    for arm in observer.step_arms(rollout, step):
        asked, errors, slow = arm.repeats
        found[arm.arm] = (arm.answered + arm.errors - asked, arm.errors - errors, arm.slow - slow)
    return found


def begun(config=SLOW_CONFIG):
    observer = Observer(config)
    observer.step_arms("r1", 0)
    return observer


FAILED = ["told", "batch", "nan"]


def test_lone_requests_that_all_differ_leave_nothing_to_say():
    observer = begun()
    for number in range(20):
        ask(observer, f"a{number}", failed=FAILED[number % 3] if number < 6 else "", slow=number > 15)
    assert observer.step_arms("r1", 0) == (ArmCount("r1", "champion", "A", 14, 6, 4, 0),)


@pytest.mark.parametrize("failed", FAILED)
def test_a_request_that_is_sent_again_and_fails_again_is_one_unit(failed):
    observer = begun()
    for _ in range(9):
        ask(observer, "a", failed=failed)
    assert observer.step_arms("r1", 0)[0].errors == 9
    assert distinct(observer) == {"champion": (1, 1, 0)}


@pytest.mark.parametrize("failed", FAILED)
@pytest.mark.parametrize("first", ["failed", "answered"])
@pytest.mark.parametrize("counted_between", [True, False])
def test_a_request_that_failed_and_was_answered_is_one_unit(failed, first, counted_between):
    observer = begun()
    for kind in ("failed", "answered") if first == "failed" else ("answered", "failed"):
        ask(observer, "a", failed=failed if kind == "failed" else "")
        if counted_between:
            observer.arms("r1")
    assert distinct(observer) == {"champion": (1, 1, 0)}


def test_a_user_is_one_unit_and_the_first_row_of_a_body_is_of_its_body():
    observer = begun()
    for number in range(5):
        ask(observer, f"a{number}", unit="ann", slow=number == 3, failed="nan" if number > 3 else "")
    assert distinct(observer) == {"champion": (1, 1, 1)}
    ask(observer, "b/0", slow=True)
    for number in range(1, 5):
        ask(observer, f"b/{number}", unit="b/0", slow=True)
    assert distinct(observer) == {"champion": (2, 1, 2)}
    ask(observer, "c/1", unit="c/0", slow=True)
    ask(observer, "c/0", slow=True)
    assert distinct(observer) == {"champion": (3, 1, 3)}


def test_an_id_that_is_asked_every_day_is_one_unit():
    observer = begun()
    for day in range(3):
        for number in range(10):
            ask(observer, f"shop {number}", at=START + day * DAY, slow=number == 0)
    assert observer.step_arms("r1", 0)[0].answered == 30
    assert distinct(observer) == {"champion": (10, 0, 1)}


def test_a_request_that_failed_is_known_by_it_when_its_day_has_closed():
    observer = begun()
    ask(observer, "a")
    ask(observer, "b")
    observer.arms("r1")
    ask(observer, "a", failed="told")
    assert distinct(observer) == {"champion": (2, 1, 0)}
    assert observer.advance(START + 9 * DAY)
    ask(observer, "a", failed="told")
    ask(observer, "a", at=START + 9 * DAY)
    assert distinct(observer) == {"champion": (2, 1, 0)}


def test_each_step_begins_without_units():
    observer = begun()
    ask(observer, "x", unit="ann", failed="nan")
    ask(observer, "y", failed="nan")
    ask(observer, "z")
    assert distinct(observer) == {"champion": (3, 2, 0)}
    assert distinct(observer, step=1) == {"champion": (0, 0, 0)}
    for one in (observer, Observer.restore(SLOW_CONFIG, observer.snapshot())):
        ask(one, "x2", unit="ann", failed="nan")
        ask(one, "y", failed="nan")
        ask(one, "z", failed="nan")
        ask(one, "new")
        assert distinct(one, step=1) == {"champion": (4, 3, 0)}


@pytest.mark.parametrize("known", ["since the snapshot", "before it", "in another step"])
def test_a_step_that_began_at_the_snapshot_counts_what_came_since(known):
    """The control process dies, and the next one finds out which step is under way after it has read the records."""
    observer = Observer(SLOW_CONFIG)
    if known != "since the snapshot":
        observer.step_arms("r1", 0 if known == "before it" else 7)
    ask(observer, "old", failed="nan")
    ask(observer, "old too")
    ask(observer, "slow old", failed="nan", slow=True)
    ask(observer, "old row", unit="ann", slow=True)
    observer = Observer.restore(SLOW_CONFIG, observer.snapshot())
    for name in ("old", "old", "new", "new", "old too", "slow old"):
        ask(observer, name, failed="nan")
    ask(observer, "new row", unit="ann")
    slow = 1 if known == "before it" else 0
    assert distinct(observer) == {"champion": (5, 4, slow)}
    ask(observer, "new", failed="nan")
    ask(observer, "newest row", unit="ann", slow=True)
    assert distinct(observer) == {"champion": (5, 4, 1)}


def test_where_no_step_is_under_way_no_unit_is_kept():
    observer = begun()
    ask(observer, "a", failed="nan")
    observer.arms("r1")
    assert msgspec.msgpack.decode(observer.snapshot())["units"] is not None
    observer.no_step()
    ask(observer, "a", failed="nan")
    assert msgspec.msgpack.decode(observer.snapshot())["units"] is None
    assert distinct(observer, step=1) == {"champion": (0, 0, 0)}


def test_what_the_shadow_does_is_no_unit():
    observer = begun()
    observer.answered(batch(["a"], [START], [np.nan], version="B", arm="shadow", rollout="r1"))
    ask(observer, "a", arm="canary", failed="nan")
    assert distinct(observer) == {"canary": (1, 1, 0)}


def test_rows_of_which_it_is_not_said_what_they_fell_by_stand_for_themselves():
    """Records of before that was written down."""
    observer = begun()
    observer.answered(batch(["a", "b"], [START] * 2, [0.5, np.nan], rollout="r1", together=[True, True]))
    observer.failed("r1", "champion", "A", count=2, together=2)
    assert observer.step_arms("r1", 0) == (ArmCount("r1", "champion", "A", 1, 3, 0, 4),)


def test_a_snapshot_of_before_units_goes_on():
    observer = begun()
    ask(observer, "a", failed="nan")
    ask(observer, "b", unit="ann")
    state = msgspec.msgpack.decode(observer.snapshot())
    for name in ("units", "drawn", "stamps"):
        del state[name]
    old = Observer.restore(SLOW_CONFIG, msgspec.msgpack.encode(state))
    for name in "cde":
        ask(old, name, unit="bob")
    assert old.step_arms("r1", 0)[0] == ArmCount("r1", "champion", "A", 4, 1, 0, 4, (2, 0, 0))


REQUESTS = st.fixed_dictionaries(
    {
        "name": st.integers(0, 30),
        "failed": st.sampled_from(["", "", "", *FAILED]),
        "then": st.sampled_from(["", "", "", "count", "restore"]),
    }
)


def form(name):
    """What a request is, by its name: alone or of a unit, slow or not, to one arm; some lone ones are units of others."""
    unit = f"u{name % 4}" if name % 3 == 0 else f"r{name - 1}" if name % 5 == 2 else ""
    key = unit or f"r{name}"
    return {"unit": unit, "slow": name % 7 == 0, "arm": "canary" if unit_number(key) % 3 == 0 else "champion"}


@settings(max_examples=150, deadline=None)
@given(st.lists(REQUESTS, max_size=60), st.randoms(use_true_random=False))
def test_units_are_sets_whatever_the_order_and_the_restarts(requests, shuffler):
    """Against sets of names, in two orders; one of them with restarts, whose snapshots say the same."""
    expected = {}
    for request in requests:
        made = form(request["name"])
        unit = made["unit"] or f"r{request['name']}"
        asked, erred, slow = expected.setdefault(made["arm"], (set(), set(), set()))
        asked.add(unit)
        if request["failed"]:
            erred.add(unit)
        elif made["slow"]:
            slow.add(unit)
    one, two = begun(), begun()
    shuffled = list(requests)
    shuffler.shuffle(shuffled)
    for observer, order in ((one, requests), (two, shuffled)):
        for request in order:
            ask(observer, f"r{request['name']}", failed=request["failed"], **form(request["name"]))
    kept = begun()
    resumed = Observer.restore(SLOW_CONFIG, kept.snapshot())
    for request in requests:
        for observer in (kept, resumed):
            ask(observer, f"r{request['name']}", failed=request["failed"], **form(request["name"]))
            if request["then"] == "count":
                observer.arms("r1")
        assert kept.snapshot() == resumed.snapshot()
        if request["then"] == "restore":
            resumed = Observer.restore(SLOW_CONFIG, resumed.snapshot())
    found = {arm: (len(asked), len(erred), len(slow)) for arm, (asked, erred, slow) in expected.items()}
    assert all(distinct(observer) == found for observer in (one, two, kept, resumed))
    assert kept.snapshot() == resumed.snapshot()


def counted(units, answered, errors, slow=0, arm=CHAMPION):
    repeats = units.repeats(ArmCount(*arm, answered, errors, slow))
    return tuple(count - repeated for count, repeated in zip((answered + errors, errors, slow), repeats, strict=True))


def test_beyond_the_limit_a_part_is_kept_and_its_rates_stay():
    units = StepUnits(1, limit=256)
    for number in range(5000):
        what = ASKED | (SLOW if number % 5 == 0 else 0)
        units.meet(CHAMPION, [f"u{number}"] * 3, ERRED | ASKED if number % 10 == 1 else what, days=[])
    asked, errors, slow = counted(units, 13_500, 1500, 3000)
    assert 128 <= asked <= 256
    assert errors / asked == pytest.approx(0.1, abs=0.06)
    assert slow / asked == pytest.approx(0.2, abs=0.08)
    again = StepUnits.unpack(units.pack(), since=1)
    assert counted(again, 13_500, 1500, 3000) == (asked, errors, slow)
    for number in range(5000):
        units.meet(CHAMPION, [f"u{number}"], ASKED, days=[])
    assert counted(units, 18_500, 1500, 3000) == (asked, errors, slow)


def test_beyond_the_limit_lone_answers_are_counted_in_the_same_part():
    """100 000 lone requests, of which 2 % failed: the rate is what it was, of fewer."""
    units, ids = StepUnits(1, limit=256), [f"r{number}" for number in range(98_000)]
    day = dict.fromkeys(ids, 2)
    units.lone(CHAMPION, ids[:50_000], slow=False, earlier=[])
    units.meet(CHAMPION, [f"e{number}" for number in range(2000)], ASKED | ERRED, days=[day])
    units.lone(CHAMPION, ids[50_000:], slow=False, earlier=[])
    asked, errors, _ = counted(units, 98_000, 2000)
    assert 128 <= errors <= 256
    assert errors / asked == pytest.approx(0.02, rel=0.2)


def test_never_more_units_failed_than_asked():
    for tenths in range(1, 40):
        count, units = 10 * tenths, StepUnits(1, limit=16)
        ids = [f"r{tenths} {number}" for number in range(count)]
        units.lone(CHAMPION, ids, slow=False, earlier=[])
        units.meet(CHAMPION, ids, ASKED | ERRED, days=[dict.fromkeys(ids, 2)])
        asked, errors, _ = counted(units, count, count)
        assert 0 < errors <= asked


def test_what_is_kept_does_not_depend_on_the_order():
    def made(order):
        units = StepUnits(1, limit=64)
        for number in order:
            units.meet(CHAMPION, [f"u{number}"], ASKED | ERRED, days=[])
        return counted(units, 0, 1000)

    assert made(range(1000)) == made(range(999, -1, -1))
