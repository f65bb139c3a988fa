"""Swaps and kill switches under load: no request fails, and every answer is what the version that it names would say."""

import asyncio
import math
import struct
import time
from contextlib import AsyncExitStack

import msgspec
import pytest
from tests.e2e.worker_house import Connection, WorkerHouse, call
from tests.soak import long

from trimtab.adapters.wire.routefile import write_routes
from trimtab.app.killing import KillOrder, pull, wait_for
from trimtab.serving.routing import Arm, Route, RouteTable

BIASES = (-2.0, 2.0)


@pytest.fixture
def house(tmp_path):
    made = WorkerHouse(tmp_path)
    made.versions = [made.add(bias) for bias in BIASES]
    made.route(("champion", made.versions[0], 1.0))
    yield made
    made.kill()


def would_say(house, version, basket=1.0):
    bias = BIASES[house.versions.index(version)]
    return 1 / (1 + math.exp(-(0.001 * (2 + basket) + bias)))


def swap_under_load(house, *, connections, swaps):
    """Every answer, while the route changes between two versions whose answers cannot be mistaken."""
    port = house.start().port
    first, second = house.versions
    answered: list[dict] = []
    done = asyncio.Event()

    async def caller(name):
        async with Connection(port) as connection:
            number = 0
            while not done.is_set():
                answered.append(await connection.predict(f"{name}-{number}"))
                number += 1

    async def swapper():
        for step in range(swaps):
            ways = [
                [("champion", second, 1.0)],
                [("champion", first, 0.5), ("canary", second, 0.5)],
                [("champion", first, 1.0), ("shadow", second, 0.0)],
            ]
            house.route(*ways[step % 3], rollout=f"ro{step}")
            end = time.monotonic() + 20
            while house.status().generation < house.generation:
                assert time.monotonic() < end, "the table did not reach the worker"
                await asyncio.sleep(0.002)
            count = len(answered)
            while len(answered) < count + connections // 4:  # noqa: ASYNC110 - every table answers some
                await asyncio.sleep(0.001)
        done.set()

    async def everything():
        await asyncio.wait_for(asyncio.gather(swapper(), *(caller(f"c{n}") for n in range(connections))), 300)

    asyncio.run(everything())
    return answered


def check_attribution(house, answered):
    wrong = [
        one for one in answered if not math.isclose(one["prediction"], would_say(house, one["version"]), abs_tol=1e-6)
    ]
    assert wrong == []
    assert {one["status"] for one in answered} == {"ok"}
    assert {one["version"] for one in answered} == set(house.versions)
    recorded = {(row.request_id, row.version): row.outputs[0] for row in house.records() if row.arm != "shadow"}
    assert all(recorded[one["id"], one["version"]] == one["prediction"] for one in answered)


def test_twenty_swaps_under_64_connections(house):
    answered = swap_under_load(house, connections=64, swaps=20)
    assert len(answered) > 300
    check_attribution(house, answered)


@long
def test_soak_a_hundred_swaps_under_64_connections(house):
    answered = swap_under_load(house, connections=64, swaps=100)
    check_attribution(house, answered)
    print(f"100 swaps, {len(answered)} answers, none failed, none misattributed")


def test_plain_tensor_requests_survive_swaps(house):
    """The short way of the Open Inference Protocol: a request may be taken under one table and answered under the next."""
    port = house.start().port
    body = {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [2.0, 1.0]}]}
    sized = {"name": "features", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = msgspec.json.encode({"inputs": [sized], "parameters": {"binary_data_output": True}})
    in_bytes = head + struct.pack("<2f", 2.0, 1.0), [f"inference-header-content-length: {len(head)}"]
    said: list[tuple[str, float]] = []
    done = asyncio.Event()

    async def caller(binary):
        sent, headers = in_bytes if binary else (msgspec.json.encode(body), [])
        async with Connection(port) as connection:
            while not done.is_set():
                status, _, raw = await connection.send("POST", "/v2/models/m/infer", sent, *headers)
                assert status == 200, raw
                answer = msgspec.json.decode(raw[:-4] if binary else raw)
                value = struct.unpack("<f", raw[-4:])[0] if binary else answer["outputs"][0]["data"][0]
                said.append((answer["model_version"], value))

    async def swapper():
        for step in range(30):
            house.route(("champion", house.versions[(step + 1) % 2], 1.0))
            while house.status().generation < house.generation:  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.002)
        done.set()

    async def everything():
        await asyncio.wait_for(asyncio.gather(swapper(), *(caller(number % 2) for number in range(16))), 60)

    asyncio.run(everything())
    assert {version for version, _ in said} == set(house.versions)
    assert all(math.isclose(value, would_say(house, version), abs_tol=1e-3) for version, value in said)


