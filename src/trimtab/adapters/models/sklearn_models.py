"""scikit-learn to ONNX through skl2onnx, with one output that says what the task asks for."""

from __future__ import annotations

from typing import Any

from trimtab.adapters.models.sklearn_missing import keep_missing
from trimtab.errors import InputError
from trimtab.training.task import Task

_OPSETS = {"": 17, "ai.onnx.ml": 3}


def convert_sklearn(estimator: Any, feature_count: int, task: Task) -> bytes:
    """A scikit-learn estimator as an ONNX file with one output ``output`` (n, k).

    Raises
    ------
    InputError
        When skl2onnx cannot export it.
    """
    import skl2onnx
    from onnx import TensorProto, helper
    from skl2onnx.common.data_types import FloatTensorType

    try:
        model = skl2onnx.to_onnx(
            estimator,
            initial_types=[("input", FloatTensorType([None, feature_count]))],
            options={id(estimator): {"zipmap": False}} if task.kind != "regression" else None,
            target_opset=_OPSETS,
        )
    except Exception as error:  # noqa: BLE001 - its converters raise whatever they run into, KeyError and all
        raise _refused(estimator, error) from None
    graph = model.graph
    keep_missing(graph, estimator)
    source = graph.output[-1].name
    if task.kind != "regression":
        source = _at_most_one(graph, source)
    if task.kind == "binary":
        graph.initializer.append(helper.make_tensor("positive", TensorProto.INT64, [1], [1]))
        graph.node.append(helper.make_node("Gather", [source, "positive"], ["output"], name="positive_class", axis=1))
    else:
        graph.initializer.append(helper.make_tensor("column", TensorProto.INT64, [2], [-1, task.outputs]))
        graph.node.append(helper.make_node("Reshape", [source, "column"], ["output"], name="as_column"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, task.outputs]))
    # Names and versions of the tool that wrote the file would change its digest, not what it says.
    graph.name, model.doc_string, model.domain, model.model_version = "model", "", "", 0
    model.producer_name, model.producer_version = "trimtab", ""
    del model.metadata_props[:]
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _at_most_one(graph: Any, source: str) -> str:
    """A sum of float32 over many trees may be a little past 1, which no probability is; NaN stays what it is."""
    from onnx import TensorProto, helper

    graph.initializer.append(helper.make_tensor("most", TensorProto.FLOAT, [1], [1.0]))
    graph.node.append(helper.make_node("Greater", [source, "most"], ["past_most"], name="past_most"))
    graph.node.append(helper.make_node("Where", ["past_most", "most", source], ["at_most_one"], name="at_most_one"))
    return "at_most_one"


def _refused(estimator: Any, error: Exception) -> InputError:
    """What it said; a ``KeyError`` of it only names a class inside the estimator that it does not know."""
    said = next(iter(str(error).splitlines()), "")[:300]
    if isinstance(error, KeyError):
        inner = error.args[0] if error.args else ""
        said = f"{type(estimator).__name__} of {inner.__name__ if isinstance(inner, type) else inner}"
    hint = "use another estimator, or register an ONNX file of your own"
    if any(library in said.lower() for library in ("lightgbm", "lgbm", "xgb", "catboost")):
        hint = f"inside of others it knows estimators of scikit-learn only: return that one by itself, or {hint}"
    return InputError("skl2onnx cannot export this estimator", got=said or type(error).__name__, hint=hint)
