"""What the cache of predictions costs and spares: the infer stage without it, on a hit and on a miss, interleaved.

PYTHONPATH=src python bench/serving/cache.py [--repeats 5] [--calls 200]

Medians over the repeats of microseconds per batch, one thread of ONNX Runtime. "pays from" is the share of hits above
which the cache spares more than its misses cost.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from batch import net, trees

import trimtab as tt
from trimtab.app.alone import register_model
from trimtab.app.batches import batch_home
from trimtab.app.loading import live_pipeline, load_deployed
from trimtab.serving.cache import CachedInfer, PredictionCache
from trimtab.serving.meter import LocalCells, Meter
from trimtab.serving.pipeline import Deployed, infer
from trimtab.testing.memory import MemoryRows

ROWS = (1, 8, 64)


def models(root: Path) -> dict[str, tuple[Deployed, int]]:
    """The two models of the speed table, loaded, with their number of features."""
    rng = np.random.default_rng(1)
    found = {}
    for name, (model, width), task in (
        ("100 trees of 31 leaves", trees(), tt.binary(positive="yes")),
        ("net 512-1024-1024-8", net((512, 1024, 1024, 8)), tt.regression(target=[f"y{n}" for n in range(8)])),
    ):
        rows = rng.normal(size=(64, width)).astype(np.float32)
        home = root / str(width)
        columns = [f"x{n}" for n in range(width)]
        version = register_model(home, model, name="m", task=task, columns=columns, rows=rows)
        found[name] = load_deployed(batch_home(home).blobs(), MemoryRows(), version), width
    return found


def timed(call, batches) -> float:
    """Microseconds per batch."""
    start = time.perf_counter_ns()
    for values in batches:
        call(values)
    return (time.perf_counter_ns() - start) / 1000 / len(batches)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200)
    given = parser.parse_args()
    rng = np.random.default_rng(2)
    meter, timer = Meter(LocalCells()), live_pipeline().timer
    print(f"{os.cpu_count()} cores, numpy {np.__version__}; µs per batch")
    print(f"{'model':26} {'rows':>4} {'without':>9} {'hit':>9} {'miss':>9} {'pays from':>10}")
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-cache-") as folder:
        for name, (deployed, width) in models(Path(folder)).items():
            for rows in ROWS:
                bare, hits, misses = [], [], []
                for _ in range(given.repeats):
                    calls = max(given.calls // rows, 20)
                    batches = [rng.normal(size=(rows, width)).astype(np.float32) for _ in range(calls)]
                    stage = CachedInfer(
                        PredictionCache(1 << 28, ttl_ns=10**12, timer=timer),
                        count=lambda model, result: meter.counter("c", {"model": model, "result": result}),
                    )
                    infer(deployed, batches[0])
                    bare.append(timed(lambda values, one=deployed: infer(one, values), batches))
                    misses.append(timed(lambda values, one=deployed, stage=stage: stage(one, values), batches))
                    hits.append(timed(lambda values, one=deployed, stage=stage: stage(one, values), batches))
                without, hit, miss = (statistics.median(some) for some in (bare, hits, misses))
                pays = max(miss - without, 0.0) / max(max(miss - without, 0.0) + without - hit, 1e-9)
                said = f"{pays:9.0%}" if hit < without else "never"
                print(f"{name:26} {rows:4} {without:9.1f} {hit:9.1f} {miss:9.1f} {said:>10}")


if __name__ == "__main__":
    main()
