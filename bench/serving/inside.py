"""What one request costs inside a worker, from its bytes to those of the answer, where the batch size is given.

    python bench/serving/inside.py [--models TAB,MLP] [--protocols json,binary] [--batches 1,16,64] [--hollow]

A closed loop over sockets lets the generator decide how many requests share a batch, and so what each of them costs:
two protocols that are answered in batches of different sizes cannot be compared by it. Here there are no sockets; the
rest is what a worker does, records and metrics included.

With --hollow a column more: the same with JSON while the model's run is replaced by an answer that is there already. What
is missing from the sum of that and of the model alone is what the model's weights have thrown out of the caches.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rig.measure import workload
from rig.models import BenchModel, checker, made
from rig.options import listed
from rig.ours import home_with
from rig.protocols import binary_reader, binary_requests

from trimtab.adapters.clock.system import SystemClock
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.connection import Connection
from trimtab.adapters.wire.http import DataPlane
from trimtab.adapters.wire.limits import Limits
from trimtab.adapters.wire.metrics import WorkerMetrics
from trimtab.adapters.wire.observed import ObservedPlane
from trimtab.adapters.wire.server import HttpServer
from trimtab.app.home import Home
from trimtab.app.worker import Loader, WorkerOptions
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.engine import Engine
from trimtab.serving.pipeline import Pipeline
from trimtab.serving.routing import decode_table


class Wire:
    """Stands in for a socket."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent = data

    def is_closing(self) -> bool:
        return False


def worker(home: Home, folder: Path, connections: int) -> tuple[Dispatcher, list[Connection]]:
    """What a worker has, without its event loop."""
    engine = Engine(Pipeline(time.perf_counter_ns))
    problem = engine.swap(decode_table(home.route_file.read_bytes()), Loader(home.root, WorkerOptions("127.0.0.1", 0)))
    if problem is not None:
        raise problem
    clock, numbers = SystemClock(), itertools.count()
    records = SpoolRecords(folder, "inside")
    dispatcher = Dispatcher(engine, records, clock=clock, new_id=lambda: f"{next(numbers):024x}", max_batch=64)
    metrics = WorkerMetrics(folder / "metrics", "inside")
    dispatcher.settling.watcher = metrics.meter
    plane = DataPlane(dispatcher, metrics=metrics)
    plane.wake = lambda: None  # a turn is taken when the batch is full
    observed = ObservedPlane(plane, metrics.meter, handing=dispatcher.settling, timer=time.perf_counter_ns, clock=clock,
                             new_id=lambda: "")  # fmt: skip
    server = HttpServer(observed, Limits())
    server._tell_time(0.0)
    opened = [Connection(server) for _ in range(connections)]
    for one in opened:
        one.connection_made(Wire())
    return dispatcher, opened


def cost_us(
    dispatcher: Dispatcher, opened: Sequence[Connection], requests: Sequence[bytes], check, turns: int
) -> float:
    """Microseconds of CPU for a request; every answer is verified, in a pass of its own."""
    rows = itertools.cycle(range(len(requests)))
    for _ in range(3):
        asked = [next(rows) for _ in opened]
        for one, row in zip(opened, asked, strict=True):
            one.data_received(requests[row])
        dispatcher.step()
        for one, row in zip(opened, asked, strict=True):
            head, _, body = one._transport.sent.partition(b"\r\n\r\n")
            if b" 200 " not in head or not check(row, body):
                raise SystemExit(f"wrong for row {row}: {one._transport.sent[:300]!r}")
    cycled = itertools.cycle(requests)
    begun = time.process_time_ns()
    for _ in range(turns):
        for one in opened:
            one.data_received(next(cycled))
        dispatcher.step()
    return (time.process_time_ns() - begun) / turns / len(opened) / 1000


class Hollow:
    """Stands in for a runtime: says the same to everybody."""

    def __init__(self, runtime, width: int) -> None:
        self._runtime, self._answer = runtime, runtime.run(np.zeros((1, width), np.float32))

    def __getattr__(self, name: str):
        return getattr(self._runtime, name)

    def run(self, values: np.ndarray) -> np.ndarray:
        return np.repeat(self._answer, len(values), axis=0) if len(values) > 1 else self._answer


def alone_us(model: BenchModel, runtime, batch: int, turns: int) -> float:
    """Microseconds of CPU a row of the model by itself, again and again."""
    rows = np.ascontiguousarray(model.rows[:batch])
    begun = time.process_time_ns()
    for _ in range(turns):
        runtime.run(rows)
    return (time.process_time_ns() - begun) / turns / batch / 1000


def hollow_us(dispatcher: Dispatcher, opened: Sequence[Connection], model: BenchModel, turns: int) -> tuple[float, ...]:
    """With JSON, microseconds for a request without the model's run, and for that run alone."""
    live = dispatcher.engine.live
    ((version, found),) = live.deployed.items()
    alone = alone_us(model, found.runtime, len(opened), turns)
    live.deployed[version] = dataclasses.replace(found, runtime=Hollow(found.runtime, found.width))
    try:
        return cost_us(dispatcher, opened, workload(model, "infer")[0], lambda *_: True, turns), alone
    finally:
        live.deployed[version] = found


def prepared(model: BenchModel, protocol: str):
    """Requests, and what verifies their answers."""
    if protocol == "binary":
        return binary_requests(model), checker(model.answers, binary_reader(model))
    return workload(model, "infer")


def main() -> int:
    """Measure and print: the median of the repeats, which take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["TAB", "MLP"])
    parser.add_argument("--protocols", type=listed, default=["json", "binary"])
    parser.add_argument("--batches", type=listed, default=["1", "16", "64"])
    parser.add_argument("--requests", type=int, default=6400, help="for each figure")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hollow", action="store_true")
    given = parser.parse_args()
    columns = [*given.protocols, *(("hollow", "model alone") if given.hollow else ())]
    print(f"{'work':6} {'batch':>5}" + "".join(f" {name + ' µs':>15}" for name in columns))
    for model in map(made, given.models):
        for batch in map(int, given.batches):
            with TemporaryDirectory(prefix="trimtab-bench-inside-") as folder:
                dispatcher, opened = worker(home_with(model, Path(folder) / "home"), Path(folder), batch)
                found = {name: [] for name in columns}
                for _ in range(given.repeats):
                    for name in given.protocols:
                        requests, check = prepared(model, name)
                        turns = max(1, given.requests // batch)
                        found[name].append(cost_us(dispatcher, opened, requests, check, turns))
                    more = hollow_us(dispatcher, opened, model, turns) if given.hollow else ()
                    for name, cost in zip(columns[len(given.protocols) :], more, strict=True):
                        found[name].append(cost)
            medians = [sorted(costs)[len(costs) // 2] for costs in found.values()]
            print(f"{model.name:6} {batch:5}" + "".join(f" {cost:15.1f}" for cost in medians), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
