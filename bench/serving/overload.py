"""Ten times what a worker can do: how much of its capacity still comes out, and how late.

    python bench/serving/overload.py --models DEEP,TAB --seconds 5

One worker on one core, the generator on the other. First the capacity: what 64 connections get in a closed loop. Then an
open load at multiples of it, every request with a deadline; a request that is due while all connections are busy is given
up by the generator and counted as unsent. Goodput counts the right answers that came within their deadline.

What a refusal costs the worker decides: at ten times the capacity nine requests are refused for each that is answered.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from rig.load import drive, hold
from rig.measure import server, settle, workload
from rig.models import made
from rig.options import common, finished, listed
from rig.ours import home_with
from rig.processes import LOAD_CORE, cpu_seconds, stay_on
from rig.report import machine


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["DEEP", "MLP", "TAB"])
    parser.add_argument("--deadline-ms", type=int, default=250)
    parser.add_argument("--times", type=listed, default=["1", "2", "10"])
    return finished(common(parser, servers=["trimtab"], seconds=5.0, connections=["1000"], repeats=1).parse_args())


def with_deadline(request: bytes, milliseconds: int) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    return head + b"\r\nX-Trimtab-Deadline-Ms: %d\r\n\r\n" % milliseconds + body


def run(name: str, given: argparse.Namespace, folder: Path) -> list[dict[str, float | str]]:
    model = made(name)
    ours = server(given.servers[0])
    requests, check = workload(model, "infer")
    patient = [with_deadline(request, 60_000) for request in requests]
    hasty = [with_deadline(request, given.deadline_ms) for request in requests]
    started, port = ours.started(home_with(model, folder / name))
    address, found = ("127.0.0.1", port), []
    try:
        settle(address, requests, check)
        drive(address, patient, check, connections=64, seconds=1.0)
        capacity = drive(address, patient, check, connections=64, seconds=given.seconds).rate
        for times in map(float, given.times):
            before = cpu_seconds(started.pid)
            load = hold(
                address, hasty, check, connections=int(given.connections[0]), rate=capacity * times,
                seconds=given.seconds, shed=True,
            )  # fmt: skip
            spent = cpu_seconds(started.pid) - before
            timely = int((load.right_ns <= given.deadline_ms * 1_000_000).sum())
            found.append(
                {
                    "model": name,
                    "times": times,
                    "capacity": capacity,
                    "offered": (load.requests + load.unsent) / load.seconds,
                    "goodput": timely / load.seconds,
                    "share": timely / load.seconds / min(capacity, capacity * times),
                    "late": len(load.right_ns) - timely,
                    "p99_ms": float(np.quantile(load.right_ns, 0.99)) / 1e6 if len(load.right_ns) else float("nan"),
                    "refused": load.refused,
                    "unsent": load.unsent,
                    "other_errors": load.errors - load.refused,
                    "wrong": load.wrong,
                    "core": spent / load.seconds,
                }
            )
    finally:
        started.stop()
    return found


def main() -> int:
    given = options()
    stay_on(LOAD_CORE)
    print(machine())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            rows += run(name, given, Path(folder))
    columns = ("model", "times", "capacity", "offered", "goodput", "share", "p99_ms", "late", "refused", "unsent")
    columns += ("other_errors", "wrong", "core")
    print("  ".join(f"{column:>12}" for column in columns))
    for row in rows:
        print("  ".join(f"{v:>12.2f}" if isinstance(v := row[column], float) else f"{v:>12}" for column in columns))
    if given.json:
        Path(given.json).write_text(json.dumps(rows))
    return 1 if any(row["wrong"] or row["other_errors"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
