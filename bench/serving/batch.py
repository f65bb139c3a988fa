"""Batch scoring beside bare ONNX Runtime on matrices that are ready: rows per second, interleaved, medians.

PYTHONPATH=src python bench/serving/batch.py [--rows 1000000] [--repeats 3] [--threads 2]

"scoring" is what the pipeline takes for tables in memory: columns to matrix, checks, model, postprocessing, answers as a
table. "whole" is `trimtab batch` from a Parquet file to a Parquet file, fsync and resumability included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

import trimtab as tt
from trimtab.adapters.clock.system import SystemClock
from trimtab.adapters.offline.tables import FrameTable
from trimtab.app.alone import register_model
from trimtab.app.batches import CHUNK, SENT, BatchRequest, Run, batch_home, make_scorer
from trimtab.app.scoring import run_batch
from trimtab.registry.bundle import load


def trees() -> tuple[object, int]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 20)).astype(np.float32)
    y = (rows[:, 0] + rows[:, 1] * rows[:, 2] + rng.normal(size=len(rows)) > 0).astype(int)
    return lgb.LGBMClassifier(n_estimators=100, num_leaves=31, verbose=-1, n_jobs=2).fit(rows, y), 20


def net(sizes: tuple[int, ...]) -> tuple[bytes, int]:
    rng = np.random.default_rng(0)
    nodes, weights, held = [], [], "x"
    for place, (wide, out) in enumerate(pairwise(sizes)):
        weights += [
            numpy_helper.from_array((rng.normal(size=(wide, out)) / wide**0.5).astype(np.float32), f"w{place}"),
            numpy_helper.from_array(np.zeros(out, np.float32), f"b{place}"),
        ]
        nodes.append(helper.make_node("Gemm", [held, f"w{place}", f"b{place}"], [f"z{place}"]))
        last = place == len(sizes) - 2
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"z{place}"], [f"h{place}"]))
        held = f"h{place}"
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", sizes[0]])],
        [helper.make_tensor_value_info(held, TensorProto.FLOAT, ["n", sizes[-1]])],
        weights,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString(), sizes[0]


def bare(data: bytes, matrix: np.ndarray, threads: int, piece: int, spin: bool) -> float:
    """Rows per second of ONNX Runtime alone, with the threads and the rows per call of its best."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name, out = session.get_inputs()[0].name, session.get_outputs()[-1].name
    session.run([out], {name: matrix[:piece]})
    start = time.perf_counter()
    for first in range(0, len(matrix), piece):
        session.run([out], {name: matrix[first : first + piece]})
    return len(matrix) / (time.perf_counter() - start)


def compare(name: str, model: object, width: int, rows: int, *, repeats: int, threads: int) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(rows, width)).astype(np.float32)
    columns = [f"c{place}" for place in range(width)]
    table = pa.table({"id": np.arange(rows)} | {c: np.ascontiguousarray(matrix[:, p]) for p, c in enumerate(columns)})
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        version = register_model(
            root / "home", model, name="m", task=tt.binary(positive="1"), columns=columns, rows=matrix[:2000]
        )
        pq.write_table(table, root / "rows.parquet", row_group_size=100_000, compression="zstd")
        home = batch_home(root / "home")
        bundle = load(home.blobs(), version)
        tried = [(piece, spin) for piece in (8192, 65_536) for spin in (False, True)]
        best = max(tried, key=lambda kind: bare(bundle.model, matrix[: rows // 4], threads, *kind))
        figures: dict[str, list[float]] = {"bare": [], "scoring": [], "whole": []}
        scorer = make_scorer(
            root,
            home,
            bundle,
            Run("", "", "m", version, "id", SENT, 0, CHUNK, record=False, precompute=0),
            threads=threads,
        )
        chunks = list(FrameTable(table).chunks(CHUNK, scorer.intake.kinds, id="id"))
        for turn in range(repeats):
            figures["bare"].append(bare(bundle.model, matrix, threads, *best))
            start = time.perf_counter()
            for chunk in chunks:
                scorer.table(chunk, scorer.chunk(chunk))
            figures["scoring"].append(rows / (time.perf_counter() - start))
            asked = BatchRequest(
                "m", str(root / "rows.parquet"), str(root / f"s{turn}.parquet"), version, threads=threads
            )
            start = time.perf_counter()
            run_batch(root / "home", asked, clock=SystemClock())
            figures["whole"].append(rows / (time.perf_counter() - start))
    medians = {part: statistics.median(found) for part, found in figures.items()}
    print(
        f"{name}: {rows:,} rows, {threads} threads, bare at {best[0]:,} rows a call{', spinning' * best[1]}, load {os.getloadavg()[0]:.1f}"
    )
    for part, found in medians.items():
        spread = ", ".join(f"{value:,.0f}" for value in figures[part])
        print(f"  {part:8} {found:12,.0f} rows/s  {found / medians['bare']:5.2f} of bare   ({spread})")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    compare("100 trees, 20 features", *trees(), given.rows, repeats=given.repeats, threads=given.threads)
    small = net((20, 64, 64, 1))
    compare("net 20-64-64-1", *small, given.rows, repeats=given.repeats, threads=given.threads)
    large = net((512, 1024, 1024, 1))
    compare("net 512-1024-1024-1", *large, given.rows // 20, repeats=given.repeats, threads=given.threads)


if __name__ == "__main__":
    main()
