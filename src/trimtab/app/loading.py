"""From a version's digest to something that answers. Light: a serving worker imports this."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.onnx_tensors import open_model
from trimtab.core.ports import Blobs
from trimtab.errors import InputError
from trimtab.features.online import OnlineReader
from trimtab.features.onrequest import LoadedModule, load_module
from trimtab.features.plan import ModulePart
from trimtab.features.ports import OnlineRows
from trimtab.features.sent import SentReader
from trimtab.registry.bundle import Bundle, load
from trimtab.serving.pipeline import Deployed, Pipeline, deploy
from trimtab.serving.ports import FeatureReader, ModelRuntime
from trimtab.serving.residency import Residency
from trimtab.serving.transforms import stages_of

MEMORY_FACTOR, TREES_FACTOR = 2.0, 6.0
"""Memory of a loaded model by the size of its file: measured 1.5 for a dense net, and 5.4 to 5.8 for trees, which ONNX
Runtime unpacks."""
CPU = ("cpu",)
_log = logging.getLogger("trimtab.serving")
PROCESS_BYTES = 64 * 1024 * 1024
"""Memory of a child process with numpy, beside that of its model."""


@dataclass(frozen=True)
class Runtimes:
    """What it takes to run the models of bundles.

    Parameters
    ----------
    residency
        Decides which models are in memory.
    scratch
        Where models in child processes have their private directories.
    python
        Their interpreter, unless a version names one; ours when empty.
    threads
        For one call of ONNX Runtime.
    threads_of
        The same for single models, by name.
    providers
        What ONNX Runtime runs on, best first; a replay is on the CPU, where equal rows give equal answers.
    """

    residency: Residency = field(default_factory=Residency)
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "trimtab-models")
    python: str = ""
    threads: int = 1
    providers: Sequence[str] = CPU
    threads_of: Mapping[str, int] = field(default_factory=dict)

    def runtime(self, bundle: Bundle) -> ModelRuntime:
        """The model of a bundle, running.

        Raises
        ------
        InputError
            When nothing here runs such a model.
        """
        match bundle.manifest.runtime:
            case "onnx":
                threads = self.threads_of.get(bundle.manifest.model, self.threads)
                return open_model(bundle.manifest, bundle.model, threads=threads, providers=self.providers)
            case "handler" | "pyfunc":
                from trimtab.adapters.models.foreign import decode_foreign, own_files
                from trimtab.adapters.models.isolated import IsolatedModel

                return IsolatedModel(
                    own_files(bundle.files),
                    decode_foreign(bundle.model),
                    model=bundle.manifest.model,
                    root=self.scratch,
                    python=self.python or sys.executable,
                )
            case other:
                raise InputError("nothing here runs this kind of model", got=other, hint="upgrade Trimtab")


def bundle_modules(bundle: Bundle) -> dict[str, LoadedModule]:
    """The on-request modules of a bundle, loaded under their digests."""
    return {
        part.module: load_module(part.module, bundle.modules[part.module], part.sha256)
        for part in bundle.plan.parts
        if isinstance(part, ModulePart)
    }


def deployed(bundle: Bundle, rows: OnlineRows, *, threads: int = 1, runtime: ModelRuntime | None = None) -> Deployed:
    """Wire a verified bundle to the online rows and a runtime; one without features takes what the caller sends."""
    reader: FeatureReader
    if bundle.plan.parts:
        reader = OnlineReader(bundle.plan, rows, bundle_modules(bundle))
    else:
        reader = SentReader(bundle.plan.requests, bundle.columns)
    stages = stages_of(bundle)
    running = Runtimes(threads=threads).runtime(bundle) if runtime is None else runtime
    _log.info("version %s of %s runs on %s", bundle.version[:12], bundle.manifest.model, running.note)
    around = {"pre": stages.before, "post": stages.after}
    return deploy(bundle.version, bundle.manifest, bundle.plan, reader=reader, runtime=running, **around)


def answering(bundle: Bundle) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """What a version answers for rows of its features, through its own stages: float32 (n, features) to (n,) or (n, k).

    Raises
    ------
    InputError, ProjectError
        When its model or its stages cannot be loaded.
    """
    return stages_of(bundle).around(Runtimes().runtime(bundle).run)


def load_deployed(blobs: Blobs, rows: OnlineRows, version: str, *, runtimes: Runtimes | None = None) -> Deployed:
    """Load, verify and wire a version.

    Every byte is checked, also of a model that is then left for later because the memory budget has no room for it.
    """
    bundle = load(blobs, version)
    if runtimes is None:
        return deployed(bundle, rows)
    foreign = bundle.manifest.runtime != "onnx"
    if not (foreign or runtimes.residency.limit):
        return deployed(bundle, rows, runtime=runtimes.runtime(bundle))
    held = [bundle]

    def loaded() -> ModelRuntime:
        return runtimes.runtime(held.pop() if held else load(blobs, version))

    model = runtimes.residency.model(memory_of(bundle), loaded)
    held.clear()  # or the bytes of what is given up would stay in memory
    return deployed(bundle, rows, runtime=model)


def memory_of(bundle: Bundle) -> int:
    """Bytes of memory that a version is taken to need: what the budget counts."""
    if bundle.manifest.runtime == "onnx":
        factor = TREES_FACTOR if b"TreeEnsemble" in bundle.model else MEMORY_FACTOR
        return round(factor * len(bundle.model))
    from trimtab.adapters.models.foreign import decode_foreign

    bound = decode_foreign(bundle.model).memory_mb * 1024 * 1024
    return bound or round(PROCESS_BYTES + MEMORY_FACTOR * bundle.size_bytes)


def live_pipeline() -> Pipeline:
    """The pipeline with every stage timed."""
    return Pipeline(timer=time.perf_counter_ns)
