"""When is a staged unit change detected, and when is it contained?"""

import pytest

from trimtab.app.staged import staged_faults
from trimtab.core.clock import DAY, instant
from trimtab.core.ledger import Draft
from trimtab.loop import events as e
from trimtab.testing.memory import MemoryLedger

SINCE = instant("2024-05-20")
FAULT = "unit:orders.quantity*12@2024-05-20"


def trained(version, until):
    return (e.TRAINING_FINISHED, until, {"version": version, "trained_until": until})


def promoted(version, day, *, replaces="old"):
    data = {"version": version, "replaces": replaces, "reason": "it is better", "evidence": {}, "rollout": "r"}
    return (e.PROMOTED, SINCE + day * DAY, data)


def drifted(feature, day, severity="critical"):
    data = {"feature": feature, "severity": severity, "previous": "ok", "psi": 0.3, "alarm_psi": 0.1, "ks": 0.2}
    return (e.DRIFT_CHANGED, SINCE + day * DAY, data | {"rows": 900, "end": SINCE + day * DAY})


def back(version, day):
    data = {"version": version, "to": "old", "of": "champion", "reason": "worse", "evidence": {}, "rollout": "r"}
    return (e.ROLLED_BACK, SINCE + day * DAY, data)


def told(*story):
    ledger = MemoryLedger()
    drafts = [Draft(f"e{n}", kind, data, at, at) for n, (kind, at, data) in enumerate(story)]
    (fault,) = staged_faults([FAULT], [], ledger.append("model:m", drafts, expected=0, epoch=1))
    return fault


OLD, LATE = trained("old", SINCE - 12 * DAY), trained("new", SINCE + 2 * DAY)


def test_a_version_that_learned_from_the_changed_unit_contains_it():
    fault = told(OLD, drifted("basket.quantity", 2), LATE, promoted("new", 20))
    assert (fault["detected"], fault["contained"]) == (SINCE + 2 * DAY, SINCE + 20 * DAY)
    assert fault["containment"].endswith("its training saw 2.0 days of the changed unit")


@pytest.mark.parametrize(
    "story",
    [
        [OLD, trained("new", SINCE - DAY), promoted("new", 3)],
        [OLD, trained("new", SINCE), promoted("new", 3)],
        [trained("first", SINCE + 9 * DAY), promoted("first", 10, replaces="")],
        [trained("old", SINCE + DAY), LATE, promoted("new", 20)],
        [OLD, LATE, promoted("new", 20), back("new", 22)],
    ],
    ids=["before the change", "up to the change", "the first knew it", "the champion knew it", "rolled back"],
)
def test_any_other_promotion_does_not(story):
    assert told(*story)["contained"] is None


@pytest.mark.parametrize(
    "event",
    [drifted("basket.other", 2), drifted("basket.quantity", 2, "warning"), drifted("basket.quantity", 0)],
    ids=["another feature", "a warning", "a window before the change"],
)
def test_other_drift_does_not_detect_it(event):
    assert told(OLD, event)["detected"] is None
