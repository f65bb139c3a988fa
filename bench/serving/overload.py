"""Ten times what a worker can do: how much of its capacity still comes out, and how late.

    python bench/serving/overload.py --models DEEP,TAB --seconds 5

One worker on one core, the generator on the other. First the capacity: what 64 connections get in a closed loop. Then an
open load at multiples of it, every request with a deadline; a request that is due while all connections are busy is given
up by the generator and counted as unsent. Then the capacity again, for the machine's speed changes within seconds: the
share is of the mean of both. Goodput counts the right answers that came within their deadline.

What refusals cost the worker decides: at ten times the capacity nine requests are refused for each that is answered. A
worker turns away so many a second and no more; who waits for that keeps his connection busy, so that an open load over
a bounded number of connections finds fewer of them free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from rig.load import Load, drive, hold
from rig.measure import server, settle, workload
from rig.models import made
from rig.options import common, finished, listed
from rig.ours import home_with
from rig.processes import LOAD_CORE, cpu_seconds, stay_on
from rig.report import machine

Row = dict[str, float | str]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["DEEP", "MLP", "TAB"])
    parser.add_argument("--deadline-ms", type=int, default=250)
    parser.add_argument("--times", type=listed, default=["1", "2", "10"])
    return finished(common(parser, servers=["trimtab"], seconds=5.0, connections=["1000"], repeats=3).parse_args())


def with_deadline(request: bytes, milliseconds: int) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    return head + b"\r\nX-Trimtab-Deadline-Ms: %d\r\n\r\n" % milliseconds + body


def run(name: str, given: argparse.Namespace, folder: Path) -> list[Row]:
    model = made(name)
    ours = server(given.servers[0])
    requests, check = workload(model, "infer")
    patient = [with_deadline(request, 60_000) for request in requests]
    hasty = [with_deadline(request, given.deadline_ms) for request in requests]
    started, port = ours.started(home_with(model, folder / name))
    address = ("127.0.0.1", port)

    def capacity() -> float:
        return drive(address, patient, check, connections=64, seconds=given.seconds / 2).rate

    found: list[Row] = []
    try:
        settle(address, requests, check)
        drive(address, patient, check, connections=64, seconds=1.0)
        for _ in range(given.repeats):
            for times in map(float, given.times):
                before, spent = capacity(), -cpu_seconds(started.pid)
                load = hold(
                    address, hasty, check, connections=int(given.connections[0]), rate=before * times,
                    seconds=given.seconds, shed=True,
                )  # fmt: skip
                spent += cpu_seconds(started.pid)
                both = (before + capacity()) / 2
                found.append(row_of(load, name, times, given.deadline_ms, capacity=both, spent=spent))
    finally:
        started.stop()
    return found


def row_of(load: Load, name: str, times: float, deadline_ms: int, *, capacity: float, spent: float) -> Row:
    timely = int((load.right_ns <= deadline_ms * 1_000_000).sum())
    return {
        "model": name,
        "times": times,
        "capacity": capacity,
        "offered": (load.requests + load.unsent) / load.seconds,
        "sent": load.requests / load.seconds,
        "goodput": timely / load.seconds,
        "share": timely / load.seconds / min(capacity, capacity * times),
        "p99_ms": float(np.quantile(load.right_ns, 0.99)) / 1e6 if len(load.right_ns) else float("nan"),
        "late": len(load.right_ns) - timely,
        "refused": load.refused / load.seconds,
        "unsent": load.unsent,
        "other_errors": load.errors - load.refused,
        "wrong": load.wrong,
        "core": spent / load.seconds,
    }


def medians(rows: list[Row]) -> list[Row]:
    """One row per model and multiple; what must not happen at all is added up."""
    found = []
    for model, times in dict.fromkeys((row["model"], row["times"]) for row in rows):
        same = [row for row in rows if (row["model"], row["times"]) == (model, times)]
        middle = {name: statistics.median([float(row[name]) for row in same]) for name in list(same[0])[2:]}
        added = {name: sum(int(row[name]) for row in same) for name in ("late", "other_errors", "wrong")}
        found.append({"model": model, "times": times} | middle | added)
    return found


def main() -> int:
    given = options()
    stay_on(LOAD_CORE)
    print(machine())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            rows += run(name, given, Path(folder))
    print("  ".join(f"{column:>12}" for column in rows[0]))
    for row in medians(rows):
        print("  ".join(f"{value:>12.2f}" if isinstance(value, float) else f"{value:>12}" for value in row.values()))
    for model in given.models:
        shares = [row["share"] for row in rows if row["model"] == model and row["times"] == float(given.times[-1])]
        print(f"{model} at {given.times[-1]} times, share of each repeat: {' '.join(f'{one:.2f}' for one in shares)}")
    if given.json:
        Path(given.json).write_text(json.dumps(rows))
    return 1 if any(row["wrong"] or row["other_errors"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
