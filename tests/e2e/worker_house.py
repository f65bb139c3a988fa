"""Starting workers, writing routes, and a small HTTP client for the worker tests."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from trimtab.adapters.blobs.directory import DirectoryBlobs
from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.routefile import write_routes
from trimtab.adapters.wire.status import WorkerStatus, read_status
from trimtab.core.clock import HOUR
from trimtab.core.ids import sha256
from trimtab.features.online import OnlineWriter
from trimtab.features.plan import ModulePart, Plan, RequestShape, WindowPart
from trimtab.registry.bundle import module_path, pack
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.serving.record import PREDICTIONS, PredictionRecord, decode_record
from trimtab.serving.routing import Arm, Route, RouteTable

ROOT = Path(__file__).parents[2]


def onnx_model(bias: float, width: int = 2) -> bytes:
    """``sigmoid(0.001 * sum + bias)``, as a real ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.full((width, 1), 0.001, np.float32), "w")
    shift = numpy_helper.from_array(np.array([bias], np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 1])],
        [weights, shift],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


CALC = """FEATURES = ("basket",)


def compute(columns):
    return {"basket": columns["basket"]}
"""
SHAPE = RequestShape("visits", "visit", "asked", {"shop": "str"}, {"basket": "float"}, (), {"basket": (0.0, 1000.0)})
SALES = WindowPart("sales", "shop", "str", (HOUR,), (("count", "*"),), ("*",), "known", 0, (False,))
PLAN = Plan(SHAPE, (SALES, ModulePart("calc", ("basket",), sha256(CALC.encode()))))


def manifest() -> Manifest:
    """What a bundle with that plan says."""
    inputs, outputs = (Tensor("features", "float32", (-1, 2)),), (Tensor("probability", "float32", (-1, 1)),)
    parity = ExportParity(1, 0.0, 0.0, 0, 1e-5)
    return Manifest(1, "m", "binary", "onnx", {}, inputs, outputs, PLAN.digest, "", 0, "", {}, parity)


class WorkerHouse:
    """A home directory with versions, a route file and worker processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.generation = 0
        self.processes: list[subprocess.Popen] = []
        self.blobs = DirectoryBlobs(home / "blobs")
        rows = LmdbRows(home / "online", durable=False)
        now = time.time_ns() // 1000
        known = np.array([now - 2_000_000, now - 1_000_000])
        sales = {"known": known, "time": known, "shop": np.array(["aa", "aa"])}
        OnlineWriter(PLAN.parts, rows).apply("sales", sales, 0)
        rows.close()

    def add(self, bias: float) -> str:
        """Pack a version whose answer for a basket b of shop aa is ``sigmoid(0.001 * (2 + b) + bias)``."""
        files = {"model.onnx": onnx_model(bias), "plan.json": PLAN.to_json(), module_path("calc"): CALC.encode()}
        return pack(self.blobs, files, manifest=manifest())

    def model_file(self, bias: float) -> Path:
        """Where the model of a version lies."""
        name = sha256(onnx_model(bias))
        return self.home / "blobs" / name[:2] / name[2:]

    def records(self, number: int = 1) -> list[PredictionRecord]:
        """What a worker has recorded."""
        store = SpoolRecords(self.home / "records", "reader")
        return [decode_record(row) for place, row in store.scan(PREDICTIONS) if place.writer == f"worker-{number}"]

    def route(self, *arms: tuple[str, str, float], rollout: str = "") -> RouteTable:
        self.generation += 1
        made = tuple(Arm(*arm) for arm in arms)
        table = RouteTable(self.generation, {"m": Route("m", made, rollout, f"salt{self.generation}")})
        write_routes(self.home / "route.json", table)
        return table

    def start(self, number: int = 1, *, port: int = 0, **more: int) -> WorkerStatus:
        command = [sys.executable, "-m", "tests.e2e.serving_worker", self.home, str(number), str(port)]
        command.append(msgspec.json.encode(more).decode())
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment)
        self.processes.append(process)
        return self.until(lambda: (found := self.status(number)) and found.pid == process.pid and found)

    def status(self, number: int = 1) -> WorkerStatus | None:
        return read_status(self.home / "run" / f"worker-{number}.json")

    def until(self, holds, *, within: float = 20.0):
        end = time.monotonic() + within
        while time.monotonic() < end:
            if found := holds():
                return found
            assert all(process.poll() in (None, -9, 0) for process in self.processes), "a worker died"
            time.sleep(0.005)
        raise AssertionError("it did not happen in time")

    def stop(self) -> list[int]:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        return [process.wait(20) for process in self.processes]

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)


class Connection:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def send(self, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, dict, bytes]:
        lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers]
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return await self.answer(method)

    async def raw(self, data: bytes) -> tuple[int, dict, bytes]:
        self._writer.write(data)
        return await self.answer("POST")

    async def answer(self, method: str) -> tuple[int, dict, bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = b"" if method == "HEAD" else await self._reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def predict(self, request_id: str, basket: float = 1.0) -> dict:
        status, _, body = await self.send(
            "POST", "/predict/m", msgspec.json.encode({"id": request_id, "shop": "aa", "basket": basket})
        )
        assert status == 200, body
        return msgspec.json.decode(body)


def call(port: int, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, dict, object]:
    """One request on a connection of its own; the body decoded when it is JSON."""

    async def once() -> tuple[int, dict, bytes]:
        async with Connection(port) as connection:
            return await connection.send(method, path, body, *headers)

    status, found, raw = asyncio.run(once())
    return status, found, msgspec.json.decode(raw) if raw and "json" in found["content-type"] else raw
