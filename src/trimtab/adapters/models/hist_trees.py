"""scikit-learn's histogram gradient boosting to ONNX, exactly; missing values included."""

from __future__ import annotations

from typing import Any

from trimtab.adapters.models.tree_ensemble import Link, TreeEnsemble
from trimtab.errors import InputError

CLASSES = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
_LINKS: dict[str, Link] = {
    "log_loss": "sigmoid",
    "squared_error": "identity",
    "absolute_error": "identity",
    "quantile": "identity",
    "poisson": "exp",
    "gamma": "exp",
}


def convert_hist(estimator: Any, *, features: int) -> bytes:
    """A fitted estimator as an ONNX file (see :meth:`TreeEnsemble.to_onnx`).

    It reads the fitted trees from private attributes, which scikit-learn may rename: the parity check on real
    rows that follows every export is what makes this safe.

    Raises
    ------
    InputError
        When it has more than two classes or categorical features.
    """
    if estimator.n_trees_per_iteration_ != 1 or estimator.loss not in _LINKS:
        raise InputError(
            "this estimator has no single output with an exact ONNX form",
            got=f"{estimator.n_trees_per_iteration_} outputs, loss {estimator.loss!r}",
            hint=f"use one output and one of the losses {', '.join(_LINKS)}",
        )
    ensemble = TreeEnsemble()
    for number, (predictor,) in enumerate(estimator._predictors):
        for place, node in enumerate(predictor.nodes):
            if node["is_leaf"]:
                ensemble.add_leaf(number, place, value=float(node["value"]))
                continue
            if node["is_categorical"]:
                raise InputError(
                    "categorical splits have no exact ONNX form",
                    got=f"feature {node['feature_idx']}",
                    hint="give it numbers: an order, or one column for each category",
                )
            ensemble.add_split(
                number,
                place,
                feature=int(node["feature_idx"]),
                threshold=float(node["num_threshold"]),
                children=(int(node["left"]), int(node["right"])),
                missing_left=bool(node["missing_go_to_left"]),
            )
    base = float(estimator._baseline_prediction.ravel()[0])
    return ensemble.to_onnx(features=features, link=_LINKS[estimator.loss], base=base)
