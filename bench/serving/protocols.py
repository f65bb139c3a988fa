"""One row over each protocol: JSON, binary tensors over HTTP, gRPC with raw and with typed contents.

    python bench/serving/protocols.py [--protocols json,binary,grpc,grpc-typed] [--models TAB,MLP] [--short]

gRPC needs `grpcio` where this runs and in the worker (`pip install 'trimtab[grpc]'`). Its generator is grpc.aio, which
is slow itself: read the CPU of the server, not the rate.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from rig.load import ServerLost, drive
from rig.measure import Measured, judged, server, workload
from rig.models import BenchModel, checker, made
from rig.options import common, finished, listed
from rig.ours import home_with
from rig.processes import LOAD_CORE, NotStarted, Started, cpu_seconds, free_port, memory_mib, stay_on
from rig.protocols import binary_reader, binary_requests, drive_grpc, grpc_requests, grpc_values
from rig.report import machine, medians, print_problems, print_table, write_json

PROTOCOLS = ["json", "binary", "grpc", "grpc-typed"]


def prepared(protocol: str, model: BenchModel, port: int, grpc_port: int) -> Callable:
    """A function that loads the server over a protocol; takes connections, seconds, count."""
    if protocol.startswith("grpc"):
        requests = grpc_requests(model, raw=protocol == "grpc")
        check = checker(model.answers, grpc_values)
        return lambda **more: drive_grpc(grpc_port, requests, check, **more)
    if protocol == "binary":
        requests, check = binary_requests(model), checker(model.answers, binary_reader(model))
    else:
        requests, check = workload(model, "infer")
    return lambda **more: drive(("127.0.0.1", port), requests, check, **more)


def run(spec: str, model: BenchModel, given: argparse.Namespace, problems: dict[str, str]) -> list[Measured]:
    """One worker, every protocol in turn."""
    found = []
    ours, grpc_port = server(spec), free_port()
    grpc = any(protocol.startswith("grpc") for protocol in given.protocols)
    with TemporaryDirectory(prefix="trimtab-bench-protocols-") as folder:
        home = home_with(model, Path(folder) / "home")
        started, port = ours.started(home, **({"grpc_port": grpc_port} if grpc else {}))
        try:
            for protocol in given.protocols:
                load_with = prepared(protocol, model, port, grpc_port)
                try:
                    if grpc and protocol.startswith("grpc"):
                        started.wait_for_port(grpc_port, timeout_s=3)
                    labels = (protocol, model.name)
                    found += [one(started, load_with, labels, int(number), given) for number in given.connections]
                except (NotStarted, ServerLost, OSError) as error:
                    problems[f"{protocol} on {model.name}"] = str(error)
        finally:
            started.stop()
            ours.close()
    return found


def one(started: Started, load_with, labels: tuple[str, str], connections: int, given) -> Measured:
    """Warm up, then measure."""
    load_with(connections=connections, seconds=0.5)
    before, own = cpu_seconds(started.pid), sum(os.times()[:2])
    seconds = 0.0 if given.requests else given.seconds
    load = load_with(connections=connections, seconds=seconds, count=given.requests)
    spent, own = cpu_seconds(started.pid) - before, sum(os.times()[:2]) - own
    return judged(load, labels, connections, spent, own, memory_mib(started.pid))


def main() -> int:
    """Measure and print; 1 when any answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["TAB", "MLP"])
    parser.add_argument("--protocols", type=listed, default=PROTOCOLS)
    given = finished(common(parser, servers=["trimtab"], seconds=2.0).parse_args())
    models = [made(name) for name in given.models]
    stay_on(LOAD_CORE)
    runs: list[Measured] = []
    problems: dict[str, str] = {}
    began = time.perf_counter()
    for _ in range(given.repeats):
        for model in models:
            runs += run(given.servers[0], model, given, problems)
    print(machine() | {"seconds": given.seconds, "repeats": given.repeats, "took": round(time.perf_counter() - began)})
    print_table(medians(runs), base=given.protocols[0])
    print_problems(problems, runs)
    write_json(given.json, runs, problems)
    return int(any(run.errors or run.wrong for run in runs))


if __name__ == "__main__":
    sys.exit(main())
