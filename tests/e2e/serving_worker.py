"""A serving worker with stand-ins for the parts of other rooms: ``python -m tests.e2e.serving_worker HOME NUMBER PORT``.

The model, the sockets, the processes and the files are real. Features come from the request alone.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from trimtab.adapters.wire.worker import Worker, WorkerSettings, serve
from trimtab.core.ports import Place
from trimtab.errors import BundleCorrupt, Unavailable, UnknownName
from trimtab.features.batch import FeatureBatch, RequestBatch, Watermark
from trimtab.features.plan import ModulePart, Plan, RequestShape
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.serving.pipeline import Deployed, deploy

SHAPE = RequestShape("visits", "visit", "asked", {"shop": "str"}, {"basket": "float"}, (), {"basket": (0.0, 1000.0)})


def plan(width: int = 2) -> Plan:
    return Plan(SHAPE, (ModulePart("pkg.calc", tuple(f"f{index}" for index in range(width)), "x"),))


def manifest(width: int = 2) -> Manifest:
    return Manifest(
        1, "m", "binary", "onnx", {},
        (Tensor("features", "float32", (-1, width)),), (Tensor("probability", "float32", (-1, 1)),),
        plan(width).digest, "", 0, "", {}, ExportParity(1, 0.0, 0.0, 0, 1e-5),
    )  # fmt: skip


class Reader:
    """The basket, the length of the shop's name, and that again up to the width."""

    def __init__(self, width: int) -> None:
        self.width = width

    def read(self, batch: RequestBatch) -> FeatureBatch:
        length = np.char.str_len(batch.keys["shop"]).astype(np.float32)
        pair = np.stack([batch.inputs["basket"].astype(np.float32), length], axis=1)
        values = np.tile(pair, (1, (self.width + 1) // 2))[:, : self.width]
        return FeatureBatch(values, np.zeros((len(batch), 1), np.float32), {"sales": Watermark(1, 1)}, ())


class Onnx:
    """ONNX Runtime on one thread."""

    def __init__(self, data: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[-1].name
        self.closed = False

    def run(self, values: np.ndarray) -> np.ndarray:
        assert not self.closed
        found = self._session.run([self._output], {self._input: values})[0]
        return found[:, -1:]

    def close(self) -> None:
        self.closed = True


class FileRecords:
    """Length-prefixed batches, one ``write(2)`` each."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._end = os.fstat(self._file).st_size

    def write(self, table: str, rows: Sequence[bytes], *, sync: bool = False) -> Place:
        batch = msgspec.msgpack.encode(list(rows))
        try:
            os.write(self._file, struct.pack("<I", len(batch)) + batch)
        except OSError as error:
            raise Unavailable("cannot write", got=str(error)) from error
        self._end += 4 + len(batch)
        return Place("w", self._end)


def scan(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    at = 0
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        if at + 4 + size > len(data):
            return
        yield from msgspec.msgpack.decode(data[at + 4 : at + 4 + size])
        at += 4 + size


class RealClock:
    def now(self) -> int:
        return time.time_ns() // 1000


def loader(home: Path):
    def load(version: str) -> Deployed:
        try:
            data = (home / f"{version}.onnx").read_bytes()
        except FileNotFoundError:
            raise UnknownName("no such bundle", got=version) from None
        if hashlib.sha256(data).hexdigest() != version:
            raise BundleCorrupt("model.onnx does not match its manifest", got=version[:12])
        width = int((home / "width").read_text()) if (home / "width").exists() else 2
        return deploy(version, manifest(width), plan(width), reader=Reader(width), runtime=Onnx(data))

    return load


def main(home: Path, number: int, port: int, more: Mapping[str, int]) -> None:
    worker = Worker(
        load=loader(home),
        records=FileRecords(home / f"w{number}.records"),
        clock=RealClock(),
        timer=time.perf_counter_ns,
        new_id=lambda: uuid.uuid4().hex,
    )
    settings = WorkerSettings(
        number, home / "route.json", home / "run" / f"worker-{number}.json", port=port, software="test", **more
    )
    serve(worker, settings)
    (home / f"modules-{number}.json").write_bytes(msgspec.json.encode(sorted(sys.modules)))


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
        msgspec.json.decode(sys.argv[4] if sys.argv[4:] else "{}"),
    )
