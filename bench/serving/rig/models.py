"""The two models of the table, made here from seeds and kept in a temporary directory.

TAB is 100 LightGBM trees on 20 features, through the project's own exporter; MLP is a net of 512-1024-1024-8 float32.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

ROWS = 512
"""Different one-row requests, so that a cache of answers would have to be large to be of use."""
TOLERANCE = 1e-5


@dataclass(frozen=True)
class BenchModel:
    """A model, requests for it, and what it says to them."""

    name: str
    file: Path
    rows: np.ndarray
    """Shape (n, features), float32."""
    answers: np.ndarray
    """Shape (n, outputs), float32, by ONNX Runtime in this process, row by row."""

    @property
    def features(self) -> int:
        return self.rows.shape[1]

    @property
    def outputs(self) -> int:
        return self.answers.shape[1]

    @property
    def columns(self) -> list[str]:
        return [f"x{number}" for number in range(self.features)]

    def infer_bodies(self) -> list[bytes]:
        """One-row Open Inference Protocol requests as JSON, with the digits that a client would send."""
        return [
            msgspec.json.encode(
                {"inputs": [{"name": "input", "shape": [1, self.features], "datatype": "FP32", "data": _plain(row)}]}
            )
            for row in self.rows
        ]

    def rows_bodies(self) -> list[bytes]:
        """The same rows as a matrix of one row, for servers without the protocol."""
        return [msgspec.json.encode({"rows": [_plain(row)]}) for row in self.rows]

    def predict_bodies(self) -> list[bytes]:
        """The same rows as columns by name."""
        return [msgspec.json.encode(dict(zip(self.columns, _plain(row), strict=True))) for row in self.rows]


def _plain(row: np.ndarray) -> list[float]:
    return [float(str(value)) for value in row]


def cache_directory() -> Path:
    """Where made models are kept from run to run."""
    place = Path(tempfile.gettempdir()) / f"trimtab-bench-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def made(name: str) -> BenchModel:
    """A model by name (``TAB``, ``MLP`` or ``DEEP``, a slow one), made when it is not there yet."""
    file = cache_directory() / f"{name.lower()}-1.onnx"
    if not file.exists():
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_bytes(MAKERS[name]())
        partial.replace(file)
    width = {"TAB": 20, "MLP": 512, "DEEP": 20}[name]
    rows = np.random.default_rng(7).normal(size=(ROWS, width)).astype(np.float32).round(4)
    return BenchModel(name, file, rows, _answered(file, rows))


def _answered(file: Path, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["output"], {"input": row[None]})[0] for row in rows])


def _tab() -> bytes:
    import lightgbm

    from trimtab.adapters.models.export import OnnxExporter
    from trimtab.training.task import binary

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 20)).astype(np.float32)
    wanted = rows[:, 0] * rows[:, 1] + np.sin(rows[:, 2] * 2) + rows[:, 3:].sum(axis=1) / 8
    label = (wanted + rng.normal(size=len(rows)) > 0).astype(int)
    trained = lightgbm.train(
        {"objective": "binary", "num_leaves": 31, "seed": 0, "verbose": -1, "num_threads": 1, "deterministic": True},
        lightgbm.Dataset(rows, label),
        num_boost_round=100,
    )
    return OnnxExporter().export(trained, rows[:1000], task=binary(positive="bought")).data


def _net(*sizes: int) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights = [], []
    source = "input"
    for layer, (inward, outward) in enumerate(pairwise(sizes)):
        matrix = rng.normal(0, (2 / inward) ** 0.5, size=(inward, outward)).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"w{layer}"),
            numpy_helper.from_array(rng.normal(0, 0.1, size=outward).astype(np.float32), f"b{layer}"),
        ]
        last = layer == len(sizes) - 2
        target = "output" if last else f"h{layer}"
        nodes.append(helper.make_node("Gemm", [source, f"w{layer}", f"b{layer}"], [target if last else f"g{layer}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{layer}"], [target]))
        source = target
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, sizes[0]])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, sizes[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


MAKERS = {"TAB": _tab, "MLP": lambda: _net(512, 1024, 1024, 8), "DEEP": lambda: _net(20, 4096, 4096, 8)}


def infer_values(body: bytes) -> list[float]:
    """The values in an Open Inference Protocol response, whatever a server nests or adds."""
    return msgspec.json.decode(body, type=_Response).outputs[0].flat()


def predict_values(body: bytes) -> list[float]:
    """The values in the answer of ``/predict``."""
    found = msgspec.json.decode(body, type=_Predicted).prediction
    return found if isinstance(found, list) else [found]


def rows_values(body: bytes) -> list[float]:
    """The values in a matrix of one row."""
    return msgspec.json.decode(body)[0]


class _Output(msgspec.Struct):
    data: list[Any]

    def flat(self) -> list[float]:
        return [value for row in self.data for value in row] if isinstance(self.data[0], list) else self.data


class _Response(msgspec.Struct):
    outputs: list[_Output]


class _Predicted(msgspec.Struct):
    prediction: Any


def checker(wanted: np.ndarray, read: Callable[[bytes], list[float]]) -> Callable[[int, bytes], bool]:
    """A function (row number, body) → whether the body holds the right values, of shape (n, outputs).

    Bodies that were right once are remembered, so that verifying costs the generator little.
    """
    known: list[set[bytes]] = [set() for _ in wanted]
    expected: list[list[float]] = wanted.tolist()

    def right(row: int, body: bytes) -> bool:
        seen = known[row]
        if body in seen:
            return True
        try:
            found = read(body)
        except (msgspec.DecodeError, TypeError, IndexError):
            return False
        answer = expected[row]
        if len(found) != len(answer):
            return False
        close = all(
            abs(one - other) <= TOLERANCE * max(1.0, abs(other)) for one, other in zip(found, answer, strict=True)
        )
        if close and len(seen) < 4:
            seen.add(body)
        return close

    return right


def headers(path: str, body: bytes, *, more: Mapping[str, str] | None = None) -> bytes:
    """A whole POST request over a connection that is kept."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (more or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
