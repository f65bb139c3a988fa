"""LightGBM to ONNX, exactly.

LightGBM keeps thresholds as float64, ONNX as float32. Inputs are float32, so ``x <= t`` is the same question as
``x <= floor32(t)`` with the largest float32 that is not above ``t``: no row changes sides. Rounding to the *nearest*
float32, which general converters do, sends rows that lie between the two to the other child.

Missing values follow LightGBM's ``Tree::NumericalDecision``: with ``missing_type`` NaN they take the default
direction, with None they are compared as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trimtab.errors import InputError

Tree = Mapping[str, Any]

_IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
_EXPONENTIAL = ("poisson", "gamma", "tweedie")
_LOGISTIC = ("binary", "cross_entropy")


def floor32(value: float) -> float:
    """The largest float32 that is not above ``value``.

    Examples
    --------
    >>> floor32(0.1) <= 0.1 < float(np.float32(0.1))
    True
    """
    with np.errstate(over="ignore"):
        near = np.float32(value)
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > value else near)


def convert_booster(booster: Any, *, features: int) -> bytes:
    """A LightGBM booster as an ONNX file with input ``input`` (n, features) and output ``output`` (n, 1).

    Equal boosters give equal bytes.

    Parameters
    ----------
    booster
        A ``lightgbm.Booster`` of one output; its best iteration counts, as in ``predict``.
    features
        Columns of the input.

    Raises
    ------
    InputError
        When the booster uses something that has no exact ONNX form, with what to use instead.
    """
    dump = booster.dump_model()
    if dump["num_tree_per_iteration"] != 1:
        raise _refuse(
            "more than one output", got=f"{dump['num_tree_per_iteration']} classes", hint="train one model each"
        )
    if dump["max_feature_idx"] + 1 > features:
        raise _refuse("more features than the data have", got=f"{dump['max_feature_idx'] + 1}, expected {features}")
    name, scale, square = _objective(dump)
    trees = [tree["tree_structure"] for tree in dump["tree_info"]]
    if dump.get("average_output"):
        scale /= max(1, len(trees))
    nodes = _Ensemble()
    for number, tree in enumerate(trees):
        nodes.add_tree(number, tree, scale)
    return _assemble(nodes, features=features, name=name, square=square)


def _objective(dump: Mapping[str, Any]) -> tuple[str, float, bool]:
    """Name of the objective, factor on the raw score, and whether the score is squared (``reg_sqrt``)."""
    name, *options = str(dump.get("objective", "")).split()
    if name not in (*_IDENTITY, *_EXPONENTIAL, *_LOGISTIC):
        raise _refuse(
            "an objective without an exact ONNX form",
            got=name or "a custom objective",
            hint=f"use one of {', '.join((*_LOGISTIC, *_IDENTITY, *_EXPONENTIAL))}",
        )
    sigmoid = next((float(one.partition(":")[2]) for one in options if one.startswith("sigmoid:")), 1.0)
    return name, sigmoid, "sqrt" in options


def _refuse(what: str, *, got: str = "", hint: str = "") -> InputError:
    return InputError(f"this LightGBM model has {what}, so it is not exported", got=got, hint=hint)


class _Ensemble:
    """The parallel lists that a TreeEnsembleRegressor is written as."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, str, float, int, int, int]] = []
        self.leaves: list[tuple[int, int, float]] = []

    def add_tree(self, number: int, root: Tree, scale: float) -> None:
        """Append a tree in depth-first order, children after their parent."""
        pending = [(root, 0)]
        following = 1
        while pending:
            node, place = pending.pop()
            if "split_feature" not in node:
                if "leaf_coeff" in node:
                    raise _refuse("linear leaves", hint="train with linear_tree=False")
                self.rows.append((number, place, 0, "LEAF", 0.0, 0, 0, 0))
                self.leaves.append((number, place, float(node["leaf_value"]) * scale))
                continue
            mode, value, missing = _question(node)
            left, right = following, following + 1
            following += 2
            self.rows.append((number, place, int(node["split_feature"]), mode, value, left, right, missing))
            pending += [(node["right_child"], right), (node["left_child"], left)]

    def attributes(self) -> dict[str, Any]:
        """Attributes of the ONNX operator; nodes of a tree stand in the order of their ids."""
        rows = sorted(self.rows, key=lambda row: row[:2])
        names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
        columns = list(zip(*rows, strict=True))
        nodes = {f"nodes_{name}": list(column) for name, column in zip(names, columns[:-1], strict=True)}
        leaves = sorted(self.leaves)
        return nodes | {
            "nodes_missing_value_tracks_true": list(columns[-1]),
            "target_treeids": [leaf[0] for leaf in leaves],
            "target_nodeids": [leaf[1] for leaf in leaves],
            "target_ids": [0] * len(leaves),
            "target_weights": [leaf[2] for leaf in leaves],
        }


def _question(node: Tree) -> tuple[str, float, int]:
    """The comparison of a node, its float32 threshold, and whether a missing value goes left."""
    if node["decision_type"] != "<=":
        raise _refuse(
            "categorical splits",
            got=f"feature {node['split_feature']}",
            hint="give it numbers: an order, or one column each",
        )
    threshold = float(node["threshold"])
    default_left = bool(node["default_left"])
    # Zero: a missing value is a zero, and every zero takes the default direction. Only where that is
    # the direction a zero takes anyway can one comparison say the same.
    if node["missing_type"] == "Zero" and default_left != (threshold >= 0.0):
        raise _refuse("zeros that count as missing", hint="train with zero_as_missing=False and use NaN for missing")
    missing_left = default_left if node["missing_type"] == "NaN" else threshold >= 0.0
    return "BRANCH_LEQ", floor32(threshold), int(missing_left)


def _assemble(nodes: _Ensemble, *, features: int, name: str, square: bool) -> bytes:
    from onnx import TensorProto, helper

    # ONNX Runtime ignores the operator's own post_transform when there is one target, hence nodes of our own.
    after = []
    if name in _LOGISTIC:
        after = [helper.make_node("Sigmoid", ["raw"], ["output"], name="sigmoid")]
    elif name in _EXPONENTIAL:
        after = [helper.make_node("Exp", ["raw"], ["output"], name="exp")]
    elif square:
        after = [
            helper.make_node("Abs", ["raw"], ["size"], name="abs"),
            helper.make_node("Mul", ["raw", "size"], ["output"], name="square"),
        ]
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["input"],
        ["raw" if after else "output"],
        name="trees",
        domain="ai.onnx.ml",
        n_targets=1,
        **nodes.attributes(),
    )
    graph = helper.make_graph(
        [ensemble, *after],
        "model",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, producer_name="trimtab", opset_imports=opsets, ir_version=8)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
