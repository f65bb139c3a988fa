"""scikit-learn to ONNX through skl2onnx, with one output that says what the task asks for."""

from __future__ import annotations

from typing import Any

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
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    try:
        model = skl2onnx.to_onnx(
            estimator,
            initial_types=[("input", FloatTensorType([None, feature_count]))],
            options={id(estimator): {"zipmap": False}} if task.kind != "regression" else None,
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
