"""Bytes on disk per million predictions, as records (spool) and as Parquet.

python bench/serving/record_bytes.py [ROWS]

Rows are made by the encoder and the compactor that the worker and the control process use; the values are those of
different requests, so that nothing compresses better than it would in earnest.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from pathlib import Path

import numpy as np

from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.core.ids import sha256
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.serving.answers import Answers
from trimtab.serving.record import PREDICTIONS
from trimtab.serving.recording import encode_records

AT = 1_790_000_000_000_000
BATCH = 16


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
    """Write, compact, print."""
    requests, features = made
    timings = (21, 14, 0, 55, 0, 9)
    given = Answers(requests, features, sha256(name.encode()), "champion", "", outputs, timings)
    rows = encode_records(given, name)
    with tempfile.TemporaryDirectory() as folder:
        records, target = SpoolRecords(Path(folder) / "records", "w"), Path(folder) / "parquet"
        for start in range(0, len(rows), BATCH):
            records.write(PREDICTIONS, rows[start : start + BATCH])
        compact(records, target)
        spool = sum(path.stat().st_size for path in (Path(folder) / "records").rglob("*.spool"))
        parquet = sum(path.stat().st_size for path in target.rglob("*.parquet"))
    scale = 1e6 / len(rows) / 1e6
    print(f"{name:<44} {spool * scale:8.0f} MB spool {parquet * scale:8.0f} MB Parquet")


def main(rows: int) -> None:
    """Print both."""
    rng = np.random.default_rng(0)
    outputs = rng.random(rows)
    print(f"per million predictions, from {rows:,}, {BATCH} in a batch:")
    measure("TAB: 20 numbers, by tensor", tab(rng, rows), outputs)
    measure("/predict: 4 entities, 3 inputs, 56 features", windows(rng, rows), outputs)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
