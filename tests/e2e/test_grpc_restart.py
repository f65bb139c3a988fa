"""Workers are restarted one after the other under callers over gRPC: no call fails, each answer is recorded once."""

import asyncio
import signal
import socket
from collections import Counter
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc.service_pb2 as published
from tests.e2e.worker_house import WorkerHouse
from tests.soak import long

from trimtab.adapters.wire.grpc_leaving import age_ms, all_gone, close_port, connections
from trimtab.adapters.wire.grpc_messages import SERVICE

CALLERS = 7
DRAIN_S = 3


@pytest.fixture
def house(tmp_path):
    made = WorkerHouse(tmp_path)
    made.route(("champion", made.add(0.0), 1.0))
    yield made
    made.kill()


class Calls:
    """Callers of one port, some of whom connect anew all the time; what became of their calls."""

    def __init__(self, port: int) -> None:
        self.address, self.said, self.ids = f"127.0.0.1:{port}", Counter(), []
        self._done = False

    def _channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    async def _one(self, channel: grpc.aio.Channel, name: str) -> None:
        asked = published.ModelInferRequest(model_name="m", id=name, raw_input_contents=[b"\0\0\x80?" * 2])
        asked.inputs.add(name="features", datatype="FP32", shape=[1, 2])
        try:
            await channel.unary_unary(f"/{SERVICE}/ModelInfer")(asked.SerializeToString(), timeout=20)
        except grpc.aio.AioRpcError as error:
            self.said[f"{error.code().name}: {error.details()}"] += 1
        else:
            self.said["OK"] += 1
            self.ids.append(name)

    async def call(self, caller: int) -> None:
        number, fresh = 0, caller == 0
        channel = self._channel()
        while not self._done:
            await self._one(channel, f"{caller}-{number}")
            number += 1
            if fresh and number % 10 == 0:
                await channel.close()
                channel = self._channel()
        await channel.close()

    async def during(self, steps) -> None:
        """Call until the steps are over."""
        tasks = [asyncio.create_task(self.call(caller)) for caller in range(CALLERS)]
        try:
            await steps
        finally:
            self._done = True
            await asyncio.gather(*tasks)


def restarted(house, times):
    first = house.start(1, grpc_port=0, drain_s=DRAIN_S)
    house.start(2, grpc_port=first.grpc_port, drain_s=DRAIN_S)
    calls = Calls(first.grpc_port)

    async def steps():
        await asyncio.sleep(0.3)
        for turn in range(times):
            process = house.processes[turn]
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 15) == 0
            await asyncio.to_thread(house.start, turn % 2 + 1, grpc_port=first.grpc_port, drain_s=DRAIN_S)

    asyncio.run(calls.during(steps()))
    print(f"{times} restarts: {dict(calls.said)}")
    return calls


def check(house, calls):
    assert set(calls.said) == {"OK"}
    recorded = Counter(row.request_id for number in (1, 2) for row in house.records(number))
    assert recorded == Counter(calls.ids)


def test_restarts_fail_no_call(house):
    calls = restarted(house, 4)
    assert calls.said["OK"] > 200
    check(house, calls)


@long
def test_soak_thirty_restarts_fail_no_call(house):
    check(house, restarted(house, 30))


def test_a_worker_without_callers_leaves_at_once(house):
    house.start(1, grpc_port=0, drain_s=30)
    house.processes[0].send_signal(signal.SIGTERM)
    house.processes[0].wait(10)


def test_the_last_connection_is_sent_away_while_there_is_time_to_drain():
    for drain_s in (1, 10, 60):
        assert age_ms(drain_s) * 1.1 < drain_s * 1000


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_port_is_closed_under_its_holder_and_connections_are_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as held, socket.socket() as caller:
        port = held.getsockname()[1]
        caller.connect(("127.0.0.1", port))
        accepted, _ = held.accept()
        before = open_files()
        close_port(port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert connections(port) == 1
        assert not asyncio.run(all_gone(port, within_s=0.0))
        accepted.close()
        assert connections(port) == 0
        assert asyncio.run(all_gone(port, within_s=0.0))
        assert open_files() == before - 1
