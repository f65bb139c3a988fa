"""The home that version 1 left on disk (see ``home-v1/README.md``), opened by today's code: read, asked, and gone on with."""

import json
import sqlite3
import tarfile
from pathlib import Path

import msgspec
import pytest
from tests.e2e.live_house import LiveHouse, cli, wait_until
from tests.projects.staged import stage_parcels

from trimtab.adapters.project.file import load_project
from trimtab.adapters.wire.client import JsonClient
from trimtab.app.home import HOME, Home
from trimtab.app.keeping import Compactor, Keep
from trimtab.app.live_parity import LiveParity
from trimtab.app.observer_state import read_observer_state
from trimtab.core.clock import DAY, VirtualClock, instant
from trimtab.core.ledger import PLATFORM, model_stream
from trimtab.governance import audit
from trimtab.loop import events as e
from trimtab.loop.fold import fold_all
from trimtab.loop.sentences import describe
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.serving.record import ASIDE, PREDICTIONS, decode_record

STORED = Path(__file__).parent / "home-v1" / "home.tar.xz"
MODEL, STOPPED = "parcel_hours", "2024-05-12T18:00:01Z"
STREAM = model_stream(MODEL)
EVENTS, HEAD = 75, "1ade61c2bd88076b7e63d16e899868aa59a895df253ebf520dc5de1d08132ce0"
FIRST = "faebdab023a6076732f56a811641241e64eba9280a8b46347f921876f50460cc"
CHAMPION = "03ab76ece3c22b765e04a6c62deff9f28a904988d593a7bce6b7bb82bd71dad1"


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """The project with a copy of its old home; nothing is written there but what opening it writes."""
    return open_stored(tmp_path_factory.mktemp("old") / "parcels")


@pytest.fixture(scope="module")
def events(staged):
    return list(Home(staged / HOME).ledger().read())


