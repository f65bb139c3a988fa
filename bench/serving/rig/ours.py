"""Trimtab as the server under test: a real worker process with bundle, route, records and metrics."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from rig.models import BenchModel
from rig.processes import Started, free_port
from trimtab.adapters.wire.routefile import write_routes
from trimtab.app import worker
from trimtab.app.home import Home
from trimtab.features.plan import Plan, RequestShape
from trimtab.registry.bundle import FORMAT, MODEL, PLAN, pack
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.serving.routing import Arm, Route, RouteTable

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "src"


def home_with(model: BenchModel, root: Path) -> Home:
    """A home that holds the model as a version, and a route to it."""
    home = Home(root).made()
    home.online()
    inputs = dict.fromkeys(model.columns, "float")
    plan = Plan(RequestShape(model.name, id="id", at="at", keys={}, inputs=inputs, optional=(), ranges={}), ())
    manifest = Manifest(
        format=FORMAT,
        model=model.name,
        task="binary" if model.outputs == 1 else "regression",
        runtime="onnx",
        files={},
        inputs=(Tensor("input", "float32", (-1, model.features)),),
        outputs=(Tensor("output", "float32", (-1, model.outputs)),),
        plan_digest=plan.digest,
        dataset_digest="",
        trained_until=0,
        code_revision="",
        libraries={},
        parity=ExportParity(0, 0.0, 0.0, 0, 0.0),
    )
    version = pack(home.blobs(), {MODEL: model.file.read_bytes(), PLAN: plan.to_json()}, manifest=manifest)
    route = Route(model.name, (Arm("champion", version, 1.0),))
    write_routes(home.route_file, RouteTable(1, {model.name: route}))
    return home


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
        self.homes = Path(tempfile.mkdtemp(prefix="trimtab-bench-home-"))

    def command(self, home: Path, port: int) -> list[str]:
        options = worker.WorkerOptions(host="127.0.0.1", port=port)
        arguments = worker.command(home, 1, options)
        if self.kind:
            arguments[2] = msgspec.json.encode(msgspec.json.decode(arguments[2]) | {"server": self.kind}).decode()
        module = "rig.bare_worker" if self.bare else worker.MODULE
        return [sys.executable, "-m", module, *arguments]

    def start(self, model: BenchModel) -> tuple[Started, int]:
        """Start it and wait until it listens; the process and its port."""
        home = home_with(model, Path(tempfile.mkdtemp(dir=self.homes)))
        return self.started(home)

    def started(self, home: Home) -> tuple[Started, int]:
        """Start it on a home that is ready."""
        port = free_port()
        started = Started(
            self.command(home.root, port), log=home.root / "worker.log", environment={"PYTHONPATH": python_path()}
        )
        try:
            started.wait_for_port(port)
        except Exception:
            started.stop()
            raise
        return started, port

    def close(self) -> None:
        shutil.rmtree(self.homes, ignore_errors=True)


def python_path() -> str:
    """Where a child finds the package and this rig."""
    return f"{SOURCES}:{Path(__file__).parents[1]}"
