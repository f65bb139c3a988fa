"""How old events are brought up to date on reading, also over several versions, which no stored home shows yet.

A home that an older version wrote indeed is opened in ``test_stored_home.py``.
"""

import json
import sqlite3

import pytest

from trimtab.app.home import Home
from trimtab.core.clock import DAY, instant
from trimtab.core.ledger import Draft, model_stream
from trimtab.errors import Unavailable
from trimtab.governance import audit
from trimtab.loop import events as e
from trimtab.loop.fold import fold_all
from trimtab.loop.sentences import describe

STREAM = model_stream("m")
V1, V2 = "11" * 32, "22" * 32
START = instant("2024-03-01")


def old_promoted(data):
    """In version 1 the one who is replaced was called ``previous``, and no evidence was kept."""
    return {name: value for name, value in data.items() if name != "previous"} | {
        "replaces": data["previous"],
        "evidence": {},
    }


def older_promoted(data):
    """In version 0 nobody said why."""
    return data | {"reason": "not recorded"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A ledger as version 0 and version 1 of the ``Promoted`` event left it."""
    made = Home(tmp_path / ".trimtab").made()
    registered = {"job": "j", "metrics": {}, "dataset": "d", "rows": 9, "trained_until": START, "reference_weeks": []}
    drafts = [
        Draft("e1", e.MODEL_DECLARED, {"model": "m", "policy": "p" * 64, "previous": ""}, START, START),
        Draft("e2", e.PROMOTED, {"version": V1, "previous": "", "rollout": ""}, START, START, version=-1),
        Draft(
            "e3",
            e.PROMOTED,
            {"version": V2, "previous": V1, "rollout": "r", "reason": "it is better"},
            START + DAY,
            START + DAY,
            version=0,
        ),
        Draft("e4", "InventedLater", registered, START + DAY, START + DAY),
    ]
    ledger = made.ledger()
    ledger.append(STREAM, drafts, expected=0, epoch=1)
    ledger.close()
    monkeypatch.setitem(e.UPCASTERS, (e.PROMOTED, -1), older_promoted)
    monkeypatch.setitem(e.UPCASTERS, (e.PROMOTED, 0), old_promoted)
    return made


@pytest.mark.parametrize("type", sorted(e.SHAPES))
def test_every_version_that_ever_was_has_a_step_to_the_next(type):
    version = e.SHAPES[type].version
    steps = [older for name, older in e.UPCASTERS if name == type]
    assert sorted(steps) == list(range(1, version)), f"{type} is at version {version}: register a step from each before"


def test_no_step_is_of_a_type_that_does_not_exist():
    assert {name for name, _ in e.UPCASTERS} <= set(e.SHAPES)


def test_old_events_read_as_new_ones(home):
    ledger = home.ledger()
    events = list(ledger.read(stream=STREAM))
    assert [event.draft.version for event in events] == [1, 1, 1, 1]
    assert events[1].data == {
        "version": V1, "replaces": "", "rollout": "", "reason": "not recorded", "evidence": {},
    }  # fmt: skip
    state = fold_all(STREAM, events)
    assert (state.number, state.champion) == (4, V2)
    assert [reign.version for reign in state.reigns] == [V1, V2]
    assert audit.at(events, START)[0].version == V1
    assert "not recorded" in describe(events[1])
    assert describe(events[3]) == "InventedLater (unknown to this version)"


def test_what_is_stored_stays_as_it_was(home):
    """The hash chain is over the stored form; new events of the new form go behind the old ones."""
    ledger = home.ledger()
    before = ledger.head()
    assert ledger.verify() == 4
    data = {"rollout": "", "version": V1, "replaces": V2, "reason": "back", "evidence": {}}
    ledger.append(STREAM, [Draft("e5", e.PROMOTED, data, START, START)], expected=4, epoch=1)
    assert ledger.verify() == 5
    assert ledger.head()[0] == before[0] + 1
    assert fold_all(STREAM, ledger.read(stream=STREAM)).champion == V1
    with sqlite3.connect(home.root / "ledger.db") as stored:
        versions = [version for (version,) in stored.execute("SELECT version FROM events ORDER BY seq")]
        [data] = stored.execute("SELECT data FROM events WHERE id = 'e3'").fetchone()
    stored.close()
    assert versions == [1, -1, 0, 1, 1]
    assert "previous" in json.loads(data)


def test_a_home_of_a_newer_version_is_refused(home):
    with sqlite3.connect(home.root / "ledger.db") as stored:
        stored.execute("PRAGMA user_version = 999")
    stored.close()
    with pytest.raises(Unavailable, match="newer"):
        home.ledger()
