"""CatBoost to ONNX, exactly.

A split asks ``x > border`` with a float32 border. Missing values count as less than every border, or as more than
every, as the model says for each column; a column that had none in training sends them where a comparison with NaN
does: to the smaller side.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.adapters.models.tree_ensemble import Link, TreeEnsemble
from trimtab.errors import InputError

_LINKS: dict[str, Link] = {
    "Logloss": "sigmoid",
    "CrossEntropy": "sigmoid",
    "MultiClass": "softmax",
    "MultiClassOneVsAll": "sigmoid",
    "RMSE": "identity",
    "MultiRMSE": "identity",
    "MAE": "identity",
    "Quantile": "identity",
    "MAPE": "identity",
    "Huber": "identity",
    "Poisson": "exp",
    "Tweedie": "exp",
}


def convert_catboost(model: Any, *, features: int, probability: bool, outputs: int = 1) -> bytes:
    """A fitted ``catboost`` model as an ONNX file (see :meth:`TreeEnsemble.to_onnx`).

    Raises
    ------
    InputError
        When it uses something that has no exact ONNX form, with what to use instead.
    """
    dump = _dump(model)
    columns = dump["features_info"].get("float_features", [])
    if dump["features_info"].get("categorical_features") or dump.get("ctr_data"):
        raise _refuse("categorical features", hint="give it numbers: an order, or one column for each category")
    if max((int(one["flat_feature_index"]) for one in columns), default=-1) >= features:
        raise _refuse("more columns than the data", got=f"{len(columns)} and {features}")
    link = _link(dump, probability=probability)
    # A multiclass model of one against all has as many sums as classes, a binary one a single sum.
    scale, bases = float(dump["scale_and_bias"][0]), [float(one) for one in dump["scale_and_bias"][1]]
    if len(bases) != outputs:
        got = f"{len(bases)}, the task has {outputs}"
        hint = "a multiclass task needs the loss MultiClass, several numbers MultiRMSE"
        raise _refuse("another number of outputs than the task", got=got, hint=hint)
    ensemble = TreeEnsemble()
    place = {int(one["feature_index"]): one for one in columns}
    for number, tree in enumerate(dump.get("oblivious_trees") or ()):
        _add_oblivious(ensemble, number, tree, place, outputs=outputs, scale=scale)
    for number, tree in enumerate(dump.get("trees") or ()):
        _add_tree(ensemble, number, tree, place, scale=scale)
    return ensemble.to_onnx(features=features, link=link, base=bases if outputs > 1 else bases[0])


def _dump(model: Any) -> Any:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.json"
        model.save_model(str(path), format="json")
        return json.loads(path.read_text())


def _link(dump: Mapping[str, Any], *, probability: bool) -> Link:
    name = str(dump["model_info"]["params"]["loss_function"]["type"])
    if name not in _LINKS:
        raise _refuse("a loss without an exact ONNX form", got=name, hint=f"use one of {', '.join(_LINKS)}")
    if probability and _LINKS[name] not in ("sigmoid", "softmax"):
        raise _refuse("a loss that gives no probabilities", got=name, hint="use Logloss or MultiClass")
    return _LINKS[name]


def _refuse(what: str, *, got: str = "", hint: str = "") -> InputError:
    return InputError(f"this CatBoost model has {what}, so it is not exported", got=got, hint=hint)


def _split(split: Mapping[str, Any], columns: Mapping[int, Mapping[str, Any]]) -> tuple[int, float, bool]:
    """Column, border, and whether a missing value goes to the smaller side."""
    if split["split_type"] != "FloatFeature":
        raise _refuse("splits on something else than numbers", got=str(split["split_type"]))
    column = columns[int(split["float_feature_index"])]
    return (
        int(column["flat_feature_index"]),
        float(np.float32(split["border"])),
        column["nan_value_treatment"] != "AsTrue",
    )


def _add_oblivious(
    ensemble: TreeEnsemble,
    number: int,
    tree: Mapping[str, Any],
    columns: Mapping[int, Mapping[str, Any]],
    *,
    outputs: int,
    scale: float,
) -> None:
    """A tree with one question per level: bit ``i`` of a leaf's number is the answer to question ``i``."""
    splits = [_split(one, columns) for one in tree.get("splits") or ()]
    depth, leaves = len(splits), tree["leaf_values"]
    for level, (feature, border, missing_left) in enumerate(reversed(splits)):
        for place in range(1 << level):
            node = (1 << level) - 1 + place
            ensemble.add_split(
                number,
                node,
                feature=feature,
                threshold=border,
                children=(2 * node + 1, 2 * node + 2),
                missing_left=missing_left,
            )
    for leaf in range(1 << depth):
        values = [float(one) * scale for one in leaves[leaf * outputs : (leaf + 1) * outputs]]
        ensemble.add_leaf(number, (1 << depth) - 1 + leaf, value=values)


def _add_tree(
    ensemble: TreeEnsemble,
    number: int,
    root: Mapping[str, Any],
    columns: Mapping[int, Mapping[str, Any]],
    *,
    scale: float,
) -> None:
    pending, following = [(root, 0)], 1
    while pending:
        node, place = pending.pop()
        if "split" not in node:
            held = node["value"]
            values = [float(one) * scale for one in (held if isinstance(held, list) else [held])]
            ensemble.add_leaf(number, place, value=values)
            continue
        feature, border, missing_left = _split(node["split"], columns)
        children = (following, following + 1)
        following += 2
        ensemble.add_split(
            number, place, feature=feature, threshold=border, children=children, missing_left=missing_left
        )
        pending += [(node["right"], children[1]), (node["left"], children[0])]
