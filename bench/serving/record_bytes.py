"""Bytes on disk after a million predictions of one worker: what is written, and what stays.

python bench/serving/record_bytes.py [ROWS]

Rows are made by the encoder and the compactor that the worker and the control process use; the values are those of
different requests, so that nothing compresses better than it would in earnest. Fewer rows than a million are written
into files that are smaller in the same proportion, and the keeper comes by now and then, so that what is left is the
steady state: the last files of the spool, and Parquet.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.deletion import delete_compacted, usage
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.records.tail import SEGMENT_BYTES
from trimtab.core.ids import sha256
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.serving.answers import Answers
from trimtab.serving.record import PREDICTIONS
from trimtab.serving.recording import encode_records

AT = 1_790_000_000_000_000
BATCH = 16
VISITS = 5


def _ids(count: int) -> list[str]:
    front = secrets.token_hex(8)
    return [f"{front}{number:08x}" for number in range(count)]


def tab(rng: np.random.Generator, count: int) -> tuple[RequestBatch, FeatureBatch]:
    """A tensor request: 20 numbers that the caller sent, with no more than four digits."""
    at = AT + rng.integers(0, 3_600_000_000, count)
    values = rng.normal(size=(count, 20)).astype(np.float32).round(4)
    return RequestBatch(_ids(count), at, {}, {}), FeatureBatch(values, values[:, :0], {}, ())


def windows(rng: np.random.Generator, count: int) -> tuple[RequestBatch, FeatureBatch]:
    """A ``/predict`` request: 4 entities, 3 inputs, 56 window features (whole counts and means) of 2 sources."""
    at = AT + rng.integers(0, 3_600_000_000, count)
    counts, means = rng.poisson(30, (count, 28)), rng.gamma(2.0, 20.0, (count, 28))
    keys = {name: rng.integers(0, 10_000, count).astype(str) for name in ("user", "shop", "item", "region")}
    inputs = {name: rng.gamma(2.0, 20.0, count).round(2) for name in ("basket", "weight", "distance")}
    values = np.hstack([counts, means]).astype(np.float32)
    ages = rng.gamma(2.0, 20.0, (count, 2)).astype(np.float32)
    marks = {"sales": (1_234_567, AT), "visits": (7_654_321, AT)}
    return RequestBatch(_ids(count), at, keys, inputs), FeatureBatch(values, ages, marks, ())


def measure(name: str, made: tuple[RequestBatch, FeatureBatch], outputs: np.ndarray) -> None:
    """Write, keep, print."""
    requests, features = made
    timings = (21, 14, 0, 55, 0, 9)
    given = Answers(requests, features, sha256(name.encode()), "champion", "", outputs, timings)
    rows = encode_records(given, name)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        records = SpoolRecords(root, "w", segment_bytes=int(SEGMENT_BYTES * len(rows) / 1e6))
        visits, cpu, end = {len(rows) * visit // VISITS // BATCH * BATCH for visit in range(1, VISITS)}, 0.0, 0
        for start in range(0, len(rows), BATCH):
            end = records.write(PREDICTIONS, rows[start : start + BATCH]).offset
            if start in visits:
                cpu += keep(records)
        cpu += keep(records)
        left = usage(records.directory(PREDICTIONS))
        assert sum(1 for _ in records.scan(PREDICTIONS)) == len(rows)
    spool, parquet, written = (size / len(rows) for size in (left.spools, left.parquet, end))
    print(
        f"{name:<44} {written:8.0f} MB written {spool + parquet:8.0f} MB stay: {spool:.0f} spool + {parquet:.0f} Parquet;"
        f" keeper {cpu / len(rows) * 1e6:.0f} us CPU a row"
    )


def keep(records: SpoolRecords) -> float:
    """What the control process does every five minutes; the CPU seconds of it."""
    began = time.process_time()
    compact(records, records.index(PREDICTIONS).directory)
    delete_compacted(records, PREDICTIONS)
    return time.process_time() - began


def main(rows: int) -> None:
    """Print both."""
    rng = np.random.default_rng(0)
    outputs = rng.random(rows)
    print(f"after a million predictions of one worker, from {rows:,}, {BATCH} in a batch:")
    measure("TAB: 20 numbers, by tensor", tab(rng, rows), outputs)
    measure("/predict: 4 entities, 3 inputs, 56 features", windows(rng, rows), outputs)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
