"""Trimtab as the server under test: a real worker process with bundle, route, records and metrics."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rig.load import answered
from rig.models import BenchModel
from rig.processes import Started, free_port
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.routefile import write_routes
from trimtab.app import worker
from trimtab.app.home import Home
from trimtab.features.plan import Plan, RequestShape
from trimtab.registry.bundle import COLUMNS, FORMAT, MODEL, PLAN, pack
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.serving.record import PREDICTIONS
from trimtab.serving.routing import Arm, Route, RouteTable

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "src"


def home_with(model: BenchModel, root: Path) -> Home:
    """A home that holds the model as a version, and a route to it."""
    home = Home(root).made()
    home.online()
    inputs = dict.fromkeys(model.columns, "float")
    plan = Plan(RequestShape(model.name, id="id", at="at", keys={}, inputs=inputs, optional=(), ranges={}), ())
    data = model.file.read_bytes()
    version = pack_version(
        home, model.name, data, plan, features=model.features, outputs=model.outputs, columns=model.columns
    )
    route_to(home, model.name, version)
    return home


def pack_version(
    home: Home, name: str, data: bytes, plan: Plan, *, features: int, outputs: int, columns: Sequence[str] = ()
) -> str:
    """An ONNX file and a plan as a version in the blobs of a home."""
    files = {MODEL: data, PLAN: plan.to_json()} | ({COLUMNS: msgspec.json.encode(columns)} if columns else {})
    manifest = Manifest(
        format=FORMAT,
        model=name,
        task="binary" if outputs == 1 else "regression",
        runtime="onnx",
        files={},
        inputs=(Tensor("input", "float32", (-1, features)),),
        outputs=(Tensor("output", "float32", (-1, outputs)),),
        plan_digest=plan.digest,
        dataset_digest="",
        trained_until=0,
        code_revision="",
        libraries={},
        parity=ExportParity(0, 0.0, 0.0, 0, 0.0),
    )
    return pack(home.blobs(), files, manifest=manifest)


def route_to(home: Home, model: str, version: str) -> None:
    """One champion."""
    write_routes(home.route_file, RouteTable(1, {model: Route(model, (Arm("champion", version, 1.0),))}))


class Trimtab:
    """One worker.

    Parameters
    ----------
    kind
        Which HTTP server carries it, as the worker's option ``server`` names it; empty for its default.
    bare
        Whether records and metrics are left out, to see what they cost: :mod:`rig.bare_worker`.
    """

    def __init__(self, kind: str = "", *, bare: bool = False) -> None:
        self.kind, self.bare = kind, bare
        self.name = ":".join(["trimtab", *([kind] if kind else []), *(["bare"] if bare else [])])
        self._served = Path(), 0
        self.homes = Path(tempfile.mkdtemp(prefix="trimtab-bench-home-"))

    def command(self, home: Path, port: int, **more: object) -> list[str]:
        """What starts the worker; ``more`` goes into its options."""
        options = worker.WorkerOptions(host="127.0.0.1", port=port, parent=os.getpid())
        arguments = worker.command(home, 1, options)
        extra = more | ({"server": self.kind} if self.kind else {})
        arguments[2] = msgspec.json.encode(msgspec.json.decode(arguments[2]) | extra).decode()
        module = "rig.bare_worker" if self.bare else worker.MODULE
        return [sys.executable, "-m", module, *arguments]

    def start(self, model: BenchModel) -> tuple[Started, int]:
        """Start it and wait until it listens; the process and its port."""
        return self.started(home_with(model, Path(tempfile.mkdtemp(dir=self.homes))))

    def started(self, home: Home, **more: object) -> tuple[Started, int]:
        """Start it on a home that is ready."""
        port = free_port()
        self._served = home.root, port
        command = self.command(home.root, port, **more)
        started = Started(command, log=home.root / "worker.log", environment={"PYTHONPATH": python_path()})
        try:
            started.wait_for_port(port)
        except Exception:
            started.stop()
            raise
        return started, port

    def unrecorded(self) -> str:
        """What is wrong with the prediction records of the worker that has ended: one for each answer, none if bare."""
        root, port = self._served
        rows = sum(1 for _ in SpoolRecords(root / "records", "reader").scan(PREDICTIONS))
        wanted = 0 if self.bare else answered.pop(port, 0)
        return "" if rows == wanted else f"{rows} prediction records for {wanted} answers"

    def close(self) -> None:
        shutil.rmtree(self.homes, ignore_errors=True)


def python_path() -> str:
    """Where a child finds the package and this rig."""
    return f"{SOURCES}:{Path(__file__).resolve().parents[1]}"
