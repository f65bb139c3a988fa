"""LightGBM to ONNX, exactly.

Missing values follow LightGBM's ``Tree::NumericalDecision``: with ``missing_type`` NaN they take the default
direction, with None they are compared as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.adapters.models.tree_ensemble import Link, TreeEnsemble
from trimtab.errors import InputError

_LINKS: dict[str, Link] = {
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "quantile": "identity",
    "mape": "identity",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
}


def convert_booster(booster: Any, *, features: int, probability: bool, outputs: int = 1) -> bytes:
    """A LightGBM booster as an ONNX file (see :meth:`TreeEnsemble.to_onnx`).

    Parameters
    ----------
    booster
        A ``lightgbm.Booster``, or an estimator that holds one; its best iteration counts, as in ``predict``.
    features
        Columns of the input.
    probability
        Whether it must give probabilities.
    outputs
        Classes of the task; 1 for a number or one probability.

    Raises
    ------
    InputError
        When the booster uses something that has no exact ONNX form, with what to use instead.
    """
    dump = getattr(booster, "booster_", booster).dump_model()
    if dump["num_tree_per_iteration"] != outputs:
        got = f"{dump['num_tree_per_iteration']}, the task has {outputs}"
        hint = 'a multiclass task needs the objective "multiclass" and num_class; several numbers a list of boosters'
        raise _refuse("another number of outputs than the task", got=got, hint=hint)
    if dump["max_feature_idx"] + 1 != features:
        raise _refuse("another number of columns than the data", got=f"{dump['max_feature_idx'] + 1} and {features}")
    link, scale = _objective(str(dump.get("objective", "")))
    if probability and link not in ("sigmoid", "softmax"):
        hint = 'train a binary task with the objective "binary", several classes with "multiclass"'
        raise _refuse("an objective that gives no probabilities", got=str(dump["objective"]), hint=hint)
    trees = [tree["tree_structure"] for tree in dump["tree_info"]]
    if dump.get("average_output"):
        scale /= max(1, len(trees) // outputs)
    ensemble = TreeEnsemble()
    for number, root in enumerate(trees):
        _add_tree(ensemble, number, root, scale, output=number % outputs)
    return ensemble.to_onnx(features=features, link=link, base=0.0 if outputs == 1 else [0.0] * outputs)


def _objective(text: str) -> tuple[Link, float]:
    """The link of an objective, and the factor on the sum before it."""
    name, *options = text.split() or [""]
    if name not in _LINKS:
        got = name or "a custom objective"
        raise _refuse("an objective without an exact ONNX form", got=got, hint=f"use one of {', '.join(_LINKS)}")
    sigmoid = next((float(one.partition(":")[2]) for one in options if one.startswith("sigmoid:")), 1.0)
    return "square" if "sqrt" in options else _LINKS[name], sigmoid


def _refuse(what: str, *, got: str = "", hint: str = "") -> InputError:
    return InputError(f"this LightGBM model has {what}, so it is not exported", got=got, hint=hint)


def _add_tree(ensemble: TreeEnsemble, number: int, root: Mapping[str, Any], scale: float, *, output: int) -> None:
    pending, following = [(root, 0)], 1
    while pending:
        node, place = pending.pop()
        if "split_feature" not in node:
            if "leaf_coeff" in node:
                raise _refuse("linear leaves", hint="train with linear_tree=False")
            ensemble.add_leaf(number, place, value=float(node["leaf_value"]) * scale, output=output)
            continue
        children = (following, following + 1)
        following += 2
        ensemble.add_split(
            number,
            place,
            feature=int(node["split_feature"]),
            threshold=float(node["threshold"]) if node["decision_type"] == "<=" else _no_categories(node),
            children=children,
            missing_left=_missing_left(node),
        )
        pending += [(node["right_child"], children[1]), (node["left_child"], children[0])]


def _no_categories(node: Mapping[str, Any]) -> float:
    hint = "give it numbers: an order, or one column for each category"
    raise _refuse("categorical splits", got=f"feature {node['split_feature']}", hint=hint)


def _missing_left(node: Mapping[str, Any]) -> bool:
    default_left, zero_left = bool(node["default_left"]), float(node["threshold"]) >= 0.0
    if node["missing_type"] == "NaN":
        return default_left
    # Zero: a missing value is a zero, and every zero takes the default direction. Only where that is
    # the direction a zero takes anyway can one comparison say the same.
    if node["missing_type"] == "Zero" and default_left != zero_left:
        raise _refuse("zeros that count as missing", hint="train with zero_as_missing=False and use NaN for missing")
    return zero_left