def test_large_tensor_bodies_that_swaps_meet_name_one_version(house):
    """Each takes four batches, and is recorded as it was answered."""
    port = house.start().port
    rows = 250
    tensor = {"name": "features", "shape": [rows, 2], "datatype": "FP32", "data": [2.0, 1.0] * rows}
    said: list[tuple[str, str, set[float]]] = []
    done = asyncio.Event()

    async def caller(name):
        async with Connection(port) as connection:
            while not done.is_set():
                body = msgspec.json.encode({"id": f"{name}-{len(said)}", "inputs": [tensor]})
                status, _, raw = await connection.send("POST", "/v2/models/m/infer", body)
                assert status == 200, raw
                answer = msgspec.json.decode(raw)
                said.append((answer["id"], answer["model_version"], set(answer["outputs"][0]["data"])))

    async def swapper():
        for step in range(30):
            house.route(("champion", house.versions[(step + 1) % 2], 1.0))
            while house.status().generation < house.generation:  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.002)
        done.set()

    async def everything():
        await asyncio.wait_for(asyncio.gather(swapper(), *(caller(f"c{number}") for number in range(8))), 60)

    asyncio.run(everything())
    assert {version for _, version, _ in said} == set(house.versions)
    for _, version, values in said:
        (value,) = values
        assert math.isclose(value, would_say(house, version), abs_tol=1e-3)
    recorded = {(row.request_id, row.version) for row in house.records()}
    assert recorded == {(f"{name}/{row}", version) for name, version, _ in said for row in range(rows)}


def killed_under_load(house, order, *, workers, holds):
    """Seconds from pulling the switch until every connection, over all workers, sees it."""
    port = house.start(1).port
    for number in range(2, workers + 1):
        house.start(number, port=port)

    async def everything():
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(Connection(port)) for _ in range(4 * workers)]
            for connection in connections:
                assert not holds(await connection.predict("before"))
            began = time.monotonic()
            pull(house.home / "route.json", house.home / "run", order)
            late = 0.0
            for connection in connections:
                while not holds(await connection.predict("after")):
                    assert time.monotonic() - began < 1, "the switch was not obeyed within a second"
                late = time.monotonic() - began
            return late

    return asyncio.run(asyncio.wait_for(everything(), 30)), wait_for(house.home / "run", 2, timeout_s=1)


@pytest.mark.parametrize("to", ["constant", "previous"])
def test_a_kill_switch_is_obeyed_by_every_worker_within_a_second(house, to):
    first, second = house.versions
    table = RouteTable(1, {"m": Route("m", (Arm("champion", second, 1.0),), held=(first,))})
    write_routes(house.home / "route.json", table)
    order = KillOrder("o1", "m", "operator:ann", "it is wrong", (0.2,) if to == "constant" else ())

    def holds(answer):
        if to == "constant":
            return (answer["arm"], answer["prediction"], answer["status"]) == ("constant", 0.2, "constant")
        return (answer["arm"], answer["version"]) == ("previous", first)

    took, workers = killed_under_load(house, order, workers=2, holds=holds)
    print(f"kill switch to {to}: {took * 1000:.1f} ms")
    assert (workers.living, workers.problem) == (0, "")  # these workers hold no posts; the switch needs none of them to
    for number in (1, 2):
        row = next(row for row in reversed(house.records(number)) if row.request_id == "after" and row.arm == to)
        assert (row.arm, row.model) == (to, "m")
    body = {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [2.0, 1.0]}]}
    tensors = call(house.status().port, "POST", "/v2/models/m/infer", msgspec.json.encode(body))[2]
    said = {"constant": ("constant", 0.2), "previous": (first, pytest.approx(would_say(house, first), abs=1e-3))}
    assert (tensors["model_version"], tensors["outputs"][0]["data"][0]) == said[to]


def test_who_says_a_unit_stays_with_one_arm_and_who_names_an_arm_gets_it(house):
    first, second = house.versions
    arms = (Arm("a", first, 0.5), Arm("b", second, 0.5))
    write_routes(house.home / "route.json", RouteTable(1, {"m": Route("m", arms, "t", "t", unit="shop")}))
    port = house.start().port
    body = b'{"shop": "aa", "basket": 1}'

    def asked(*headers):
        status, _, answer = call(port, "POST", "/predict/m", body, *headers)
        assert status == 200, answer
        return answer["arm"]

    assert len({asked() for _ in range(10)}) == 1  # the field of the request
    by_unit = {name: {asked(f"X-Trimtab-Unit: {name}") for _ in range(5)} for name in map(str, range(12))}
    assert all(len(found) == 1 for found in by_unit.values())
    assert set().union(*by_unit.values()) == {"a", "b"}
    status, _, answer = call(port, "POST", "/predict/m", body, "X-Trimtab-Arm: b")
    assert (status, answer["arm"], answer["version"]) == (200, "pinned", second)
    assert call(port, "POST", "/predict/m", body, "X-Trimtab-Arm: z")[0] == 404
    units = {(row.unit, row.arm) for row in house.records() if row.arm in "ab"}
    assert {unit for unit, _ in units} == {"aa", *map(str, range(12))}
    assert len(units) == 13
