"""What each mode of recording promises, on real workers: under ``kill -9``, on a full disk, on a slow one."""

import asyncio
import contextlib
import random
import resource
import sys
import time

import msgspec
import pytest
from tests.e2e.metered_house import scrape, total
from tests.e2e.worker_house import Connection, WorkerHouse, call

from trimtab.adapters.wire.cells import METRICS, read_counts

CALLERS = 8
SLACK_S = 0.1
"""How late the two cores of a busy machine may run a worker's timer."""


@pytest.fixture
def house(tmp_path):
    house = WorkerHouse(tmp_path)
    house.route(("champion", house.add(0.0), 1.0))
    yield house
    house.kill()


def ask(name):
    return msgspec.json.encode({"id": name, "shop": "aa", "basket": 1.0})


def answers(port):
    """Whether a worker that has told its port listens already."""
    try:
        return call(port, "GET", "/v2/health/ready")[0] == 200
    except OSError:
        return False


async def load(port, got, kill_after, process):
    """Callers note when they got each answer, until the worker is killed."""

    async def caller(number):
        with contextlib.suppress(OSError, EOFError):
            async with Connection(port) as connection:
                for count in range(1_000_000):
                    name = f"{process.pid}-{number}-{count}"
                    status, _, _ = await connection.send("POST", "/predict/m", ask(name))
                    if status == 200:
                        got[name] = time.monotonic()

    tasks = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    await asyncio.sleep(kill_after)
    process.kill()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("mode", "wait_s"), [("sync", None), ("sync+fsync", None), ("batched:50ms", 0.05)])
def test_a_kill_loses_only_what_the_mode_allows(house, mode, wait_s):
    chance, got, lasts = random.Random(11), {}, {}
    for _ in range(4):
        port = house.start(records=mode).port
        house.until(lambda port=port: answers(port))
        process = house.processes[-1]
        before = len(got)
        asyncio.run(load(port, got, chance.uniform(0.15, 0.5), process))
        process.wait(10)
        assert len(got) > before + 20
        lasts[str(process.pid)] = max(list(got.values())[before:])  # a worker that is held up answers nobody either
    recorded = [record.request_id for record in house.records()]
    assert len(recorded) == len(set(recorded))
    missing = {name: at for name, at in got.items() if name not in set(recorded)}
    if wait_s is None:
        assert missing == {}
    else:
        ages = {name: lasts[name.split("-")[0]] - at for name, at in missing.items()}
        assert all(age < wait_s + SLACK_S for age in ages.values()), ages
        assert len(missing) < len(got) / 2


@contextlib.contextmanager
def full_disk(house, *, room=600):
    """The worker's files cannot grow: writes fail as on a full disk, after a part of them was taken."""
    pid = house.processes[-1].pid
    spool = house.home / "records" / "predictions" / "worker-1.spool"
    size = spool.stat().st_size + room
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are set with prlimit")


@linux
def test_batched_answers_are_recorded_in_time_and_all_of_them_at_a_stop(house):
    port = house.start(records="batched:100ms").port
    house.until(lambda: answers(port))
    assert call(port, "POST", "/predict/m", ask("first"))[0] == 200
    house.until(house.records, within=5)
    with full_disk(house, room=0):  # nothing can be written: the answer has not waited for it
        assert call(port, "POST", "/predict/m", ask("held"))[0] == 200
        assert len(house.records()) == 1
    house.until(lambda: len(house.records()) == 2, within=5)
    assert house.stop() == [0]
    port = house.start(records="batched:10000ms").port
    house.until(lambda: answers(port))
    assert call(port, "POST", "/predict/m", ask("last"))[0] == 200
    assert house.stop() == [0, 0]
    assert [record.request_id for record in house.records()] == ["first", "held", "last"]


@linux
@pytest.mark.parametrize("mode", ["sync", "batched:5ms"])
def test_a_full_disk_refuses_what_cannot_be_recorded_and_goes_on_by_itself(house, mode):
    port = house.start(records=mode, metrics_folder=str(house.home / METRICS)).port
    given = [name for name in map(str, range(5)) if call(port, "POST", "/predict/m", ask(name))[0] == 200]
    house.until(lambda: len(house.records()) == 5)
    with full_disk(house):
        replies = {}
        for name in map(str, range(5, 40)):
            replies[name] = call(port, "POST", "/predict/m", ask(name))
            time.sleep(0.007)
        refused = [name for name, reply in replies.items() if reply[0] == 503]
        assert len(refused) > 20
        assert "records cannot be written" in str(replies[refused[0]][2])
        given += [name for name, reply in replies.items() if reply[0] == 200]
        assert len(given) + len(refused) == 40
    house.until(lambda: call(port, "POST", "/predict/m", ask("room"))[0] == 200, within=5)
    found = scrape(port)
    assert house.stop() == [0]
    recorded = [record.request_id for record in house.records()]
    assert recorded == [*given, *["room"]]
    assert total(found, "trimtab_records_lost_total") == 0


