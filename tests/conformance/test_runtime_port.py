"""The suite of model runtimes, over ONNX Runtime, a child process, and a model that is loaded on demand."""

import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from trimtab.adapters.models.foreign import Foreign
from trimtab.adapters.models.isolated import IsolatedModel
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.models.onnx_tensors import OnnxTensors
from trimtab.registry.manifest import Tensor
from trimtab.serving.residency import Residency
from trimtab.testing.runtime import ModelRuntimeConformance

HANDLER = b"def handle(data, context):\n    return 2 * data.sum(axis=1, keepdims=True)\n"


def doubled_sum():
    """An ONNX file: x (n, 2) → twice the sum of a row, (n, 1)."""
    weights = numpy_helper.from_array(np.full((2, 1), 2, np.float32), "w")
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in (("x", 2), ("y", 1))
    ]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", tensors[:1], tensors[1:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


class TestOnnxModel(ModelRuntimeConformance):
    def make(self, place):
        return OnnxModel(doubled_sum())


class TestOnnxTensors(ModelRuntimeConformance):
    def make(self, place):
        return OnnxTensors(
            doubled_sum(), inputs=[Tensor("x", "float32", (-1, 2))], outputs=[Tensor("y", "float32", (-1, 1))]
        )


class TestLoadedOnDemand(ModelRuntimeConformance):
    def make(self, place):
        return Residency(1).model(10, lambda: OnnxModel(doubled_sum()))


class TestIsolated(ModelRuntimeConformance):
    def make(self, place):
        spec = Foreign("handler", entry="handler.py", inputs=("a", "b"), takes="matrix", start_s=20, call_s=5)
        return IsolatedModel({"handler.py": HANDLER}, spec, model="m", root=place / "models", python=sys.executable)
