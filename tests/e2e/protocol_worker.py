"""A real worker with models made by hand: ``python -m tests.e2e.protocol_worker HOME NUMBER [SETTINGS]``.

``shapes`` takes three tensors and gives two, in two versions; ``late`` looks features up; ``sums`` takes named columns; ``root`` takes one,
and has nothing to say about numbers below zero.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trimtab.adapters.clock.system import SystemClock
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.routefile import write_routes
from trimtab.adapters.wire.status import WorkerStatus, read_status
from trimtab.adapters.wire.worker import Worker, WorkerSettings, serve
from trimtab.core.ids import sha256
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.features.plan import ModulePart, Plan, RequestShape
from trimtab.features.sent import SentReader
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.serving.pipeline import Deployed, deploy
from trimtab.serving.routing import Arm, Route, RouteTable
from trimtab.web.api_page import render_api

ROOT = Path(__file__).parents[2]
SHAPES_1, SHAPES_2, LATE, SUMS, ROOT_OF = (
    sha256(name.encode()) for name in ("shapes1", "shapes2", "late", "sums", "root")
)
LATE_SHAPE = RequestShape(
    source="departures",
    id="flight",
    at="asked",
    keys={"origin": "str", "gate": "int"},
    inputs={"distance": "float", "seats": "int", "night": "bool", "leaves": "time", "note": "str"},
    optional=("note", "seats"),
    ranges={"distance": (0.0, 9000.0), "seats": (1.0, 900.0)},
)
ROOT_SHAPE = RequestShape("rows", "id", "at", {}, {"a": "float"}, (), {})
SUMS_SHAPE = RequestShape("rows", "id", "at", {}, {"a": "float", "b": "float", "c": "int"}, ("b",), {})


class Shapes:
    """Three scores, the columns of ``x`` and ``flag`` weighted, and the place of the largest."""

    blocking, note, trouble = False, "numpy", ""

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def run(self, values: np.ndarray) -> np.ndarray:
        scores = values[:, :3] * 2 + values[:, 3:4] + values[:, 4:5] * 10 + np.float32(self.shift)
        return np.concatenate([scores, scores.argmax(axis=1, keepdims=True).astype(np.float32)], axis=1)

    def close(self) -> None:
        pass


class Total:
    """The sum of what is there, and no infinity."""

    blocking, note, trouble = False, "numpy", ""

    def run(self, values: np.ndarray) -> np.ndarray:
        total = np.nan_to_num(values.astype(np.float64)).sum(axis=1, keepdims=True)
        return np.tanh(total / 1e4).astype(np.float32)

    def close(self) -> None:
        pass


class SquareRoot:
    """NaN below zero."""

    blocking, note, trouble = False, "numpy", ""

    def run(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.sqrt(values)

    def close(self) -> None:
        pass


class Given:
    """Two features from the request itself."""

    def read(self, batch: RequestBatch) -> FeatureBatch:
        values = np.stack([batch.inputs["distance"], batch.keys["gate"]], axis=1).astype(np.float32)
        return FeatureBatch(values, np.empty((len(batch), 0), np.float32), {}, ())


def manifest(model: str, task: str, plan: Plan, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Manifest:
    parity = ExportParity(1, 0.0, 0.0, 0, 1e-5)
    return Manifest(1, model, task, "onnx", {}, inputs, outputs, plan.digest, "", 0, "", {}, parity)


def load(version: str) -> Deployed:
    if version in (SHAPES_1, SHAPES_2):
        plan = Plan(RequestShape("", "id", "", {}, {}, (), {}), ())
        inputs = (
            Tensor("x", "float32", (-1, 3)),
            Tensor("count", "int64", (-1, 1)),
            Tensor("flag", "bool", (-1,)),
        )
        outputs = (Tensor("scores", "float32", (-1, 3)), Tensor("label", "int64", (-1,)))
        made = manifest("shapes", "multiclass", plan, inputs, outputs)
        runtime = Shapes(100.0 if version == SHAPES_2 else 0.0)
        return deploy(version, made, plan, reader=SentReader(plan.requests), runtime=runtime)
    outputs = (Tensor("probability", "float32", (-1, 1)),)
    if version == LATE:
        plan = Plan(LATE_SHAPE, (ModulePart("calc", ("distance", "gate"), "0" * 64),))
        made = manifest("late", "binary", plan, (Tensor("features", "float32", (-1, 2)),), outputs)
        return deploy(version, made, plan, reader=Given(), runtime=Total())
    if version == ROOT_OF:
        plan = Plan(ROOT_SHAPE, ())
        made = manifest("root", "regression", plan, (Tensor("features", "float32", (-1, 1)),), outputs)
        return deploy(version, made, plan, reader=SentReader(ROOT_SHAPE), runtime=SquareRoot())
    plan = Plan(SUMS_SHAPE, ())
    made = manifest("sums", "regression", plan, (Tensor("features", "float32", (-1, 3)),), outputs)
    return deploy(version, made, plan, reader=SentReader(SUMS_SHAPE), runtime=Total())


def table() -> RouteTable:
    shapes = (Arm("champion", SHAPES_1, 1.0), Arm("shadow", SHAPES_2, 0.0))
    alone = (("late", LATE), ("root", ROOT_OF), ("sums", SUMS))
    one = {name: Route(name, (Arm("champion", version, 1.0),)) for name, version in alone}
    return RouteTable(1, {"shapes": Route("shapes", shapes), **one})


def start(home: Path, number: int = 1, **more: object) -> tuple[subprocess.Popen, WorkerStatus]:
    """Start it and wait until it listens."""
    (home / "run").mkdir(parents=True, exist_ok=True)
    write_routes(home / "route.json", table())
    command = [sys.executable, "-m", "tests.e2e.protocol_worker", home, number, msgspec.json.encode(more).decode()]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment)
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        status = read_status(home / "run" / f"worker-{number}.json")
        ready = status is not None and status.pid == process.pid
        if ready and (status.grpc_port > 0 or "grpc_port" not in more):
            return process, status
        time.sleep(0.01)
    process.kill()
    raise AssertionError("the worker does not start")


def main(home: Path, number: int, more: dict[str, Any]) -> None:
    worker = Worker(
        load=load,
        records=SpoolRecords(home / "records", f"worker-{number}"),
        clock=SystemClock(),
        timer=time.perf_counter_ns,
        new_id=lambda: uuid.uuid4().hex,
        page=render_api,
    )
    status = home / "run" / f"worker-{number}.json"
    if "metrics_folder" in more:
        more["metrics_folder"] = Path(more["metrics_folder"])
    serve(worker, WorkerSettings(number, home / "route.json", status, **{"port": 0, "software": "test"} | more))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), msgspec.json.decode(sys.argv[3] if sys.argv[3:] else "{}"))
