"""Several models of one output as one model of several."""

from __future__ import annotations

from collections.abc import Sequence


def merge(models: Sequence[bytes]) -> bytes:
    """ONNX files with input ``input`` (n, features) and output ``output`` (n, 1) as one with output (n, k).

    They are run side by side on the same rows; equal files give equal bytes.
    """
    import onnx
    from onnx import TensorProto, compose, helper

    loaded = [onnx.load_model_from_string(data) for data in models]
    first = loaded[0]
    parts = [compose.add_prefix(model, f"m{place}/") for place, model in enumerate(loaded)]
    for place, part in enumerate(parts):
        for node in part.graph.node:
            node.input[:] = ["input" if name == f"m{place}/input" else name for name in node.input]
    outputs = [part.graph.output[0].name for part in parts]
    joined = helper.make_node("Concat", outputs, ["output"], name="outputs", axis=1)
    graph = helper.make_graph(
        [*(node for part in parts for node in part.graph.node), joined],
        "model",
        [first.graph.input[0]],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, len(models)])],
        initializer=[one for part in parts for one in part.graph.initializer],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, producer_name="trimtab", opset_imports=opsets, ir_version=first.ir_version)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
