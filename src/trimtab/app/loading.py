"""From a version's digest to something that answers. Light: a serving worker imports this."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from trimtab.adapters.models.onnx_tensors import open_model
from trimtab.core.ports import Blobs
from trimtab.features.online import OnlineReader
from trimtab.features.onrequest import LoadedModule, load_module
from trimtab.features.plan import ModulePart
from trimtab.features.ports import OnlineRows
from trimtab.features.sent import SentReader
from trimtab.registry.bundle import Bundle, load
from trimtab.serving.pipeline import Deployed, Pipeline, deploy
from trimtab.serving.ports import FeatureReader


def bundle_modules(bundle: Bundle) -> dict[str, LoadedModule]:
    """The on-request modules of a bundle, loaded under their digests."""
    return {
        part.module: load_module(part.module, bundle.modules[part.module], part.sha256)
        for part in bundle.plan.parts
        if isinstance(part, ModulePart)
    }


CPU = ("cpu",)
_log = logging.getLogger("trimtab.serving")


def deployed(bundle: Bundle, rows: OnlineRows, *, threads: int = 1, providers: Sequence[str] = CPU) -> Deployed:
    """Wire a verified bundle to the online rows and a runtime; one without features takes what the caller sends.

    Parameters
    ----------
    providers
        What the model runs on, best first; a replay is on the CPU, where equal rows give equal answers.
    """
    reader: FeatureReader
    if bundle.plan.parts:
        reader = OnlineReader(bundle.plan, rows, bundle_modules(bundle))
    else:
        reader = SentReader(bundle.plan.requests, bundle.columns)
    runtime = open_model(bundle.manifest, bundle.model, threads=threads, providers=providers)
    _log.info("version %s of %s runs on %s", bundle.version[:12], bundle.manifest.model, runtime.note)
    return deploy(bundle.version, bundle.manifest, bundle.plan, reader=reader, runtime=runtime)


def load_deployed(blobs: Blobs, rows: OnlineRows, version: str, *, providers: Sequence[str] = CPU) -> Deployed:
    """Load, verify and wire a version."""
    return deployed(load(blobs, version), rows, providers=providers)


def live_pipeline() -> Pipeline:
    """The pipeline with every stage timed."""
    return Pipeline(timer=time.perf_counter_ns)
