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
        When it has categorical features or a loss without an exact form.
    """
    if estimator.loss not in _LINKS:
        raise InputError(
            "this estimator has no exact ONNX form",
            got=f"loss {estimator.loss!r}",
            hint=f"use one of the losses {', '.join(_LINKS)}",
        )
    outputs = int(estimator.n_trees_per_iteration_)
    ensemble = TreeEnsemble()
    for number, predictor in enumerate(one for turn in estimator._predictors for one in turn):
        for place, node in enumerate(predictor.nodes):
            if node["is_leaf"]:
                ensemble.add_leaf(number, place, value=float(node["value"]), output=number % outputs)
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
    bases = [float(one) for one in estimator._baseline_prediction.ravel()]
    if outputs > 1:
        return ensemble.to_onnx(features=features, link="softmax", base=bases)
    return ensemble.to_onnx(features=features, link=_LINKS[estimator.loss], base=bases[0])