@linux
@pytest.mark.parametrize("mode", ["sync", "batched:5ms"])
def test_a_full_disk_is_told_of_and_found_to_have_room_without_a_request(house, mode, capfd):
    port = house.start(records=mode, metrics_folder=str(house.home / METRICS), sync_s=0.1).port

    def stands():
        ready, server = call(port, "GET", "/v2/health/ready")[::2]
        model = call(port, "GET", "/v2/models/m/ready")[0]
        assert ready == 200 or "File too large" in server["reason"]
        return ready, model, total(scrape(port), "trimtab_records_unwritable")

    assert call(port, "POST", "/predict/m", ask("before"))[0] == 200
    house.until(house.records)
    assert stands() == (200, 200, 0)
    with full_disk(house, room=0):
        for name in ("a", "b", "c"):
            call(port, "POST", "/predict/m", ask(name))
            house.until(lambda: stands() == (503, 503, 1), within=5)
        for _ in range(3):  # also after the disk was looked at again
            assert stands() == (503, 503, 1)
            time.sleep(0.15)
    house.until(lambda: stands() == (200, 200, 0), within=5)
    assert house.stop() == [0]
    said = capfd.readouterr().err
    assert said.count("predictions are refused, for they cannot be recorded") == 1
    assert said.count("predictions are recorded again") == 1
    assert len([line for line in said.splitlines() if "records cannot be" in line]) == 1
    assert [record.request_id for record in house.records()] == ["before", *(["a"] if mode != "sync" else [])]


@linux
@pytest.mark.parametrize("mode", ["sync", "batched:5ms"])
def test_a_full_disk_drops_and_counts_where_that_was_chosen(house, mode):
    folder = str(house.home / METRICS)
    port = house.start(records=mode, records_when_full="drop", metrics_folder=folder).port
    assert call(port, "POST", "/predict/m", ask("before"))[0] == 200
    house.until(house.records)
    with full_disk(house):
        for name in map(str, range(40)):
            assert call(port, "POST", "/predict/m", ask(name))[0] == 200
        lost = "trimtab_records_lost_total"
        house.until(lambda: total(scrape(port), lost) + len(house.records()) == 41, within=5)
        found = scrape(port)
        recorded = len(house.records())
        assert total(found, lost) == 41 - recorded > 30
        assert total(found, "trimtab_records_written_total") == recorded
    assert call(port, "POST", "/predict/m", ask("room"))[0] == 200
    assert house.stop() == [0]
    assert [record.request_id for record in house.records()][-1] == "room"
    assert len(house.records()) == recorded + 1


@linux
def test_what_waits_when_the_disk_is_full_is_counted_at_a_stop(house, capfd):
    port = house.start(records="batched:200ms", metrics_folder=str(house.home / METRICS)).port
    assert call(port, "POST", "/predict/m", ask("before"))[0] == 200
    house.until(house.records)
    with full_disk(house, room=0):
        assert call(port, "POST", "/predict/m", ask("waits"))[0] == 200
        house.stop()
    assert read_counts(house.home / METRICS).counters["trimtab_records_lost_total"] == {(): 1}
    assert "without a record" in capfd.readouterr().err


def test_on_a_slow_disk_everybody_gets_an_answer_within_the_deadline(house):
    port = house.start(slow_disk_s=0.05, deadline_ms=200, max_batch=1).port
    took, statuses = [], []

    async def caller(connection, number):
        for count in range(3):
            began = time.monotonic()
            status, _, _ = await connection.send("POST", "/predict/m", ask(f"{number}-{count}"))
            statuses.append(status)
            took.append(time.monotonic() - began)

    async def callers():
        async with contextlib.AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(Connection(port)) for _ in range(60)]
            await asyncio.gather(*(caller(connection, number) for number, connection in enumerate(connections)))

    house.until(lambda: answers(port))
    asyncio.run(asyncio.wait_for(callers(), 20))
    assert len(statuses) == 180
    assert {200} < set(statuses) <= {200, 429, 503}
    assert max(took) < 2.5  # without the deadline: 60 x 50 ms for the last of each round
    assert statuses.count(200) == len(house.records())
