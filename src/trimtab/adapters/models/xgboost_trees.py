"""XGBoost to ONNX, exactly.

XGBoost keeps thresholds as float32 and asks ``x < t``; ONNX asks ``x <= t'`` with the float32 just under ``t``, which
is the same question. A missing value takes the default direction of each split: NaN, and for an estimator also the
float32 that its ``missing`` says. A booster alone does not know what its training took for missing besides NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trimtab.adapters.models.tree_ensemble import Link, TreeEnsemble, below32
from trimtab.errors import InputError

_LINKS: dict[str, Link] = {
    "binary:logistic": "sigmoid",
    "reg:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "reg:squarederror": "identity",
    "reg:squaredlogerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
}


def convert_xgboost(booster: Any, *, features: int, probability: bool, outputs: int = 1) -> bytes:
    """An ``xgboost.Booster`` as an ONNX file (see :meth:`TreeEnsemble.to_onnx`).

    Parameters
    ----------
    booster
        With one tree for each output, or an estimator that holds it; where early stopping found a best iteration,
        that one counts.
    features, probability, outputs
        Columns of the input; whether probabilities are needed; outputs of the task.

    Raises
    ------
    InputError
        When it uses something that has no exact ONNX form, with what to use instead.
    """
    missing = _missing(booster)
    booster = booster.get_booster() if hasattr(booster, "get_booster") else booster
    learner = json.loads(booster.save_raw("json"))["learner"]
    parameters = learner["learner_model_param"]
    link = _link(learner["objective"], probability=probability)
    if int(parameters["num_feature"]) != features:
        got = f"{parameters['num_feature']} and {features}"
        raise _refuse("another number of columns than the data", got=got)
    given = max(1, int(parameters["num_class"]), int(parameters["num_target"]))
    if given != outputs:
        got = f"{given}, the task has {outputs}"
        raise _refuse("another number of outputs than the task", got=got, hint="a multiclass task needs multi:softprob")
    model, weights = _model(learner["gradient_booster"])
    ensemble = TreeEnsemble()
    trees = model["trees"][: _last(booster, model)]
    for number, tree in enumerate(trees):
        scale = 1.0 if weights is None else float(weights[number])
        _add_tree(ensemble, number, tree, output=int(model["tree_info"][number]), scale=scale)
    bases = _bases(str(parameters["base_score"]), link, outputs)
    base = bases if outputs > 1 else bases[0]
    return ensemble.to_onnx(features=features, link=link, base=base, missing=missing)


def _missing(estimator: Any) -> float:
    """The number that counts as missing beside NaN; NaN when there is none."""
    said = getattr(estimator, "missing", None)
    return math.nan if said is None else float(said)


def _link(objective: Mapping[str, Any], *, probability: bool) -> Link:
    name = str(objective["name"])
    if name not in _LINKS:
        raise _refuse("an objective without an exact ONNX form", got=name, hint=f"use one of {', '.join(_LINKS)}")
    if probability and _LINKS[name] not in ("sigmoid", "softmax"):
        raise _refuse(
            "an objective that gives no probabilities", got=name, hint="use binary:logistic or multi:softprob"
        )
    return _LINKS[name]


def _model(booster: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[float] | None]:
    """The trees, and the weight of each where some were dropped out in training."""
    match booster["name"]:
        case "gbtree":
            return booster["model"], None
        case "dart":
            return booster["gbtree"]["model"], booster["weight_drop"]
    raise _refuse("no trees", got=str(booster["name"]), hint='train with booster="gbtree"')


def _last(booster: Any, model: Mapping[str, Any]) -> int:
    """How many trees count: ``predict`` of the scikit-learn interface stops at the best iteration."""
    best = booster.attr("best_iteration")
    edges = model.get("iteration_indptr")
    if best is None or not edges:
        return len(model["trees"])
    return int(edges[min(int(best) + 1, len(edges) - 1)])


def _bases(text: str, link: Link, outputs: int) -> list[float]:
    """The scores that the sums start from; XGBoost states them as predictions."""
    given = json.loads(text)
    said = [float(one) for one in given] if isinstance(given, list) else [float(given)]
    said = said * outputs if len(said) == 1 else said
    match link:
        case "sigmoid":
            return [-math.log(1 / one - 1) for one in said]
        case "exp":
            return [math.log(one) for one in said]
    return said


def _refuse(what: str, *, got: str = "", hint: str = "") -> InputError:
    return InputError(f"this XGBoost model has {what}, so it is not exported", got=got, hint=hint)


def _add_tree(ensemble: TreeEnsemble, number: int, tree: Mapping[str, Any], *, output: int, scale: float) -> None:
    if int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise _refuse("leaves of several values", hint='train with multi_strategy="one_output_per_tree"')
    if tree.get("categories_nodes"):
        raise _refuse("categorical splits", hint="give it numbers: an order, or one column for each category")
    left, right = tree["left_children"], tree["right_children"]
    for node, child in enumerate(left):
        # Written with as few digits as name the float32, which is the nearest to them and not the one below.
        value = float(np.float32(tree["split_conditions"][node]))
        if child < 0:
            ensemble.add_leaf(number, node, value=value * scale, output=output)
            continue
        ensemble.add_split(
            number,
            node,
            feature=int(tree["split_indices"][node]),
            threshold=below32(value),
            children=(int(child), int(right[node])),
            missing_left=bool(tree["default_left"][node]),
        )
