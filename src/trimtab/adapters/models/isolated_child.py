"""The process that runs a model of somebody else's: ``python -I isolated_child.py FD``.

This file is run by its path, often by an interpreter that has no Trimtab: it imports nothing but the standard library
(Python 3.9 or later) and, once it is told what to load, numpy. It is spoken to over a socket, the descriptor FD, in
frames of one letter, eight bytes of length (little-endian) and a body. Nothing is pickled in either direction.

========= ========================================== =====================================================
frame     body                                       answered by
========= ========================================== =====================================================
``S``     JSON: what to load, and how                ``R``, JSON: what was found there; or ``E``, or ``L``
``M``     rows and columns (two uint32), float32     ``M``, the same form; or ``E``
``F``     empty                                      ``R``, JSON: names of the outputs as the last answer had them
``E``     (only answers) JSON: ``kind``, ``message``
``L``     (only answers) JSON: ``library`` and ``python``: this interpreter lacks what the kind of model needs
``V``     (only answers) JSON: ``what``, ``got`` and ``hint``: a value that the model must not be given
========= ========================================== =====================================================

An error of the model's own code is an ``E`` and the process lives on. The end of the socket is the end of the process
and of every process that it started.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

HEAD = struct.Struct("<cQ")
SHAPE = struct.Struct("<II")
Frame = Any
"""A letter and a body."""
MOST_WHOLE = 2**24 - 1
"""Up to this a float32 that is whole is one integer and no other."""
LOG_BYTES, LOG_KEPT = 1_000_000, 64 * 1024
"""What the model printed may grow to this; then this much of its end is kept."""
_WATCH_S = 1.0
_LIBRARIES = ("numpy", "pandas", "mlflow", "mlflow-skinny", "scikit-learn", "torch", "xgboost", "lightgbm", "catboost")


class MissingLibrary(Exception):
    """This interpreter lacks a library that we need, whatever the model's code needs."""


class Refused(Exception):
    """A value that is none of its column: what, got, hint."""


def library(name: str) -> Any:
    """A library that a kind of model cannot do without; one that lacks something itself says that."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        needed = name.partition(".")[0]
        if error.name not in (needed, name):
            raise
        raise MissingLibrary(needed) from None


class Context:
    """What a TorchServe handler is given: ``system_properties["model_dir"]``, the manifest, and the request ids."""

    def __init__(self, told: dict[str, Any]) -> None:
        directory = Path(told["directory"])
        saved = sorted(path.name for path in directory.iterdir() if path.suffix in (".pt", ".pth", ".onnx", ".bin"))
        self.model_name = told["model"]
        self.system_properties = {
            "model_dir": str(directory), "gpu_id": None, "batch_size": 1, "server_name": "trimtab",
            "server_version": "",
        }  # fmt: skip
        self.manifest = {
            "model": {"modelName": told["model"], "handler": told["entry"], "serializedFile": saved[0] if saved else ""}
        }
        self.model_yaml_config: dict[str, Any] = {}
        self.request_ids: dict[int, str] = {}
        self.metrics: Any = None

    def get_request_id(self, idx: int = 0) -> str:
        return self.request_ids.get(idx, str(idx))

    def get_request_header(self, idx: int, key: str) -> str | None:  # noqa: ARG002 - TorchServe's signature
        return None


def load_file(path: str) -> ModuleType:
    """Import a Python file by its path."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file: " + path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class HandlerModel:
    """A handler: a class with the four methods of TorchServe, or a module with ``handle(data, context)``."""

    def __init__(self, told: dict[str, Any]) -> None:
        directory = told["directory"]
        file, _, wanted = told["entry"].partition(":")
        sys.path.insert(0, directory)
        module = load_file(str(Path(directory) / file))
        self.context = Context(told)
        self.inputs, self.as_rows = told["inputs"], told["takes"] == "rows"
        made = self._class(module, wanted)
        if made is None:
            self.handle = module.handle
            return
        handler = made()
        if hasattr(handler, "initialize"):
            handler.initialize(self.context)
        if hasattr(handler, "handle"):
            self.handle = handler.handle
        else:
            self.handle = lambda data, _: handler.postprocess(handler.inference(handler.preprocess(data)))

    @staticmethod
    def _class(module: ModuleType, wanted: str) -> Any:
        if wanted:
            return getattr(module, wanted)
        own = [
            one
            for _, one in inspect.getmembers(module, inspect.isclass)
            if one.__module__ == module.__name__ and (hasattr(one, "handle") or hasattr(one, "inference"))
        ]
        if len(own) == 1:
            return own[0]
        if hasattr(module, "handle"):
            return None
        found = ", ".join(one.__name__ for one in own) or "none"
        raise TypeError(f"the file has no single handler class ({found}): name it as FILE:CLASS")

    def predict(self, values: Any) -> Any:
        if not self.as_rows:
            return self.handle(values, self.context)
        rows = [[None if value != value else value for value in row] for row in values.tolist()]  # noqa: PLR0124 - only NaN is unlike itself
        data = [{"body": dict(zip(self.inputs, row))} for row in rows]  # noqa: B905 - Python 3.9 has no strict
        return self.handle(data, self.context)

    def columns(self) -> list[list[str]]:
        return []

    def every(self) -> str:
        return ""


