"""Real workers under change and under the knife: swaps, kills, drains, and what they weigh."""

import asyncio
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest
from tests.e2e.worker_house import Connection, WorkerHouse, call

HEAVY = {
    "pandas", "sklearn", "lightgbm", "mlflow", "pyarrow", "starlette", "scipy", "onnx", "skl2onnx",
    "matplotlib", "sqlite3", "httpx", "requests", "fastapi", "pydantic",
}  # fmt: skip


@pytest.fixture
def house(tmp_path):
    made = WorkerHouse(tmp_path)
    made.versions = [made.add(bias) for bias in (0.0, 0.5, 1.0, 1.5)]
    made.route(("champion", made.versions[0], 1.0))
    yield made
    made.kill()


def test_fifty_swaps_under_sixteen_connections(house):
    """No request fails, and each answer names a version that was in force while it was asked."""
    port = house.start().port
    first, *others = house.versions
    tables = [{first}]
    answered: list[tuple[int, int, dict]] = []
    done = asyncio.Event()

    async def caller(name):
        async with Connection(port) as connection:
            number = 0
            while not done.is_set():
                oldest = house.status().generation
                answer = await connection.predict(f"{name}-{number}")
                answered.append((oldest, len(tables), answer))
                number += 1

    async def swapper():
        for step in range(50):
            challenger = others[step % 3]
            arms = {
                0: [("champion", first, 0.5), ("canary", challenger, 0.5)],
                1: [("champion", challenger, 1.0), ("shadow", first, 0.0)],
                2: [("champion", challenger, 1.0)],
            }[step % 3]
            tables.append({version for _, version, share in arms if share})
            house.route(*arms, rollout=f"ro{step}")
            end = time.monotonic() + 10
            while house.status().generation < house.generation:
                assert time.monotonic() < end, "the table did not reach the worker"
                await asyncio.sleep(0.002)
        done.set()

    async def everything():
        await asyncio.wait_for(asyncio.gather(swapper(), *(caller(f"c{index}") for index in range(16))), 60)

    asyncio.run(everything())
    assert len(answered) > 500
    assert {answer["version"] for *_, answer in answered} == set(house.versions)
    for oldest, newest, answer in answered:
        assert answer["version"] in set().union(*tables[oldest - 1 : newest])
        assert answer["status"] == "ok"
    written = {(row.request_id, row.version) for row in house.records()}
    assert {(answer["id"], answer["version"]) for *_, answer in answered} <= written
    assert house.stop() == [0]


def test_kill_nine_loses_no_answered_request(house):
    port = house.start().port
    answered: set[str] = set()

    async def caller(name):
        number = 0
        async with Connection(port) as connection:
            while True:
                answer = await connection.predict(f"{name}-{number}")
                answered.add(answer["id"])
                number += 1

    async def everything():
        callers = [asyncio.create_task(caller(f"c{index}")) for index in range(16)]
        await asyncio.sleep(0.7)
        os.kill(house.processes[0].pid, signal.SIGKILL)
        return await asyncio.gather(*callers, return_exceptions=True)

    ends = asyncio.run(everything())
    assert all(isinstance(end, OSError | asyncio.IncompleteReadError) for end in ends)
    assert len(answered) > 100
    assert answered <= {row.request_id for row in house.records()}


def test_a_stopping_worker_answers_what_it_took(house):
    """SIGTERM under load: every request that got into the worker is answered, and the shadow queue is flushed."""
    house.route(("champion", house.versions[0], 1.0), ("shadow", house.versions[1], 0.0))
    port = house.start().port
    sent: list[str] = []
    answered: list[str] = []

    async def caller(name):
        number = 0
        async with Connection(port) as connection:
            while True:
                sent.append(f"{name}-{number}")
                answer = await connection.predict(sent[-1])
                answered.append(answer["id"])
                number += 1

    async def everything():
        callers = [asyncio.create_task(caller(f"c{index}")) for index in range(4)]
        await asyncio.sleep(0.5)
        house.processes[0].send_signal(signal.SIGTERM)
        return await asyncio.gather(*callers, return_exceptions=True)

    asyncio.run(everything())
    assert house.processes[0].wait(20) == 0
    rows = house.records()
    champion, shadow = ({row.request_id for row in rows if row.arm == arm} for arm in ("champion", "shadow"))
    assert champion == set(answered)  # nothing was predicted and then dropped
    assert shadow == champion
    assert len(sent) - len(answered) <= 4  # at most the one request that each connection could not get in any more


