"""How soon a kill switch is obeyed: from pulling it until every connection of every worker gets the other answer.

python bench/serving/kill.py [REPEATS]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.e2e.worker_house import Connection, WorkerHouse

from trimtab.adapters.wire.routefile import write_routes
from trimtab.app.killing import KillOrder, close_order, pull
from trimtab.serving.routing import Arm, Route, RouteTable

WORKERS, CONNECTIONS = 2, 16


async def measure(house: WorkerHouse, port: int, order: KillOrder, arm: str) -> list[float]:
    """Milliseconds until each connection got the first answer behind the switch, under load of all of them."""
    home = house.home
    done: dict[int, float] = {}

    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(Connection(port)) for _ in range(CONNECTIONS)]
        for connection in connections:
            while (await connection.predict("before"))["arm"] != "champion":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.005)

        async def caller(index: int, connection: Connection) -> None:
            while index not in done:
                if (await connection.predict(f"r{index}"))["arm"] == arm:
                    done[index] = (time.perf_counter() - began) * 1000

        began = time.perf_counter()
        pull(home / "route.json", home / "run", order)
        await asyncio.gather(*(caller(index, connection) for index, connection in enumerate(connections)))
    close_order(home / "run", order.id)
    return list(done.values())


def main(repeats: int) -> None:
    """Print the figures for both kinds of switch."""
    with tempfile.TemporaryDirectory() as folder:
        house = WorkerHouse(Path(folder))
        first, second = house.add(-2.0), house.add(2.0)
        generation = 1
        route = Route("m", (Arm("champion", second, 1.0),), held=(first,))
        write_routes(house.home / "route.json", RouteTable(generation, {"m": route}))
        port = house.start(1).port
        for number in range(2, WORKERS + 1):
            house.start(number, port=port)
        try:
            for arm, constant in (("constant", (0.2,)), ("previous", ())):
                times: list[float] = []
                for repeat in range(repeats):
                    order = KillOrder(f"{arm}{repeat}", "m", "operator:bench", "measured", constant)
                    times += asyncio.run(measure(house, port, order, arm))
                    generation += 2
                    write_routes(house.home / "route.json", RouteTable(generation, {"m": route}))
                print(
                    f"kill switch to {arm:<8}  {WORKERS} workers, {CONNECTIONS} connections, {repeats} times:"
                    f"  median {statistics.median(times):.1f} ms, slowest {max(times):.1f} ms"
                )
        finally:
            house.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
