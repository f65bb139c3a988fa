"""Batch scoring beside bare ONNX Runtime on matrices that are ready: rows per second, interleaved, medians.

PYTHONPATH=src python bench/serving/batch.py [--rows 1000000] [--repeats 3] [--threads 2]

"scoring" is what the pipeline takes for tables in memory: columns to matrix, checks, model, postprocessing, answers as a
table. "whole" is `trimtab batch` from a Parquet file to a Parquet file, fsync and resumability included; beside it stands
the script that one writes by hand: read the file, a matrix of it, ONNX Runtime, write the answers, no checks, no fsync.
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

BY_HAND = "file to file by hand"


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


def session_of(data: bytes, threads: int) -> tuple[onnxruntime.InferenceSession, str, list[str]]:
    """Bare ONNX Runtime; its idle threads do not spin, as in ours: on a shared machine both would only lose by it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session, session.get_inputs()[0].name, [session.get_outputs()[-1].name]


def by_hand(session: onnxruntime.InferenceSession, taken: str, given: list[str], rows: Path, out: Path) -> None:
    """Bare ONNX Runtime from file to file."""
    table = pq.read_table(rows)
    columns = [table[name].to_numpy() for name in table.column_names if name != "id"]
    matrix = np.column_stack(columns).astype(np.float32, copy=False)
    pieces = [session.run(given, {taken: matrix[at : at + 8192]})[0] for at in range(0, len(matrix), 8192)]
    pq.write_table(pa.table({"id": table["id"], "prediction": np.concatenate(pieces)[:, -1]}), out)


class Watch:
    """Wall and CPU seconds, added up."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


def compare(name: str, model: object, width: int, rows: int, *, repeats: int, threads: int) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(rows, width)).astype(np.float32)
    columns = [f"c{place}" for place in range(width)]
    table = pa.table({"id": np.arange(rows)} | {c: np.ascontiguousarray(matrix[:, p]) for p, c in enumerate(columns)})
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        task = tt.binary(positive="1")
        version = register_model(root / "home", model, name="m", task=task, columns=columns, rows=matrix[:2000])
        pq.write_table(table, root / "rows.parquet", row_group_size=100_000, compression="zstd")
        home = batch_home(root / "home")
        bundle = load(home.blobs(), version)
        session, taken, given = session_of(bundle.model, threads)
        run = Run("", "", "m", version, "id", SENT, 0, CHUNK, record=False, precompute=0)
        scorer = make_scorer(root, home, bundle, run, threads=threads)
        chunks = list(FrameTable(table).chunks(CHUNK, scorer.intake.kinds, id="id"))
        found: dict[str, list[Watch]] = {f"bare, {piece:,} a call": [] for piece in (8192, CHUNK)}
        found |= {"scoring": [], BY_HAND: [], "whole": []}
        for turn in range(repeats):
            watches = {part: Watch() for part in found}
            for chunk in chunks:  # in turns, so that whatever else the machine does falls on all of them
                ready = matrix[chunk.first : chunk.first + chunk.rows]
                for piece in (8192, CHUNK):
                    with watches[f"bare, {piece:,} a call"]:
                        for first in range(0, len(ready), piece):
                            session.run(given, {taken: ready[first : first + piece]})
                with watches["scoring"]:
                    scorer.table(chunk, scorer.chunk(chunk))
            with watches[BY_HAND]:
                by_hand(session, taken, given, root / "rows.parquet", root / f"h{turn}.parquet")
            out = str(root / f"s{turn}.parquet")
            with watches["whole"]:
                asked = BatchRequest("m", str(root / "rows.parquet"), out, version, threads=threads)
                run_batch(root / "home", asked, clock=SystemClock())
            for part, watch in watches.items():
                found[part].append(watch)
    show(name, rows, found, threads)


def show(name: str, rows: int, found: dict[str, list[Watch]], threads: int) -> None:
    """Medians, and each beside the better of the two bare ways."""
    print(f"{name}: {rows:,} rows, {threads} threads, load {os.getloadavg()[0]:.1f}")
    wall = {part: statistics.median(rows / watch.wall for watch in watches) for part, watches in found.items()}
    cpu = {part: statistics.median(rows / watch.cpu for watch in watches) for part, watches in found.items()}
    print(
        f"  whole beside the script by hand: {wall['whole'] / wall[BY_HAND]:.2f}, by CPU {cpu['whole'] / cpu[BY_HAND]:.2f}"
    )
    best, thriftiest = (max(v for part, v in kind.items() if part.startswith("bare")) for kind in (wall, cpu))
    for part in found:
        print(
            f"  {part:20} {wall[part]:12,.0f} rows/s {wall[part] / best:5.2f} of bare"
            f" {cpu[part]:12,.0f} rows per CPU second {cpu[part] / thriftiest:5.2f} of bare"
        )


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
