"""From a fitted estimator to ONNX: LightGBM and histogram boosting exactly, the rest of scikit-learn
through skl2onnx; refused when they disagree."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.hist_trees import CLASSES as HIST_CLASSES
from trimtab.adapters.models.hist_trees import convert_hist
from trimtab.adapters.models.lightgbm_trees import convert_booster
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.errors import InputError, MissingExtra
from trimtab.training.export import TOLERANCE, Exported, ExportParity, compare_exported
from trimtab.training.task import Task

PARALLEL_ROWS = 20_000
"""With fewer rows than this for each, further threads do not pay."""
_LIBRARIES = ("numpy", "lightgbm", "scikit-learn", "onnx", "skl2onnx", "onnxruntime")
_OPSETS = {"": 17, "ai.onnx.ml": 3}


def export(estimator: Any, feature_count: int, task: Task) -> bytes:
    """A fitted estimator as an ONNX file: input ``input`` (n, features) float32, output ``output`` (n, 1).

    The output is the probability of the positive class (label 1) or the predicted number. Equal estimators
    give equal bytes.

    Parameters
    ----------
    estimator
        ``lightgbm.Booster``, ``LGBMClassifier``, ``LGBMRegressor``, or a scikit-learn classifier,
        regressor or pipeline.

    Raises
    ------
    InputError
        When nothing here can export such an estimator, or it predicts something else than the task.
    MissingExtra
        When the library that does it is not installed.
    """
    _check_classes(estimator, task)
    booster = _booster(estimator)
    if booster is not None:
        _require("onnx", extra="lightgbm")
        return convert_booster(booster, features=feature_count, probability=task.kind == "binary")
    if type(estimator).__name__ in HIST_CLASSES:
        _require("onnx", extra="sklearn")
        return convert_hist(estimator, features=feature_count)
    if _family(estimator) == "sklearn":
        return _convert_sklearn(estimator, feature_count, task)
    raise InputError(
        "no exporter for this kind of estimator",
        got=f"{type(estimator).__module__}.{type(estimator).__qualname__}",
        hint="return a LightGBM or scikit-learn estimator, or register an ONNX file of your own",
    )


def predict_original(estimator: Any, rows: NDArray[np.float32], task: Task) -> NDArray[np.float64]:
    """What the estimator itself says: shape (n,), the probability of class 1 or the number."""
    booster = _booster(estimator)
    if booster is not None:
        found = booster.predict(rows, num_threads=1)
    elif task.kind == "binary":
        found = estimator.predict_proba(rows)[:, 1]
    else:
        found = estimator.predict(rows)
    return np.asarray(found, np.float64).reshape(len(rows))


def check_parity(
    estimator: Any, runtime: OnnxModel, rows: NDArray[np.float32], task: Task, tolerance: float = TOLERANCE
) -> ExportParity:
    """Compare an exported model with the estimator on rows.

    Raises
    ------
    ParityError
        When they disagree; see :func:`trimtab.training.export.compare_exported`.
    """
    original = predict_original(estimator, rows, task)
    exported = runtime.run(rows)[:, 0].astype(np.float64)
    return compare_exported(original, exported, binary=task.kind == "binary", tolerance=tolerance)


class OnnxExporter:
    """The embedded :class:`trimtab.training.export.Exporter`: ONNX, run by ONNX Runtime."""

    def __init__(self, *, tolerance: float = TOLERANCE, threads: int = 1) -> None:
        self._tolerance, self._threads = tolerance, threads

    def export(self, estimator: Any, rows: NDArray[np.float32], *, task: Task) -> Exported:
        """Export, load and compare on ``rows``."""
        data = export(estimator, rows.shape[1], task)
        runtime = OnnxModel(data, threads=self._threads)
        parity = check_parity(estimator, runtime, rows, task, self._tolerance)

        def predict(values: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.concatenate(_in_parts(runtime.run, values))[:, 0].astype(np.float64)

        return Exported(data, "model.onnx", "onnx", predict, parity, libraries())


def _in_parts(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], values: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Run many rows on every core, few at once. Each row is computed alone either way, so the outputs are the same."""
    parts = min(os.cpu_count() or 1, len(values) // PARALLEL_ROWS)
    if parts < 2:
        return [run(values)]
    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(run, np.array_split(values, parts)))


def libraries() -> dict[str, str]:
    """Installed versions of the libraries that decide what a model says."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _family(estimator: Any) -> str:
    """Top-level package of the estimator's class, or of the first base class that has a known one."""
    for base in type(estimator).__mro__:
        if (top := base.__module__.partition(".")[0]) in ("lightgbm", "sklearn"):
            return top
    return ""


def _booster(estimator: Any) -> Any | None:
    if _family(estimator) != "lightgbm":
        return None
    return getattr(estimator, "booster_", estimator)


def _check_classes(estimator: Any, task: Task) -> None:
    classes = getattr(estimator, "classes_", None)
    if task.kind == "binary" and classes is not None and [float(one) for one in classes] != [0.0, 1.0]:
        raise InputError(
            "the estimator of a binary task has other classes than 0 and 1",
            got=", ".join(map(str, classes)),
            hint="fit it on data.y as it is",
        )
    if task.kind == "binary" and _family(estimator) == "sklearn" and not hasattr(estimator, "predict_proba"):
        raise InputError(
            "the estimator of a binary task gives no probabilities",
            got=type(estimator).__name__,
            hint="use one with predict_proba, or wrap it in CalibratedClassifierCV",
        )
    if task.kind == "regression" and classes is not None:
        raise InputError("the estimator of a regression task is a classifier", got=type(estimator).__name__)


def _require(module: str, *, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{module} is needed to export this estimator", got=str(error), hint=f"pip install 'trimtab[{extra}]'"
        ) from None


def _convert_sklearn(estimator: Any, feature_count: int, task: Task) -> bytes:
    skl2onnx = _require("skl2onnx", extra="sklearn")
    from onnx import TensorProto, helper
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    try:
        model = skl2onnx.to_onnx(
            estimator,
            initial_types=[("input", FloatTensorType([None, feature_count]))],
            options={id(estimator): {"zipmap": False}} if task.kind == "binary" else None,
            target_opset=_OPSETS,
        )
    except (MissingConverter, MissingShapeCalculator, NotImplementedError, ValueError, RuntimeError) as error:
        raise InputError(
            "skl2onnx cannot export this estimator",
            got=str(error).splitlines()[0][:300],
            hint="use another estimator, or register an ONNX file of your own",
        ) from None
    graph = model.graph
    source = graph.output[-1].name
    if task.kind == "binary":
        graph.initializer.append(helper.make_tensor("positive", TensorProto.INT64, [1], [1]))
        graph.node.append(helper.make_node("Gather", [source, "positive"], ["output"], name="positive_class", axis=1))
    else:
        graph.initializer.append(helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1]))
        graph.node.append(helper.make_node("Reshape", [source, "column"], ["output"], name="as_column"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, 1]))
    # Names and versions of the tool that wrote the file would change its digest, not what it says.
    graph.name, model.doc_string, model.domain, model.model_version = "model", "", "", 0
    model.producer_name, model.producer_version = "trimtab", ""
    del model.metadata_props[:]
    data: bytes = model.SerializeToString(deterministic=True)
    return data
