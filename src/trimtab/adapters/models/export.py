"""From a fitted estimator to ONNX: trees exactly, the rest of scikit-learn through skl2onnx, nets through PyTorch;
refused when they disagree."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.catboost_trees import convert_catboost
from trimtab.adapters.models.classes import bring_in_order, in_order, order_of
from trimtab.adapters.models.hist_trees import CLASSES as HIST_CLASSES
from trimtab.adapters.models.hist_trees import convert_hist
from trimtab.adapters.models.lightgbm_trees import convert_booster
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.models.probabilities import check_probabilities
from trimtab.adapters.models.sklearn_models import convert_sklearn
from trimtab.adapters.models.together import merge
from trimtab.adapters.models.torch_modules import convert_torch, predict_torch
from trimtab.adapters.models.xgboost_trees import convert_xgboost
from trimtab.errors import InputError, MissingExtra
from trimtab.training.export import TOLERANCE, Exported, ExportParity, compare_exported, predictions
from trimtab.training.task import Task

PARALLEL_ROWS = 20_000
"""With fewer rows than this for each, further threads do not pay."""
_KNOWN = ("lightgbm", "xgboost", "catboost", "torch", "sklearn")
_ALWAYS = ("numpy", "lightgbm", "scikit-learn", "onnx", "skl2onnx", "onnxruntime")
"""Named whether or not they made the model: so it was before others were known, and digests stay what they are."""
_DISTRIBUTIONS = {"xgboost": ("xgboost-cpu", "xgboost"), "catboost": ("catboost",), "torch": ("torch",)}


_BOOSTED: dict[str, Callable[..., bytes]] = {
    "lightgbm": convert_booster,
    "xgboost": convert_xgboost,
    "catboost": convert_catboost,
}


def export(estimator: Any, feature_count: int, task: Task) -> bytes:
    """A fitted estimator as an ONNX file: input ``input`` (n, features) float32, output ``output`` (n, k).

    The outputs are the probability of the positive class (label 1), the predicted number, the probability of each
    class, or the predicted numbers. Equal estimators give equal bytes.

    Parameters
    ----------
    estimator
        One of LightGBM, XGBoost or CatBoost, a scikit-learn classifier, regressor or pipeline, or a
        ``torch.nn.Module`` from (n, features) to (n, k) that ends with its sigmoid or softmax. For a regression of
        several numbers also a list of estimators, one for each.

    Raises
    ------
    InputError
        When nothing here can export such an estimator, or it predicts something else than the task.
    MissingExtra
        When the library that does it is not installed.
    """
    several = one_each(estimator, task)
    if several is not None:
        single = Task("regression", task.target, task.loss)
        return merge([export(one, feature_count, single) for one in several])
    order = order_of(estimator, task)
    _check_probable(estimator, task)
    return bring_in_order(_converted(estimator, feature_count, task), order)


def _converted(estimator: Any, feature_count: int, task: Task) -> bytes:
    """The same before its outputs are in the order of the task."""
    family, probability = _family(estimator), task.kind != "regression"
    if family in _BOOSTED or type(estimator).__name__ in HIST_CLASSES:
        _require("onnx", extra="sklearn" if family == "sklearn" else family)
    if family in _BOOSTED:
        return _BOOSTED[family](estimator, features=feature_count, probability=probability, outputs=task.outputs)
    if family == "torch":
        _require("onnx", extra="torch")
        return convert_torch(estimator, features=feature_count, outputs=task.outputs)
    if type(estimator).__name__ in HIST_CLASSES:
        return convert_hist(estimator, features=feature_count)
    if family == "sklearn":
        _require("skl2onnx", extra="sklearn")
        return convert_sklearn(estimator, feature_count, task)
    raise InputError(
        "no exporter for this kind of estimator",
        got=f"{type(estimator).__module__}.{type(estimator).__qualname__}",
        hint="return one of LightGBM, XGBoost, CatBoost, scikit-learn or PyTorch, or register an ONNX file of your own",
    )


def one_each(estimator: Any, task: Task) -> Sequence[Any] | None:
    """The estimators of a list, or of scikit-learn's ``MultiOutputRegressor``: one for each number; else None.

    Raises
    ------
    InputError
        When a list does not hold one for each number of the task.
    """
    several = estimator.estimators_ if type(estimator).__name__ == "MultiOutputRegressor" else estimator
    if not isinstance(several, list | tuple):
        return None
    if task.kind != "regression" or len(several) != task.outputs or not task.names:
        raise InputError(
            "a list of estimators that does not fit the task",
            got=f"{len(several)} for {task.kind} of {task.outputs}",
            hint="one for each number of a regression of several",
        )
    return several


def predict_original(estimator: Any, rows: NDArray[np.float32], task: Task) -> NDArray[np.float64]:
    """What the estimator itself says: shape (n,), the probability of class 1 or the number; (n, k) for k outputs."""
    several = one_each(estimator, task)
    if several is not None:
        single = Task("regression", task.target, task.loss)
        return np.stack([predict_original(one, rows, single) for one in several], axis=1)
    family = _family(estimator)
    if family == "lightgbm":
        found = getattr(estimator, "booster_", estimator).predict(rows, num_threads=1)
    elif family == "xgboost" and not hasattr(estimator, "get_booster"):
        found = _predict_xgboost(estimator, rows)
    elif family == "torch":
        found = predict_torch(estimator, rows)
    elif family == "catboost" and task.kind != "regression":
        found = np.asarray(estimator.predict(rows, prediction_type="Probability"))
        found = found[:, 1] if task.kind == "binary" else found
    elif task.kind == "binary":
        found = estimator.predict_proba(rows)[:, 1]
    elif task.kind == "multiclass":
        found = estimator.predict_proba(rows)
    else:
        found = estimator.predict(rows)
    shape = (len(rows),) if task.outputs == 1 else (len(rows), task.outputs)
    return in_order(np.asarray(found, np.float64).reshape(shape), order_of(estimator, task))


def _predict_xgboost(booster: Any, rows: NDArray[np.float32]) -> Any:
    xgboost = import_module("xgboost")
    best = booster.attr("best_iteration")
    span = (0, 0) if best is None else (0, int(best) + 1)
    return booster.predict(xgboost.DMatrix(rows), iteration_range=span, validate_features=False)


def check_parity(
    estimator: Any, runtime: OnnxModel, rows: NDArray[np.float32], task: Task, tolerance: float = TOLERANCE
) -> ExportParity:
    """Compare an exported model with the estimator on rows.

    Raises
    ------
    ParityError
        When they disagree; see :func:`trimtab.training.export.compare_exported`.
    InputError
        When what should be probabilities is not.
    """
    original = predict_original(estimator, rows, task)
    check_probabilities(original, task)
    exported = predictions(runtime.run(rows))
    multiclass = task.kind == "multiclass"
    return compare_exported(
        original, exported, binary=task.kind == "binary", multiclass=multiclass, tolerance=tolerance
    )


class OnnxExporter:
    """The embedded :class:`trimtab.training.export.Exporter`: ONNX, run by ONNX Runtime."""

    def __init__(self, *, tolerance: float = TOLERANCE, threads: int = 1) -> None:
        self._tolerance, self._threads = tolerance, threads

    def export(self, estimator: Any, rows: NDArray[np.float32], *, task: Task) -> Exported:
        """Export, load and compare on ``rows``."""
        data = export(estimator, rows.shape[1], task)
        runtime = OnnxModel(data, threads=self._threads, outputs=task.outputs)
        parity = check_parity(estimator, runtime, rows, task, self._tolerance)

        def predict(values: NDArray[np.float32]) -> NDArray[np.float64]:
            return predictions(np.concatenate(_in_parts(runtime.run, values)))

        return Exported(data, "model.onnx", "onnx", predict, parity, libraries(estimator))


def _in_parts(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], values: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Run many rows on every core, few at once. Each row is computed alone either way, so the outputs are the same."""
    parts = min(os.cpu_count() or 1, len(values) // PARALLEL_ROWS)
    if parts < 2:
        return [run(values)]
    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(run, np.array_split(values, parts)))


def libraries(estimator: Any = None) -> dict[str, str]:
    """Installed versions of the libraries that decide what a model says."""
    made_by = [_family(one) for one in (estimator if isinstance(estimator, list | tuple) else [estimator])]
    found = {}
    for name in (*_ALWAYS, *(name for family in sorted(set(made_by)) for name in _DISTRIBUTIONS.get(family, ()))):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _family(estimator: Any) -> str:
    """Top-level package of the estimator's class, or of the first base class that has a known one."""
    for base in type(estimator).__mro__:
        if (top := base.__module__.partition(".")[0]) in _KNOWN:
            return top
    return ""


def _check_probable(estimator: Any, task: Task) -> None:
    if task.kind != "regression" and _family(estimator) == "sklearn" and not hasattr(estimator, "predict_proba"):
        raise InputError(
            f"the estimator of a {task.kind} task gives no probabilities",
            got=type(estimator).__name__,
            hint="use one with predict_proba, or wrap it in CalibratedClassifierCV",
        )


def _require(module: str, *, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{module} is needed to export this estimator", got=str(error), hint=f"pip install 'trimtab[{extra}]'"
        ) from None
