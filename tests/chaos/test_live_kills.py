"""``trimtab up`` under the knife: kill -9 of any process at any moment loses nothing that was acknowledged."""

import os
import random
import shutil
import signal
import threading
import time

import pytest
from tests.e2e.live_house import MODEL, LiveHouse, make_project, wait_until

from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.client import JsonClient
from trimtab.app.home import Home
from trimtab.core.clock import instant, iso
from trimtab.core.ledger import verify
from trimtab.datasets.ingest import EVENTS
from trimtab.errors import TrimtabError, Unavailable

pytest_plugins = ["tests.e2e.live_fixtures"]


def now():
    return time.time_ns() // 1000


def die(process):
    process.kill()
    process.wait(10)


class Caller(threading.Thread):
    """Asks for one prediction after the other; remembers what was answered and how often it was not."""

    def __init__(self, house, name):
        super().__init__(daemon=True)
        self.house, self.name = house, name
        self.answered, self.failed, self.done = [], [], threading.Event()

    def run(self):
        number = 0
        while not self.done.is_set():
            try:
                with JsonClient(self.house.data, timeout_s=5) as client:
                    while not self.done.is_set():
                        number += 1
                        answer = self.house.predict(client, f"{self.name}-{number}")
                        self.answered.append((answer["id"], answer["version"], answer["arm"]))
            except (TrimtabError, StopIteration) as error:
                self.failed.append(str(error))
                time.sleep(0.02)

    def stop(self):
        self.done.set()
        self.join(10)


def test_workers_serve_on_without_control_and_a_new_one_adopts_them(live):
    live.start("--workers", "2")
    workers = live.loaded(2)
    callers = [Caller(live, f"c{number}") for number in range(2)]
    for caller in callers:
        caller.start()
    for _ in range(2):
        die(live.controls[-1])
        before = sum(len(caller.answered) for caller in callers)
        wait_until(
            lambda before=before: sum(len(caller.answered) for caller in callers) > before,
            what="answers without control",
        )
        live.start("--workers", "2")
        assert sorted(live.pids()) == sorted(workers)
    for caller in callers:
        caller.stop()
        assert caller.failed == []
    with live.console() as console:
        assert {worker["state"] for worker in console.get("/v1/status")["workers"]} == {"running"}
        # Adopted workers obey the new one: its route, and its death.
        live.post_sale(console, "after", at=now())
    live.stop()
    assert live.pids() == []
    assert {event.data["epoch"] for event in live.events() if event.type == "EpochTaken"} == {1, 2, 3, 4}


def test_every_answered_prediction_is_recorded_once_when_workers_are_killed(live):
    live.start("--workers", "2")
    live.loaded(2)
    callers = [Caller(live, f"c{number}") for number in range(3)]
    for caller in callers:
        caller.start()
    for _ in range(4):
        time.sleep(0.3)
        victim = random.Random(7).choice(wait_until(live.pids, what="a worker"))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: victim not in live.pids() and len(live.pids()) == 2, what="a new worker")
    time.sleep(0.3)
    for caller in callers:
        caller.stop()
    answered = [key for caller in callers for key in caller.answered]
    assert len(answered) > 100
    assert len(set(answered)) == len(answered)
    written = [(row.request_id, row.version, row.arm) for row in live.records()]
    assert len(set(written)) == len(written)
    assert set(answered) <= set(written)


def test_every_acknowledged_event_is_there_once_when_control_is_killed(live):
    """Killed at random moments under load; every row is sent again afterwards, and recognised."""
    live.start()
    rows = rows_at_start = wait_until(lambda: status(live)["sources"][0]["rows"], what="status")
    sent, acknowledged = [], set()
    stop = threading.Event()

    def post():
        number = 0
        while not stop.is_set():
            try:
                with live.console() as client:
                    while not stop.is_set():
                        number += 1
                        visit, at = f"s{number}", now()
                        sent.append((visit, at))
                        taken = live.post_sale(client, visit, at=at)
                        assert taken["accepted"] == 1, taken
                        acknowledged.add(visit)
            except (Unavailable, FileNotFoundError, ValueError, KeyError):
                time.sleep(0.02)

    sender = threading.Thread(target=post, daemon=True)
    sender.start()
    for delay in (0.5, 0.25, 0.4):
        time.sleep(delay)
        die(live.controls[-1])
        live.start()
    stop.set()
    sender.join(20)
    assert len(acknowledged) > 50
    logged = [visit for visit, _ in log_of(live)]
    assert len(set(logged)) == len(logged)
    assert acknowledged <= set(logged)
    with live.console() as client:
        for visit, at in sent:
            taken = live.post_sale(client, visit, at=at)
            assert taken["repeated"] == (1 if visit in logged else 0)
            rows = taken["rows_of_source"]
        assert rows == rows_at_start + len(sent)
        source = status(live)["sources"][0]
        assert source["watermark"]["seq"] == rows  # the online rows have followed
    assert len(log_of(live)) == len(sent)


def test_the_older_of_two_control_processes_is_fenced(live):
    live.start()
    first = live.controls[0]
    workers, facts = live.pids(), live.facts
    with live.console() as old:
        live.post_sale(old, "one", at=now())
        live.start("--take-over")
        assert first.wait(20) == 1
        assert "a newer control process has taken over" in live.log
        assert live.pids() == workers  # they changed hands
        assert live.facts["epoch"] == facts["epoch"] + 1
        with pytest.raises(Unavailable):
            live.post_sale(old, "two", at=now())
    with live.console() as new:
        assert live.post_sale(new, "one", at=0)["repeated"] == 1


