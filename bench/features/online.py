"""Online rows: microseconds per row written and read, beside the bare store doing the same gets and puts.

Run: ``python bench/features/online.py [--events 40000] [--store memory|lmdb]``. Four entities, windows of 3h, 24h and
7d, a count and two means, batches of about five, as in a replay. CPU time, the median of three runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from trimtab.core.clock import SECOND
from trimtab.features.batch import RequestBatch
from trimtab.features.online import OnlineReader, OnlineWriter
from trimtab.features.plan import compile_plan
from trimtab.features.sources import Entity, Events, Requests
from trimtab.features.views import windows

ENTITIES = [Entity(name) for name in ("carrier", "origin", "tail", "route")]
COUNTS = {"carrier": 15, "origin": 3, "tail": 4000, "route": 220}
TRIPS = Requests("trips", id="id", at="ask", keys=ENTITIES, inputs={})


class DictStore:
    def __init__(self):
        self.rows = {}

    def get_many(self, keys):
        return [self.rows.get(key) for key in keys]

    def put_many(self, rows):
        self.rows.update(rows)


class Recorder:
    """Remembers the calls, so that the bare store can be timed on them."""

    def __init__(self, store):
        self.store, self.calls = store, []

    def get_many(self, keys):
        self.calls.append(list(keys))
        return self.store.get_many(keys)

    def put_many(self, rows):
        self.calls.append(rows)
        self.store.put_many(rows)


def made(events: int, kind: type):
    rng = np.random.default_rng(0)
    columns = {name: np.array([f"{name}{i}" for i in rng.zipf(1.3, events) % n]) for name, n in COUNTS.items()}
    delay = rng.normal(10, 30, events) if kind is float else rng.integers(-30, 300, events)
    return columns | {"at": np.sort(rng.integers(0, events * 90 * SECOND, events)), "late": delay > 15, "delay": delay}


def batches(columns, seed):
    rng = np.random.default_rng(seed)
    edges = np.unique(np.minimum(np.cumsum(rng.integers(1, 10, len(columns["at"]))), len(columns["at"])))
    return [
        (int(a), {name: c[a:b] for name, c in columns.items()}) for a, b in zip([0, *edges[:-1]], edges, strict=True)
    ]


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def once(kind: type, events: int, store, fresh_store) -> dict[str, float]:
    landings = Events("landings", time="at", known="at", keys=ENTITIES, schema={"late": bool, "delay": kind})
    view = windows(landings, by=ENTITIES, over=["3h", "24h", "7d"], count="*", mean=["late", "delay"])
    plan = compile_plan(TRIPS, [view], {})
    columns = made(events, kind)
    rows = events * len(ENTITIES)
    recorder = Recorder(store)
    writer, reader = OnlineWriter(plan.parts, recorder), OnlineReader(plan, store, {})
    parts = batches(columns, 1)
    out = {"write": seconds(lambda: [writer.apply("landings", part, first) for first, part in parts])}

    def bare(target):
        for call in recorder.calls:
            target.put_many(call) if isinstance(call, dict) else target.get_many(call)

    other = fresh_store()
    out["write, bare store"] = seconds(lambda: bare(other))
    now = int(columns["at"][-1])
    asked = [
        RequestBatch([""] * len(p["at"]), np.full(len(p["at"]), now), {e: p[e] for e in COUNTS}, {}) for _, p in parts
    ]
    out["read"] = seconds(lambda: [reader.read(batch) for batch in asked])
    gets = [call for call in recorder.calls if not isinstance(call, dict)]
    out["read, bare store"] = seconds(lambda: [store.get_many(keys) for keys in gets])
    bulk = OnlineWriter(plan.parts, fresh_store())
    out["write in one batch"] = seconds(lambda: bulk.apply("landings", columns, 0))
    return {name: taken / rows * 1e6 for name, taken in out.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--store", choices=["memory", "lmdb"], default="lmdb")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        number = iter(range(1000))

        def store():
            if options.store == "memory":
                return DictStore()
            from trimtab.adapters.online.lmdb import LmdbRows

            return LmdbRows(Path(folder) / str(next(number)), durable=False)

        for kind in (int, float):
            runs = [once(kind, options.events, store(), store) for _ in range(3)]
            for name in runs[0]:
                print(f"{kind.__name__:6} {name:22} {statistics.median(run[name] for run in runs):7.2f} µs per row")


if __name__ == "__main__":
    main()