def open_stored(root):
    stage_parcels(root)
    with tarfile.open(STORED) as archive:
        # The first releases of Python 3.11 know no filters yet; the archive is our own.
        archive.extractall(root, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return root


def stored(root):
    """Of every event its type, version, data and hash, as they lie on disk."""
    ledger = sqlite3.connect(root / HOME / "ledger.db")
    try:
        return ledger.execute("SELECT type, version, data, hash FROM events ORDER BY seq").fetchall()
    finally:
        ledger.close()


def judged(events):
    return [event for event in events if event.type == e.QUALITY_JUDGED]


def test_the_stored_home_is_of_version_1_and_tells_a_whole_story(staged):
    rows = stored(staged)
    assert {version for _, version, _, _ in rows} == {1}
    told = {kind for kind, *_ in rows}
    assert told >= {e.TRAINING_FINISHED, e.FLOORS_JUDGED, e.ROLLOUT_STARTED, e.APPROVED, e.STEP_PASSED, e.PROMOTED}
    assert told >= {e.DRIFT_CHANGED, e.DRIFT_CONFIRMED, e.QUALITY_JUDGED, "EpochTaken", "HistoryRead"}
    assert all("alpha" not in json.loads(data) for kind, _, data, _ in rows if kind == e.QUALITY_JUDGED)


def test_its_records_are_the_same_rows_when_their_spools_have_gone(tmp_path):
    home = Home(open_stored(tmp_path / "parcels") / HOME)
    before = list(home.records("reader").scan(PREDICTIONS))
    spools = set(home.root.glob("records/*/*.spool"))
    assert len(before) > 100
    Compactor(home, clock=VirtualClock(instant(STOPPED)), keep=Keep()).compact(at_least=1)
    gone = {path.parent.name for path in spools - set(home.root.glob("records/*/*.spool"))}
    assert gone == {PREDICTIONS}
    assert list(home.records("reader").scan(PREDICTIONS)) == before
    for place, _ in before[:: len(before) // 10]:
        after = {place.writer: place.offset}
        expected = [pair for pair in before if pair[0].writer != place.writer or pair[0].offset > place.offset]
        assert list(home.records("reader").scan(PREDICTIONS, after=after)) == expected


def test_its_hash_chain_holds_as_stored(staged):
    ledger = Home(staged / HOME).ledger()
    assert ledger.verify() == EVENTS
    assert ledger.head()[:2] == (EVENTS, HEAD)


def test_its_events_read_in_todays_shapes(events):
    """Fails when a field is added, renamed or dropped, and the version or its step forgotten."""
    for event in events:
        if event.stream == PLATFORM:
            continue
        shape = e.SHAPES[event.type]
        assert event.draft.version == shape.version, event.type
        assert set(shape.fields) <= set(event.data) <= {*shape.fields, *e.OPTIONAL}, event.type


def test_it_says_nothing_about_what_version_1_did_not_know(events):
    first, second = judged(events)
    assert (first.draft.version, first.data["alpha"], second.data["alpha"]) == (2, None, None)
    assert describe(first) == (
        "Week of 2024-04-16: loss 10.0522 is above the limit 1.4330 (998 labels, 97.6% coverage)"
    )


def test_what_its_observer_held_is_read(staged):
    """Its arms have three counts and its records no word of rows that fell together: all were drawn for themselves."""
    kept = read_observer_state(staged / HOME, MODEL)
    assert kept is not None
    state = msgspec.msgpack.decode(kept[0])
    assert not {"together", "drawn", "units", "stamps"} & set(state)
    assert {len(counts) for _, counts in state["arms"]} == {3}
    observer = Observer.restore(ObserverConfig(MODEL, "regression", "squared_error", matures=2 * DAY), kept[0])
    for (rollout, arm, version), counts in state["arms"]:
        if arm not in ASIDE:
            [found] = [one for one in observer.arms(rollout) if (one.arm, one.version) == (arm, version)]
            assert found.answered >= counts[0] > 0
            assert (found.together, found.repeats) == (0, (0, 0, 0))
            [counted] = [one for one in observer.step_arms(rollout, 0) if (one.arm, one.version) == (arm, version)]
            assert counted.repeats == (0, 0, 0)
    rows = [decode_record(row) for _, row in Home(staged / HOME).records("reader").scan(PREDICTIONS)]
    assert not any(row.together or row.unit for row in rows)


def test_its_fold_comes_to_its_champion(events):
    state = fold_all(STREAM, events)
    assert state.champion == CHAMPION
    assert [reign.version for reign in state.reigns] == [FIRST, CHAMPION]
    assert (state.rollout, state.trainings) == (None, {})
    [live] = audit.at(events, instant("2024-05-01"))
    assert live.version == FIRST


def test_the_command_line_reads_it(tmp_path):
    root = open_stored(tmp_path / "parcels")
    log = cli("log", "--verify", "--limit", "200", "--at", "2024-05-06", "--json", "-p", root)
    assert log.returncode == 0, log.stderr
    found = json.loads(log.stdout)
    assert found["verified"] == EVENTS
    assert [live["version"] for live in found["live"]] == [CHAMPION]
    weeks = [event["data"] for event in found["events"] if event["type"] == e.QUALITY_JUDGED]
    assert [(week["verdict"], week["alpha"]) for week in weeks] == [("drop", None)] * 2
    status = cli("status", "--json", "-p", root)
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["models"][0]["live"]["version"] == CHAMPION
    for command in ("log", "status"):
        plain = cli(command, "-p", root)
        assert (plain.returncode, plain.stderr) == (0, "")
        assert CHAMPION[:8] in plain.stdout


def test_up_goes_on_with_it(tmp_path):
    """Real processes serve its champion, and judge the week that was open: new events behind the old, one chain."""
    house = LiveHouse(open_stored(tmp_path / "parcels"))
    before = stored(house.project)
    try:
        house.start("--clock", STOPPED)
        with house.console() as console, JsonClient(house.data) as data:
            asked = {"id": "n1", "depot": "north", "weight": 10, "express": False}
            answer = data.post(f"/predict/{MODEL}", asked)
            assert (answer["version"], answer["status"]) == (CHAMPION, "ok")
            assert 5 < answer["prediction"] < 25
            row = {"parcel": "n1", "arrived_at": STOPPED, "depot": "north", "hours": 11.5}
            assert console.post("/v1/events/arrivals", {"rows": [row]})["accepted"] == 1
            console.post("/v1/clock", {"now": "2024-05-14T00:00:01Z"})
        wait_until(lambda: any(record.request_id == "n1" for record in house.records()), what="the record")
        house.stop()
        after = stored(house.project)
    finally:
        house.kill()
    assert after[:EVENTS] == before
    assert [version for kind, version, *_ in after if kind == e.QUALITY_JUDGED] == [1, 1, 2]
    ledger = Home(house.home).ledger()
    assert ledger.verify() == len(after) > EVENTS
    week = judged(ledger.read())[-1]
    assert (week.data["version"], week.data["alpha"], week.data["verdict"]) == (CHAMPION, 0.02, "ok")
    assert "(chance of a false alarm 2%, 8" in describe(week)
    assert fold_all(STREAM, ledger.read()).champion == CHAMPION
    parity = LiveParity(load_project(house.project), Home(house.home))
    parity.check()  # what the old processes served, and the new: features computed again by today's code
    assert parity.status() == {"sampled": 20, "mismatch": 0, "missing": 0, "extra": 0}
    log = cli("log", "--verify", "-p", house.project)
    assert (log.returncode, "no hash broken" in log.stdout) == (0, True), log.stderr
