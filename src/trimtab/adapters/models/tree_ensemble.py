"""Trees as ONNX, exactly: thresholds that keep every float32 row on its side, and missing values as they were learned.

Libraries keep thresholds as float64, ONNX as float32. Inputs are float32, so ``x <= t`` is the same question as
``x <= floor32(t)`` with the largest float32 that is not above ``t``: no row changes sides. Rounding to the *nearest*
float32, as general converters do, sends rows that lie between the two to the other child.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Link = Literal["identity", "sigmoid", "exp", "square", "softmax"]
"""From the sums over trees to the predictions; ``square`` is ``x * |x|``, ``softmax`` is over all outputs of a row."""


def floor32(value: float) -> float:
    """The largest float32 that is not above ``value``.

    Examples
    --------
    >>> floor32(0.1) <= 0.1 < float(np.float32(0.1))
    True
    """
    with np.errstate(over="ignore", under="ignore"):
        near = np.float32(value)
        return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > value else near)


def below32(value: float) -> float:
    """The largest float32 under ``value``: for a float32, ``x < value`` is ``x <= below32(value)``.

    Examples
    --------
    >>> below32(1.0) < 1.0 == float(np.nextafter(np.float32(below32(1.0)), np.float32(2)))
    True
    """
    near = floor32(value)
    with np.errstate(over="ignore", under="ignore"):
        return near if near < value else float(np.nextafter(np.float32(near), np.float32(-np.inf)))


class TreeEnsemble:
    """A sum of trees for each output, collected node by node. Nodes of a tree are numbered from 0, the root."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, int, int, str, float, int, int, int]] = []
        self._leaves: list[tuple[int, int, int, float]] = []

    def add_split(
        self, tree: int, node: int, *, feature: int, threshold: float, children: tuple[int, int], missing_left: bool
    ) -> None:
        """A node that sends ``x <= threshold`` to the first child, and a missing value where it is told."""
        self._nodes.append((tree, node, feature, "BRANCH_LEQ", floor32(threshold), *children, int(missing_left)))

    def add_leaf(self, tree: int, node: int, *, value: float | Sequence[float], output: int = 0) -> None:
        """A node that adds ``value`` to the sum of ``output``; several values go to the outputs from 0."""
        self._nodes.append((tree, node, 0, "LEAF", 0.0, 0, 0, 0))
        for place, one in enumerate(value if isinstance(value, Sequence) else (value,), start=output):
            self._leaves.append((tree, node, place, float(one)))

    def to_onnx(
        self, *, features: int, link: Link, base: float | Sequence[float] = 0.0, missing: float = math.nan
    ) -> bytes:
        """An ONNX file with input ``input`` (n, features) and output ``output`` (n, k), float32 both.

        Equal ensembles give equal bytes.

        Parameters
        ----------
        features
            Columns of the input.
        link
            Applied to the sum.
        base
            Added to the sum; a sequence holds one for each of k outputs.
        missing
            A number that counts as missing too, as NaN always does.
        """
        from onnx import TensorProto, helper

        # ONNX Runtime ignores the operator's own post_transform when there is one target, hence nodes of our own.
        after = _link_nodes(link)
        bases = [float(one) for one in base] if isinstance(base, Sequence) else [base]
        before, constants = ([], []) if math.isnan(missing) else _without(missing)
        ensemble = helper.make_node(
            "TreeEnsembleRegressor",
            ["seen" if before else "input"],
            ["raw" if after else "output"],
            name="trees",
            domain="ai.onnx.ml",
            n_targets=len(bases),
            base_values=bases,
            **self._attributes(),
        )
        graph = helper.make_graph(
            [*before, ensemble, *after],
            "model",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, features])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, len(bases)])],
            initializer=constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, producer_name="trimtab", opset_imports=opsets, ir_version=8)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _attributes(self) -> dict[str, Any]:
        """Attributes of the operator: parallel lists, nodes of a tree in the order of their ids."""
        names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
        columns = [list(column) for column in zip(*sorted(self._nodes), strict=True)]
        leaves = sorted(self._leaves)
        return {f"nodes_{name}": column for name, column in zip(names, columns[:-1], strict=True)} | {
            "nodes_missing_value_tracks_true": columns[-1],
            "target_treeids": [leaf[0] for leaf in leaves],
            "target_nodeids": [leaf[1] for leaf in leaves],
            "target_ids": [leaf[2] for leaf in leaves],
            "target_weights": [leaf[3] for leaf in leaves],
        }


def _without(missing: float) -> tuple[list[Any], list[Any]]:
    """Nodes that make NaN of a number, from ``input`` to ``seen``, and their constants."""
    from onnx import TensorProto, helper

    with np.errstate(over="ignore"):
        value = float(np.float32(missing))
    constants = [
        helper.make_tensor("missing", TensorProto.FLOAT, [1], [value]),
        helper.make_tensor("nothing", TensorProto.FLOAT, [1], [math.nan]),
    ]
    equal = helper.make_node("Equal", ["input", "missing"], ["is_missing"], name="is_missing")
    return [equal, helper.make_node("Where", ["is_missing", "nothing", "input"], ["seen"], name="seen")], constants


def _link_nodes(link: Link) -> list[Any]:
    from onnx import helper

    match link:
        case "sigmoid":
            return [helper.make_node("Sigmoid", ["raw"], ["output"], name="sigmoid")]
        case "softmax":
            return [helper.make_node("Softmax", ["raw"], ["output"], name="softmax", axis=1)]
        case "exp":
            return [helper.make_node("Exp", ["raw"], ["output"], name="exp")]
        case "square":
            size = helper.make_node("Abs", ["raw"], ["size"], name="abs")
            return [size, helper.make_node("Mul", ["raw", "size"], ["output"], name="square")]
        case "identity":
            return []
