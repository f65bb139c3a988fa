"""A model of two columns and tables of rows for it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from tests.e2e.worker_house import onnx_model

import trimtab as tt
from trimtab.adapters.clock.system import SystemClock
from trimtab.app.alone import register_model
from trimtab.app.batches import BatchRequest
from trimtab.app.scoring import run_batch

COLUMNS = ["basket", "visits"]


def registered(home, *, bias=0.0, optional=()):
    task = tt.binary(positive="bought")
    return register_model(home, onnx_model(bias, 2), name="m", task=task, columns=COLUMNS, optional=optional)


def frame(rows=1000, seed=0):
    rng = np.random.default_rng(seed)
    basket, visits = rng.normal(0, 500, rows), rng.normal(0, 500, rows).astype(np.float32)
    return pa.table({"id": np.arange(rows) + 100, "basket": basket, "visits": visits})


def expected(table, bias=0.0):
    values = np.stack([table[name].to_numpy().astype(np.float32) for name in COLUMNS], axis=1)
    return 1 / (1 + np.exp(-(values.astype(np.float64).sum(axis=1) * 0.001 + bias)))


def run(home, rows, out, **more):
    return run_batch(home, BatchRequest("m", rows, str(out), **more), clock=SystemClock())
