"""Workers are restarted one after the other under load, and nobody notices."""

import asyncio
import signal
import subprocess

import pytest
from tests.e2e.restart_load import Load
from tests.e2e.worker_house import WorkerHouse
from tests.soak import long


@pytest.fixture
def house(tmp_path):
    made = WorkerHouse(tmp_path)
    made.route(("champion", made.add(0.0), 1.0))
    yield made
    made.kill()


async def restart(house: WorkerHouse, number: int, port: int, process: subprocess.Popen) -> None:
    """End a worker, and start another in its place when it is gone."""
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 15) == 0
    await asyncio.to_thread(house.start, number, port=port)


async def restarted(house: WorkerHouse, times: int) -> Load:
    port = house.start(1).port
    house.start(2, port=port)
    async with Load(port) as load:
        for turn in range(times):
            await restart(house, turn % 2 + 1, port, house.processes[turn])
            await asyncio.sleep(0.1)
    print(f"{times} restarts: {load.answered} answers over {load.connections} connections, {len(load.failures)} failed, "
          f"longest {load.longest_s:.2f} s")  # fmt: skip
    return load


def test_restarts_fail_no_request(house):
    load = asyncio.run(restarted(house, 4))
    assert load.failures == []
    assert load.connections > 150


@long
def test_soak_fifty_restarts_fail_no_request(house):
    load = asyncio.run(restarted(house, 50))
    assert load.failures == []
