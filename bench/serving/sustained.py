"""A rate held for minutes: latency from when each request was due, CPU, memory, and bytes of records.

    python bench/serving/sustained.py --rate 10000 --seconds 300        # one worker on one core
    python bench/serving/sustained.py                                   # at 70 % of what 64 connections reach

One worker on one core, the generator on the other. The load is open: requests come at their time whatever the server
does. At the end it says, from the CPU that a request took at this rate, how many such cores 10,000 requests a second
take; that is an extrapolation, and the part of it that is measured is one core.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
from rig.load import Load, drive, hold
from rig.measure import server, settle, workload
from rig.models import made
from rig.options import common, finished
from rig.ours import home_with
from rig.processes import LOAD_CORE, Started, cpu_seconds, memory_mib, stay_on
from rig.report import machine

WANTED = 10_000
SHARE = 0.7
"""How busy a core may be when latency is to stay low; the extrapolation is made with it."""
WINDOW_S = 10.0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="TAB")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0 takes 70 %% of the most")
    given = common(parser, servers=["trimtab"], seconds=300.0, connections=["64"], repeats=1).parse_args()
    return finished(given)


def spool_bytes(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "records").rglob("*") if path.is_file())


def run(spec: str, given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Find the most, then hold the rate and print window by window."""
    model = made(given.model)
    ours = server(spec)
    home = home_with(model, folder / "home")
    requests, check = workload(model, "infer")
    started, port = ours.started(home)
    address, connections = ("127.0.0.1", port), int(given.connections[0])
    try:
        settle(address, requests, check)
        drive(address, requests, check, connections=connections, seconds=1.0)
        most = drive(address, requests, check, connections=connections, seconds=min(5.0, given.seconds)).rate
        rate = given.rate or round(most * SHARE, -2)
        print(
            f"{spec}: at most {most:.0f}/s with {connections} connections; holding {rate:.0f}/s for {given.seconds:g} s"
        )
        before = spool_bytes(home.root)
        found, cpu, wall = held(started, address, requests, check, connections, rate, given.seconds)
        row = {
            "most_rps": most,
            "rate": rate,
            "held_rps": found.requests / wall,
            "cpu_us": cpu / found.requests * 1e6,
            "busy": cpu / wall,
            "p50_ms": found.quantile_ms(0.5),
            "p99_ms": found.quantile_ms(0.99),
            "p999_ms": found.quantile_ms(0.999),
            "most_ms": found.quantile_ms(1.0),
            "errors": found.errors,
            "wrong": found.wrong,
            "memory_mib": memory_mib(started.pid),
            "record_bytes": (spool_bytes(home.root) - before) / found.requests,
        }
    finally:
        started.stop()
        ours.close()
    return row


def held(started: Started, address, requests, check, connections: int, rate: float, seconds: float):
    """Windows of ten seconds, on new connections each: a line for each, and all of them together."""
    total, cpu, wall, begun = Load(), 0.0, 0.0, time.perf_counter()
    parts = []
    for number in range(max(1, math.ceil(seconds / WINDOW_S))):
        span = min(WINDOW_S, seconds - number * WINDOW_S)
        before = cpu_seconds(started.pid)
        load = hold(address, requests, check, connections=connections, rate=rate, seconds=span)
        spent = cpu_seconds(started.pid) - before
        cpu, wall = cpu + spent, wall + load.seconds
        total.requests += load.requests
        total.errors += load.errors
        total.wrong += load.wrong
        total.first_error = total.first_error or load.first_error
        parts.append(load.latencies_ns)
        print(
            f"  {time.perf_counter() - begun:6.0f} s {load.rate:7.0f}/s p50 {load.quantile_ms(0.5):7.3f} p99 "
            f"{load.quantile_ms(0.99):7.3f} most {load.quantile_ms(1.0):8.2f} ms, core {spent / load.seconds:.2f}, "
            f"{memory_mib(started.pid):.0f} MiB, bad {load.errors + load.wrong}"
        )
    total.latencies_ns = np.concatenate(parts)
    return total, cpu, wall


def main() -> int:
    """Measure and print; 1 when an answer was wrong or the rate was not held."""
    import tempfile

    given = options()
    made(given.model)
    stay_on(LOAD_CORE)
    print(machine())
    rows = {}
    for spec in given.servers:
        with tempfile.TemporaryDirectory(prefix="trimtab-bench-sustained-") as folder:
            row = rows[spec] = run(spec, given, Path(folder))
        print(
            f"{spec}: {row['held_rps']:.0f}/s held, {row['cpu_us']:.1f} µs CPU a request, core {row['busy']:.2f}, p50 "
            f"{row['p50_ms']:.2f} p99 {row['p99_ms']:.2f} p99.9 {row['p999_ms']:.2f} ms, bad "
            f"{row['errors'] + row['wrong']}, {row['memory_mib']:.0f} MiB, records {row['record_bytes']:.0f} bytes each "
            f"({row['record_bytes']:.0f} MB a million)"
        )
        cores = WANTED * row["cpu_us"] / 1e6
        print(
            f"extrapolated: {WANTED}/s take {cores:.2f} cores of this kind fully busy, {math.ceil(cores / SHARE)} worker(s) "
            f"at {SHARE:.0%}; without what the kernel needs to spread the load"
        )
    if given.json:
        Path(given.json).write_text(json.dumps({"machine": machine(), "rows": rows}) + "\n")
    failed = any(row["errors"] or row["wrong"] or row["held_rps"] < 0.99 * row["rate"] for row in rows.values())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
