"""Models of any tensors: several inputs and outputs, any rank, any type; and nothing is rounded silently."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.unit.registry.memory import MemoryBlobs

from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.models.onnx_tensors import OnnxTensors, open_model, signature
from trimtab.adapters.models.register import register
from trimtab.errors import InputError
from trimtab.registry.bundle import load
from trimtab.registry.manifest import Tensor

TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


def graph(nodes, inputs, outputs):
    def infos(tensors):
        return [helper.make_tensor_value_info(name, TYPES[dtype], shape) for name, dtype, shape in tensors]

    model = helper.make_model(
        helper.make_graph(nodes, "g", infos(inputs), infos(outputs)),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return model.SerializeToString()


def echo(dtype, shape=("n", 2, 3)):
    return graph([helper.make_node("Identity", ["x"], ["y"])], [("x", dtype, shape)], [("y", dtype, shape)])


def mixed():
    """``both`` (n, 2, 2): an image plus an int64 code; ``flag``: the bool given; ``code``: the int64 given."""
    nodes = [
        helper.make_node("Cast", ["code"], ["code32"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["code32", "axis"], ["code3"]),
        helper.make_node("Add", ["image", "code3"], ["both"]),
        helper.make_node("Identity", ["flag"], ["flag_out"]),
        helper.make_node("Identity", ["code"], ["code_out"]),
    ]
    inputs = [("image", "float32", ["n", 2, 2]), ("code", "int64", ["n", 1]), ("flag", "bool", ["n"])]
    outputs = [("both", "float32", ["n", 2, 2]), ("flag_out", "bool", ["n"]), ("code_out", "int64", ["n", 1])]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(n, TYPES[d], s) for n, d, s in inputs],
            [helper.make_tensor_value_info(n, TYPES[d], s) for n, d, s in outputs],
            initializer=[helper.make_tensor("axis", TensorProto.INT64, [1], [2])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return model.SerializeToString()


@pytest.mark.parametrize("dtype", list(TYPES))
def test_a_tensor_of_every_type_comes_back(dtype):
    data = echo(dtype)
    inputs, outputs = signature(data)
    assert inputs == (Tensor("x", dtype, (-1, 2, 3)),)
    rows = np.array([[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1]], np.float32)
    said = OnnxTensors(data, inputs=inputs, outputs=outputs).run(rows)
    np.testing.assert_array_equal(said, rows)
    assert said.dtype == np.float32


def test_several_tensors_stand_side_by_side():
    inputs, outputs = signature(mixed())
    runtime = OnnxTensors(mixed(), inputs=inputs, outputs=outputs)
    assert runtime.features == 6
    said = runtime.run(np.array([[1, 2, 3, 4, 10, 1], [0, 0, 0, 0, -5, 0]], np.float32))
    assert said.tolist() == [[11, 12, 13, 14, 1, 10], [-5, -5, -5, -5, 0, -5]]


def test_a_model_of_tensors_is_registered_and_opened_by_its_manifest():
    blobs = MemoryBlobs()
    bundle = load(blobs, register(blobs, mixed(), name="mix", task=None))
    assert (bundle.manifest.task, [one.name for one in bundle.manifest.inputs]) == (
        "tensors",
        ["image", "code", "flag"],
    )
    assert open_model(bundle.manifest, bundle.model).run(np.zeros((3, 6), np.float32)).shape == (3, 6)


def test_some_outputs_may_be_left_out():
    blobs = MemoryBlobs()
    inputs, outputs = signature(mixed())
    bundle = load(blobs, register(blobs, mixed(), name="mix", task=None, signature=(inputs, outputs[:1])))
    assert open_model(bundle.manifest, bundle.model).run(np.zeros((1, 6), np.float32)).shape == (1, 4)


@pytest.mark.parametrize(
    ("dtype", "value", "sentence"),
    [
        ("int64", 2.0**24 + 2, "exact for integers up to 16,777,216"),
        ("int64", -(2.0**40), "exact for integers"),
        ("int64", 1.5, "no int64"),
        ("int64", np.nan, "no int64"),
        ("int8", 128, "from -128 to 127"),
        ("uint8", -1, "from 0 to 255"),
        ("bool", 2, "from 0 to 1"),
        ("float16", 65520, "past the range of float16"),
        ("float16", -1e30, "past the range of float16"),
        ("float16", np.inf, "past the range of float16"),
    ],
)
def test_a_value_that_is_none_of_its_type_is_refused(dtype, value, sentence):
    inputs, outputs = signature(echo(dtype, ("n", 1)))
    with pytest.raises(InputError, match=sentence):
        OnnxTensors(echo(dtype, ("n", 1)), inputs=inputs, outputs=outputs).run(np.array([[value]], np.float32))


@given(st.integers(-(2**24), 2**24))
def test_every_integer_that_is_taken_comes_back_exactly(value):
    said = ECHO.run(np.array([[value]], np.float32))
    assert int(said[0, 0]) == value


ECHO = OnnxTensors(
    echo("int64", ("n", 1)), inputs=[Tensor("x", "int64", (-1, 1))], outputs=[Tensor("y", "int64", (-1, 1))]
)


def test_a_large_integer_among_the_outputs_is_refused():
    nodes = [helper.make_node("Mul", ["x", "x"], ["y"])]
    data = graph(nodes, [("x", "int64", ["n", 1])], [("y", "int64", ["n", 1])])
    inputs, outputs = signature(data)
    with pytest.raises(InputError, match="leave this output out"):
        OnnxTensors(data, inputs=inputs, outputs=outputs).run(np.array([[9000.0]], np.float32))


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [((1, 2), "no open first axis"), (("n", "m"), "more than its first axis"), ((), "no open first")],
)
def test_a_file_whose_rows_cannot_stand_together_is_refused(shape, sentence):
    with pytest.raises(InputError, match=sentence):
        register(MemoryBlobs(), echo("float32", shape), name="m", task=None)


def test_an_open_axis_is_given_its_size():
    blobs = MemoryBlobs()
    sizes = ((Tensor("x", "float32", (-1, 4)),), (Tensor("y", "float32", (-1, 4)),))
    bundle = load(blobs, register(blobs, echo("float32", ("n", "m")), name="m", task=None, signature=sizes))
    assert isinstance(open_model(bundle.manifest, bundle.model), OnnxModel)


@pytest.mark.parametrize(
    "declared", [Tensor("x", "int64", (-1, 2, 3)), Tensor("x", "float32", (-1, 2)), Tensor("z", "float32", (-1, 2, 3))]
)
def test_a_signature_must_be_that_of_the_file(declared):
    with pytest.raises(InputError, match="tensor"):
        OnnxTensors(echo("float32"), inputs=[declared], outputs=[Tensor("y", "float32", (-1, 2, 3))])


def test_text_is_not_served():
    node = helper.make_node("Identity", ["x"], ["y"])
    info = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 1]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "g", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    with pytest.raises(InputError, match="type that is not served"):
        signature(model.SerializeToString())
