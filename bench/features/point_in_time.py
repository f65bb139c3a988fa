"""Point in time: CPU seconds for windows of 1h, 24h and 7d, beside the limit of numpy on ready-made integer keys.

Run: ``python bench/features/point_in_time.py [--events 1000000] [--requests 200000]``. The limit is the least that any
correct method in numpy does: one sort by key, a ``searchsorted`` per window end, differences of int64 running sums of a
count and a whole number, with keys that are small integers already. Ours starts from string keys and returns the whole
float32 matrix. Floats and extremes have no such simple limit; they are compared with it too.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from trimtab.core.clock import DAY, HOUR, SECOND
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History, point_in_time
from trimtab.features.plan import compile_plan
from trimtab.features.sources import Entity, Events, Requests, column
from trimtab.features.views import hop_of, windows

USER = Entity("user")
CLICKS = Events(
    "clicks",
    time="at",
    known="seen",
    keys=[USER],
    schema={"cents": int, "price": float, "score": column(float, optional=True)},
)
ASKS = Requests("asks", id="id", at="at", keys=[USER], inputs={})
LENGTHS = (HOUR, DAY, 7 * DAY)


def world(events: int, requests: int):
    rng = np.random.default_rng(0)
    codes, asked = rng.zipf(1.2, events) % 100_000, rng.zipf(1.2, requests) % 100_000
    seen = np.sort(rng.integers(0, 90 * DAY, events))
    score = rng.normal(size=events)
    score[rng.random(events) < 0.1] = np.nan
    columns = {
        "at": seen - rng.exponential(60, events).astype(np.int64) * SECOND,
        "seen": seen,
        "user": codes.astype("U6"),
        "cents": rng.integers(-1000, 100_000, events),
        "price": rng.lognormal(size=events),
        "score": score,
    }
    at = rng.integers(0, 90 * DAY, requests)
    batch = RequestBatch([""] * requests, at, {"user": asked.astype("U6")}, {})
    return History.of(CLICKS, columns), batch, codes, asked


def limit(known, codes, values, at, asked):
    n = len(known)
    order = np.argsort(codes * n + np.arange(n))
    places = codes[order] * n + order
    running = np.concatenate([[0], np.cumsum(values[order])])
    out = np.empty((len(at), 3 * len(LENGTHS)), np.float32)
    high = places.searchsorted(asked * n + known.searchsorted(at, "right"))
    for place, length in enumerate(LENGTHS):
        first = known.searchsorted((at - length) // hop_of(length) * hop_of(length))
        low = places.searchsorted(asked * n + first)
        total = running[high] - running[low]
        out[:, 3 * place], out[:, 3 * place + 1] = high - low, total
        with np.errstate(invalid="ignore"):
            out[:, 3 * place + 2] = total / (high - low)
    return out


def median(work) -> float:
    taken = []
    for _ in range(3):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=200_000)
    options = parser.parse_args()
    history, batch, codes, asked = world(options.events, options.requests)
    bare = median(lambda: limit(history.known, codes, history.columns["cents"], batch.at, asked))
    print(f"{'limit: count, sum and mean of an int':52} {bare:6.2f} CPU-s")
    lengths = ["1h", "24h", "7d"]
    views = {
        "count, sum and mean of an int": {"count": "*", "sum": ["cents"], "mean": ["cents"]},
        "sum and mean of a float": {"sum": ["price"], "mean": ["price"]},
        "sum and mean of a float, some missing": {"sum": ["score"], "mean": ["score"]},
        "min and max of a float": {"min": ["price"], "max": ["price"]},
        "count, sum and mean of an int, along event time": {
            "count": "*",
            "sum": ["cents"],
            "mean": ["cents"],
            "along": "time",
        },
    }
    for name, options_of_view in views.items():
        plan = compile_plan(ASKS, [windows(CLICKS, by=[USER], over=lengths, **options_of_view)], {})
        ours = median(lambda plan=plan: point_in_time(plan, {"clicks": history}, batch, {}))
        print(f"{name:52} {ours:6.2f} CPU-s   {ours / bare:5.2f} times the limit")
    plan = compile_plan(ASKS, [windows(CLICKS, by=[USER], over=lengths, count="*", sum=["cents"], mean=["cents"])], {})
    np.testing.assert_array_equal(
        point_in_time(plan, {"clicks": history}, batch, {}),
        limit(history.known, codes, history.columns["cents"], batch.at, asked),
    )


if __name__ == "__main__":
    main()