class PyfuncModel:
    """A model directory of MLflow, by ``mlflow.pyfunc``; columns are cast to the types of its signature, unrounded."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.model = library("mlflow.pyfunc").load_model(told["directory"])
        self.inputs = told["inputs"]
        schema = self.model.metadata.get_input_schema()
        self.tensor = schema is not None and schema.is_tensor_spec()
        named = schema is not None and schema.has_input_names() and not self.tensor
        self.types = {one.name: one.type.to_numpy() for one in schema.inputs} if named else {}
        self.dtype = schema.inputs[0].type if self.tensor else None
        if self.tensor and len(schema.inputs) > 1:
            raise TypeError("the signature has several tensors; one matrix, or columns, can be served")

    def columns(self) -> list[list[str]]:
        return [[name, str(kind)] for name, kind in self.types.items()]

    def every(self) -> str:
        return str(self.dtype) if self.tensor else ""

    def predict(self, values: Any) -> Any:
        if self.tensor:
            return self.model.predict(as_kind("a value", values, self.dtype))
        frame = library("pandas").DataFrame(values, columns=self.inputs or list(self.types))
        for name, kind in self.types.items():
            if kind.kind in "biuf" and kind != frame[name].dtype:
                frame[name] = as_kind("column " + repr(name), frame[name].to_numpy(), kind)
        return self.model.predict(frame)


def as_kind(name: str, values: Any, kind: Any) -> Any:
    """float32 as another type of number; what would be another number then is refused.

    From 2**24 on, a float32 may stand for an integer beside it, and nobody can tell any more.
    """
    import numpy as np

    if kind.kind not in "biu":
        with np.errstate(over="ignore"):
            cast = values.astype(kind)
        if kind.kind == "f":
            refuse(name, values, np.isinf(cast), "is past the range of " + str(kind), "a missing value is NaN")
        return cast
    low, high = (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    low, high = max(low, -MOST_WHOLE), min(high, MOST_WHOLE)
    takes = f"the signature of the model has {kind} there: send whole numbers from {low} to {high}"
    refuse(name, values, np.isnan(values), "is missing, and the signature of the model has an integer there", takes)
    refuse(name, values, values != np.trunc(values), "is no whole number", takes)
    refuse(name, values, (values < low) | (values > high), "is past what is carried exactly", takes)
    return values.astype(kind)


def refuse(name: str, values: Any, wrong: Any, what: str, hint: str) -> None:
    """Refuse the first of the wrong values."""
    if wrong.any():
        raise Refused(name + " " + what, repr(float(values[wrong][0])), hint)


KINDS = {"handler": HandlerModel, "pyfunc": PyfuncModel}


def as_matrix(found: Any, rows: int, outputs: list[str]) -> tuple[Any, list[str]]:
    """What a model returned as float32 of shape (rows, k), and the names of the outputs when it gave any."""
    import numpy as np

    found, names = by_name(found, rows, list(outputs))
    values = np.asarray(found)
    if values.ndim == 0 or len(values) != rows:
        raise ValueError(f"{values.shape} for {rows} rows: one answer per row is needed")
    if values.dtype == object:  # None is a missing number
        values = np.array([[np.nan if one is None else one for one in np.atleast_1d(row)] for row in values])
    if values.dtype.kind not in "biuf":
        raise TypeError(f"the answers are no numbers: {values.dtype}")
    matrix = np.ascontiguousarray(values.reshape(rows, -1), dtype="<f4")
    if outputs and matrix.shape[1] != len(outputs):
        raise ValueError(f"{matrix.shape[1]} numbers per row, {len(outputs)} outputs were registered")
    return matrix, names


def by_name(found: Any, rows: int, names: list[str]) -> tuple[Any, list[str]]:
    """What a model returned, its outputs in the order of their names: those that were registered, or its own."""
    import numpy as np

    if hasattr(found, "detach"):
        found = found.detach().cpu().numpy()
    if hasattr(found, "columns"):
        names = names or [str(name) for name in found.columns]
        found = found.to_numpy()[:, places(list(found.columns), names)]
    elif isinstance(found, dict):
        names = names or [str(name) for name in found]
        lacking(names, found)
        found = np.stack([np.asarray(found[name]).reshape(rows) for name in names], axis=1)
    elif hasattr(found, "to_numpy"):
        found = found.to_numpy()
    if isinstance(found, (list, tuple)) and found and isinstance(found[0], dict):
        names = names or [str(name) for name in found[0]]
        for one in found:
            lacking(names, one)
        found = [[one[name] for name in names] for one in found]
    return found, names


def places(columns: list[Any], names: list[str]) -> list[int]:
    """Where the outputs stand in a frame: by their names, unless its columns are only numbered or it has just one."""
    numbered = columns == list(range(len(columns)))
    if numbered or (len(columns) == 1 and len(names) == 1):
        return list(range(len(columns)))
    there = [str(name) for name in columns]
    lacking(names, there)
    return [at for name in names for at, column in enumerate(there) if column == name]


def lacking(names: list[str], there: Any) -> None:
    missing = [name for name in names if name not in there]
    if missing:
        has = ", ".join(map(str, there))
        raise ValueError(f"the answer has no {', '.join(map(repr, missing))}, only {has}: outputs are taken by name")


def libraries() -> dict[str, str]:
    """Versions of the interpreter and of the libraries that usually decide what a model says."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Conversation:
    """Reads frames, answers them, one after the other, until the other side has gone."""

    def __init__(self, channel: socket.socket, log: int) -> None:
        self.channel, self.log = channel, log
        self.model: Any = None
        self.outputs: list[str] = []
        self.names: list[str] = []

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.channel.recv(min(size, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def write(self, letter: bytes, body: bytes) -> None:
        self.channel.sendall(HEAD.pack(letter, len(body)) + body)

    def run(self) -> None:
        while True:
            letter, size = HEAD.unpack(self.read(HEAD.size))
            body = self.read(size)
            try:
                answer = {b"S": self.start, b"M": self.predict, b"F": self.facts}[letter](body)
            except MemoryError as error:
                answer = failed(error, "memory ran out: give the model more, or smaller batches")
            except Refused as error:
                answer = b"V", json.dumps(dict(zip(("what", "got", "hint"), error.args))).encode()  # noqa: B905
            except MissingLibrary as error:
                answer = b"L", json.dumps({"library": str(error), "python": sys.executable}).encode()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything
                traceback.print_exc()
                answer = failed(error, str(error))
            trim(self.log)
            self.write(*answer)

    def start(self, body: bytes) -> Frame:
        told = json.loads(body)
        if told["memory_bytes"]:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (told["memory_bytes"], told["memory_bytes"]))
        library("numpy")  # what would be missing later is said now
        self.outputs = told["outputs"]
        self.model = KINDS[told["kind"]](told)
        said = {"libraries": libraries(), "columns": self.model.columns(), "every": self.model.every()}
        return b"R", json.dumps(said).encode()

    def predict(self, body: bytes) -> Frame:
        import numpy as np

        rows, columns = SHAPE.unpack_from(body)
        values = np.frombuffer(body, "<f4", offset=SHAPE.size).reshape(rows, columns).copy()
        matrix, self.names = as_matrix(self.model.predict(values), rows, self.outputs)
        return b"M", SHAPE.pack(*matrix.shape) + matrix.tobytes()

    def facts(self, _: bytes) -> Frame:
        return b"R", json.dumps({"outputs": self.names}).encode()


def failed(error: BaseException, message: str) -> Frame:
    return b"E", json.dumps({"kind": type(error).__name__, "message": message[:500]}).encode()


def trim(log: int) -> None:
    """Keep the end of what the model printed once that has grown long; the file is open for appending."""
    with contextlib.suppress(OSError):
        size = os.fstat(log).st_size
        if size > LOG_BYTES:
            tail = os.pread(log, LOG_KEPT, size - LOG_KEPT)
            os.ftruncate(log, 0)
            os.write(log, tail)


def watch(parent: int, log: int) -> None:
    """End with the process that started us, even in the middle of a call."""
    while os.getppid() == parent:
        trim(log)
        time.sleep(_WATCH_S)
    end()


def end() -> None:
    """End ourselves and all that we started."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main(arguments: list[str]) -> None:
    log = os.dup(1)  # the model may do with its standard output what it likes
    threading.Thread(target=watch, args=(os.getppid(), log), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server; it ends us
    channel = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(channel.fileno(), False)
    try:
        with contextlib.suppress(EOFError, OSError):
            Conversation(channel, log).run()
    finally:
        end()


if __name__ == "__main__":
    main(sys.argv[1:])
