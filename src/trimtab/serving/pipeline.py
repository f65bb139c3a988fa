"""The pipeline: features → preprocess → infer → postprocess, between a decode and an encode; for replay and HTTP alike.

Each stage is a function of a :class:`Deployed` and the output of the stage before, so each can be tested, timed and
replaced alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import BundleCorrupt, ParityError, SchemaError
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.features.plan import Plan
from trimtab.features.sent import SentReader
from trimtab.registry.manifest import Manifest
from trimtab.serving.answers import Answers
from trimtab.serving.ports import FeatureReader, ModelRuntime
from trimtab.training.stages import Transform, finished, prepared

Timer = Callable[[], int]
"""Monotonic nanoseconds."""
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Deployed:
    """A version that is loaded and can answer; made by :func:`deploy`."""

    version: str
    manifest: Manifest
    plan: Plan
    plan_digest: str
    reader: FeatureReader
    runtime: ModelRuntime
    pre: Transform | None
    post: Transform | None
    width: int
    """Number of features: the columns of the model's input tensors."""
    columns: tuple[str, ...] = ()
    """Their names in order, over all input tensors; empty for tensors whose columns have none."""


def deploy(
    version: str,
    manifest: Manifest,
    plan: Plan,
    *,
    reader: FeatureReader,
    runtime: ModelRuntime,
    pre: Transform | None = None,
    post: Transform | None = None,
) -> Deployed:
    """Put the parts of a loaded bundle together and check that they fit.

    Parameters
    ----------
    pre, post
        ``preprocess`` and ``postprocess`` of the bundle's modules, where the manifest names them.

    Raises
    ------
    BundleCorrupt
        The plan is not the one of the manifest or gives another number of features than its input tensors take, or a
        named module is missing.
    """
    if manifest.plan_digest != plan.digest:
        raise BundleCorrupt(
            "the plan is not the one of the manifest", got=plan.digest[:12], hint="build the bundle again"
        )
    for named, found in ((manifest.preprocess, pre), (manifest.postprocess, post)):
        if bool(named) != (found is not None):
            raise BundleCorrupt("a module of the bundle is not wired", got=repr(named), hint="load it from modules/")
    width = sum(math.prod(tensor.shape[1:]) for tensor in manifest.inputs)
    if plan.parts and width != len(plan.names()):
        raise BundleCorrupt(
            "the plan does not give the features that the model takes",
            got=f"{len(plan.names())} features for {width} columns",
            hint="build the bundle again",
        )
    names: Sequence[str] = plan.names() if plan.parts else reader.columns if isinstance(reader, SentReader) else ()
    columns = tuple(names) if len(names) == width else ()
    return Deployed(version, manifest, plan, plan.digest, reader, runtime, pre, post, width, columns)


def read_features(deployed: Deployed, batch: RequestBatch) -> FeatureBatch:
    """The features stage."""
    return deployed.reader.read(batch)


def preprocess(deployed: Deployed, values: Values) -> Values:
    """The preprocess stage: the bundle's own code on the feature matrix; most bundles have none."""
    return prepared(deployed.pre, values)


def infer(deployed: Deployed, values: Values) -> Values:
    """The infer stage: the model itself."""
    return deployed.runtime.run(values)


def postprocess(deployed: Deployed, outputs: Values) -> NDArray[np.float64]:
    """The postprocess stage: the bundle's own code on the outputs, then plain float64.

    Raises
    ------
    ParityError
        The outputs are not one row per request.
    """
    return finished(deployed.post, outputs)


@dataclass(frozen=True)
class Pipeline:
    """The stages in their order, each timed; give it other functions to replace a stage.

    Parameters
    ----------
    timer
        Monotonic nanoseconds; a constant in replay, where durations mean nothing.
    """

    timer: Timer
    features: Callable[[Deployed, RequestBatch], FeatureBatch] = read_features
    preprocess: Callable[[Deployed, Values], Values] = preprocess
    infer: Callable[[Deployed, Values], Values] = infer
    postprocess: Callable[[Deployed, Values], NDArray[np.float64]] = postprocess

    def predict(
        self,
        deployed: Deployed,
        batch: RequestBatch,
        *,
        arm: str = "champion",
        rollout: str = "",
        features: FeatureBatch | None = None,
    ) -> Answers:
        """Answer n requests with one version.

        Parameters
        ----------
        features
            Given when the caller brings the features; the features stage is skipped then.

        Returns
        -------
        Answers
            With 0 µs for decode and encode, which happen outside.

        Raises
        ------
        SchemaError
            The features given are not as many as the model takes.
        """
        timer, rows = self.timer, len(batch.ids)
        start = timer()
        read = self.features(deployed, batch) if features is None else features
        if read.values.shape != (rows, deployed.width):
            raise SchemaError(
                "another number of features than the model takes",
                got=str(read.values.shape),
                hint=f"send {(rows, deployed.width)}",
            )
        have = timer()
        prepared = self.preprocess(deployed, read.values)
        ready = timer()
        raw = self.infer(deployed, prepared)
        inferred = timer()
        outputs = self.postprocess(deployed, raw)
        done = timer()
        if len(outputs) != rows:
            raise ParityError("the model gave another number of answers", got=f"{len(outputs)} for {rows} requests")
        timings = (
            0,
            (have - start) // 1000,
            (ready - have) // 1000,
            (inferred - ready) // 1000,
            (done - inferred) // 1000,
            0,
        )
        return Answers(batch, read, deployed.version, arm, rollout, outputs, timings)

    def score(self, deployed: Deployed, features: FeatureBatch) -> NDArray[np.float64]:
        """What a version says about features that were read already; shape (n,)."""
        return self.postprocess(deployed, self.infer(deployed, self.preprocess(deployed, features.values)))
