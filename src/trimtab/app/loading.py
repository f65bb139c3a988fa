"""From a version's digest to something that answers. Light: a serving worker imports this."""

from __future__ import annotations

import time

from trimtab.adapters.models.onnx_runtime import OnnxModel
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


def deployed(bundle: Bundle, rows: OnlineRows, *, threads: int = 1) -> Deployed:
    """Wire a verified bundle to the online rows and a runtime; one without features takes what the caller sends."""
    reader: FeatureReader
    if bundle.plan.parts:
        reader = OnlineReader(bundle.plan, rows, bundle_modules(bundle))
    else:
        reader = SentReader(bundle.plan.requests, bundle.columns)
    return deploy(
        bundle.version, bundle.manifest, bundle.plan, reader=reader, runtime=OnnxModel(bundle.model, threads=threads)
    )


def load_deployed(blobs: Blobs, rows: OnlineRows, version: str) -> Deployed:
    """Load, verify and wire a version."""
    return deployed(load(blobs, version), rows)


def live_pipeline() -> Pipeline:
    """The pipeline with every stage timed."""
    return Pipeline(timer=time.perf_counter_ns)