def test_a_route_change_arrives_soon(house):
    port = house.start().port
    second = house.versions[1]
    house.route(("champion", house.versions[0], 1.0), ("shadow", second, 0.0))
    house.until(lambda: house.status().generation == house.generation)

    async def until_changed():
        async with Connection(port) as connection:
            start = time.monotonic()
            house.route(("champion", second, 1.0))
            while (await connection.predict("r"))["version"] != second:
                assert time.monotonic() - start < 1
            return time.monotonic() - start

    took = asyncio.run(until_changed())
    print(f"route change: {took * 1000:.1f} ms")


def test_a_corrupt_bundle_leaves_the_old_table_and_heals(house):
    port = house.start().port
    second = house.model_file(0.5)
    good = second.read_bytes()
    second.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    house.route(("champion", house.versions[1], 1.0))
    status = house.until(lambda: (found := house.status()).problem and found)
    assert "is not the file that was packed" in status.problem
    assert status.generation == 1
    assert call(port, "POST", "/predict/m", b'{"shop": "a", "basket": 1}')[2]["version"] == house.versions[0]
    second.write_bytes(good)
    assert house.until(lambda: (found := house.status()).generation == 2 and found).problem == ""
    assert call(port, "POST", "/predict/m", b'{"shop": "a", "basket": 1}')[2]["version"] == house.versions[1]


def test_a_torn_route_file_is_reported_and_harmless(house):
    port = house.start().port
    (house.home / "route.json").write_bytes(b'{"generation": 9, "rou')
    assert "not a route table" in house.until(lambda: house.status().problem)
    assert call(port, "GET", "/health")[2]["generation"] == 1


def test_without_a_route_table_it_waits_for_one(house):
    (house.home / "route.json").unlink()
    port = house.start().port
    assert call(port, "GET", "/v2/health/ready")[0] == 503
    status, headers, answer = call(port, "POST", "/predict/m", b'{"shop": "a", "basket": 1}')
    assert (status, headers["retry-after"], answer["kind"]) == (503, "1", "Unavailable")
    house.route(("champion", house.versions[0], 1.0))
    house.until(lambda: call(port, "GET", "/v2/health/ready")[0] == 200)


def test_two_workers_share_a_port_and_one_may_die(house):
    port = house.start(1).port
    assert house.start(2, port=port).port == port

    for index in range(40):
        assert (
            call(port, "POST", "/predict/m", msgspec.json.encode({"id": f"r{index}", "shop": "a", "basket": 1}))[0]
            == 200
        )
    assert {len(house.records(number)) > 0 for number in (1, 2)} == {True}
    house.processes[0].kill()
    house.processes[0].wait()
    for _ in range(10):
        assert call(port, "POST", "/predict/m", b'{"shop": "a", "basket": 1}')[0] == 200


def test_an_occupied_address_is_refused(house, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AssertionError, match="a worker died"):
            house.start(port=taken.getsockname()[1])


def test_a_worker_is_light(house):
    """Ready within 1.5 s of processor time, at most 150 MB, and nothing of the training stack imported."""
    start = time.monotonic()
    status = house.start()
    assert call(status.port, "GET", "/v2/health/ready")[0] == 200
    wall = time.monotonic() - start
    for index in range(50):
        call(status.port, "POST", "/predict/m", msgspec.json.encode({"id": str(index), "shop": "a", "basket": 1}))
    proc = Path(f"/proc/{status.pid}")
    user, system = map(int, (proc / "stat").read_text().rpartition(")")[2].split()[11:13])
    cpu = (user + system) / os.sysconf("SC_CLK_TCK")
    lines = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    rss = int(lines["VmRSS"].split()[0]) / 1024
    print(f"ready after {wall:.2f} s, {cpu:.2f} CPU-s with 50 requests, {rss:.0f} MB")
    assert cpu <= 1.5
    assert rss <= 150
    assert house.stop() == [0]
    modules = msgspec.json.decode((house.home / "modules-1.json").read_bytes())
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()
    ours = {name.split(".")[1] for name in modules if name.startswith("trimtab.")}
    assert ours <= {"adapters", "app", "core", "errors", "features", "gates", "loop", "registry", "serving", "training"}