def test_a_second_control_process_is_refused_and_the_first_decides_on(live):
    first, facts = live.start(), live.facts
    second = live.launch()
    assert second.wait(20) == 1
    [said] = [line for line in live.log.splitlines() if line.startswith("trimtab: a control process runs")]
    assert f"process {facts['pid']}" in said
    assert facts["console"] in said
    assert "--take-over" in said
    assert first.poll() is None
    assert live.facts == facts
    with live.console() as console:
        assert live.post_sale(console, "one", at=now())["accepted"] == 1
    assert {event.data["epoch"] for event in live.events() if event.type == "EpochTaken"} == {1, facts["epoch"]}
    die(first)
    live.start()  # nothing has to be said after a kill


def test_a_stopped_older_process_keeps_a_newer_one_out_until_it_wakes(live):
    """It holds the lock, so two cannot write one event log; and it can decide nothing any more."""
    live.start()
    first = live.controls[0]
    os.kill(first.pid, signal.SIGSTOP)
    second = live.launch("--take-over")
    time.sleep(2)
    assert second.poll() is None
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(20) == 1
    wait_until(lambda: live.answers() and live.facts["pid"] == second.pid, what="the second's start")


def test_a_training_outlives_its_control_process(live):
    live.start()
    with live.console() as console:
        answer = console.post(f"/v1/models/{MODEL}/train", {"reason": "a test"})
        assert answer["accepted"], answer
    die(live.controls[0])
    live.start()
    done = wait_until(
        lambda: [event for event in live.events() if event.type == "TrainingFinished"][1:], within=60, what="the result"
    )
    assert done[0].data["job"] == answer["job"]
    assert len([event for event in live.events() if event.type == "TrainingRequested"]) == 2


def test_a_killed_training_is_done_again(live):
    live.start()
    with live.console() as console:
        job = console.post(f"/v1/models/{MODEL}/train", {"reason": "a test"})["job"]
    mark = live.home / "jobs" / job / "pid"
    pid = wait_until(lambda: mark.exists() and '"begun": true' in mark.read_text() and mark.read_text(), what="a child")
    os.kill(int(pid.split('"pid": ')[1].split(",")[0]), signal.SIGKILL)
    finished = wait_until(
        lambda: [event for event in live.events() if event.type == "TrainingFinished"][1:], within=60, what="the result"
    )
    assert finished[0].data["job"] == job


def test_a_lost_observer_and_a_lost_online_store_are_rebuilt(live):
    live.start()
    with live.console() as console, JsonClient(live.data) as data:
        for number in range(20):
            live.post_sale(console, f"s{number}", at=now())
        before = [live.predict(data, f"r{number}")["prediction"] for number in range(5)]
    live.stop()
    shutil.rmtree(live.home / "online")
    (live.home / "run" / f"observer-{MODEL}.bin").unlink()
    (live.home / "route.json").unlink()
    live.start()
    with JsonClient(live.data) as data:
        after = [live.predict(data, f"again{number}")["prediction"] for number in range(5)]
    assert after == before


def test_decisions_survive_kills_at_any_moment(tmp_path):
    """A rehearsal whose control process is killed again and again decides what an undisturbed one decides."""
    start, hours = instant("2024-03-10"), 30
    house = LiveHouse(make_project(tmp_path / "clicks", until=start + 3 * 86_400 * 10**6, days=8))
    try:
        house.start("--clock", "2024-03-10")
        chance = random.Random(11)
        answered = set()
        for hour in range(hours):
            moment = start + hour * 3600 * 10**6
            if hour % 6 == 5:
                victim = threading.Timer(chance.random() * 0.2, house.controls[-1].kill)
                victim.start()
            for _attempt in range(3):
                try:
                    with house.console() as console, JsonClient(house.data) as data:
                        console.post("/v1/clock", {"now": iso(moment)})
                        for visit in range(3):
                            name = f"h{hour}-{visit}"
                            house.post_sale(console, name, at=moment, bought=visit > 0)
                            if name not in answered:
                                answered.add(house.predict(data, name)["id"])
                    break
                except (Unavailable, FileNotFoundError, ValueError):
                    if house.controls[-1].poll() is not None:
                        house.start("--clock", "2024-03-10")
            else:
                pytest.fail(f"hour {hour} could not be sent")
            if hour % 6 == 5:
                victim.join()
                house.controls[-1].wait(10)
                house.start("--clock", "2024-03-10")
        with house.console() as console:
            console.post("/v1/clock", {"now": iso(start + hours * 3600 * 10**6)})
        house.stop()
        matured = [event.data for event in house.events() if event.type == "DayMatured"]
        # Each hour asks three, each of them has its label: the day closes once and counts them all.
        assert [(day["answered"], day["labelled"]) for day in matured] == [(72, 72)]
        finished = [event for event in house.events() if event.type == "TrainingFinished"]
        assert len(finished) == len([event for event in house.events() if event.type == "TrainingRequested"])
    finally:
        house.kill()
    check_stores(house)


def status(house):
    with house.console() as console:
        return console.get("/v1/status")


def log_of(house):
    import msgspec

    rows = SpoolRecords(house.home / "records", "reader").scan(EVENTS + "sales")
    return [msgspec.msgpack.decode(row) for _, row in rows]


def check_stores(house):
    """Every store opens cleanly after all that."""
    home = Home(house.home)
    assert verify(home.ledger().read()) > 0
    rows = LmdbRows(house.home / "online", readonly=True)
    assert rows.get_many([b"watermark:sales"])[0] is not None
    rows.close()
    assert house.records()
