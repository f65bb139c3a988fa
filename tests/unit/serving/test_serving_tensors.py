import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import InputError, SchemaError, TooLarge
from trimtab.registry.manifest import Tensor
from trimtab.serving.infer import decode_infer, encode_infer
from trimtab.serving.tensors import DATATYPES, TensorAnswer, describe

INPUT = Tensor("x", "float32", (-1, 2))
OUTPUT = Tensor("p", "float32", (-1, 1))


def tensor(**change):
    return {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]} | change


def decode(*tensors, inputs=(INPUT,), **more):
    body = msgspec.json.encode({"inputs": list(tensors)} | more)
    return decode_infer(body, inputs=inputs, outputs=[OUTPUT], max_rows=3)


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [1.0, 2.0, 3.0, 4.0]])
def test_flat_and_nested_data_are_the_same(data):
    asked = decode(tensor(data=data), id="r")
    assert asked.values.tolist() == [[1, 2], [3, 4]]
    assert asked.values.dtype == np.float32
    assert asked.row_ids(lambda: "new") == ["r/0", "r/1"]


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BOOL"])
def test_every_number_type_that_the_model_can_take(datatype):
    assert decode(tensor(datatype=datatype)).values.tolist() == [[1, 2], [3, 4]]


def test_booleans():
    found = decode(tensor(datatype="BOOL", data=[True, False, False, True]))
    assert found.values.tolist() == [[1, 0], [0, 1]]


def test_null_is_a_missing_value():
    assert math.isnan(decode(tensor(data=[1, None, 3, 4])).values[0, 1])


def test_several_inputs_stand_side_by_side_in_the_order_of_the_signature():
    second = {"name": "y", "shape": [2, 1], "datatype": "INT64", "data": [8, 9]}
    asked = decode(second, tensor(), inputs=(INPUT, Tensor("y", "float32", (-1, 1))))
    assert asked.values.tolist() == [[1, 2, 8], [3, 4, 9]]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"name": "z"}, SchemaError),
        ({"shape": [2, 3]}, SchemaError),
        ({"shape": [4]}, SchemaError),
        ({"shape": [0, 2], "data": []}, InputError),
        ({"shape": [4, 2], "data": [1] * 8}, TooLarge),
        ({"shape": [-1, 2]}, SchemaError),
        ({"shape": [1, 2]}, SchemaError),
        ({"data": [1, 2, 3]}, SchemaError),
        ({"data": [[1, 2, 3, 4]]}, SchemaError),
        ({"data": [[1, 2], [3]]}, SchemaError),
        ({"data": ["1", "2", "3", "4"]}, SchemaError),
        ({"data": [[[1, 2], [3, 4]]]}, SchemaError),
        ({"data": 1}, SchemaError),
        ({"data": [1e300, 0, 0, 0]}, SchemaError),
        ({"datatype": "BYTES"}, SchemaError),
        ({"datatype": "BF16"}, SchemaError),
        ({"datatype": "UINT8", "data": [1, 2, 3, 256]}, SchemaError),
        ({"datatype": "INT32", "data": [1, 2, 3, 4.5]}, SchemaError),
        ({"datatype": "INT64", "data": [1, 2, 3, 2**63]}, SchemaError),
        ({"datatype": "BOOL"}, SchemaError),
        ({"datatype": "INT64", "data": [1, None, 3, 4]}, SchemaError),
    ],
)
def test_what_does_not_fit_is_refused(change, error):
    with pytest.raises(error):
        decode(tensor(**change))


def test_a_float_is_not_cut_to_an_integer_model():
    with pytest.raises(SchemaError, match="another datatype"):
        decode(tensor(), inputs=(Tensor("x", "int64", (-1, 2)),))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"inputs": 3}', b'{"inputs": []}', b"\xff", b"[" * 100_000])
def test_a_bad_body(body):
    with pytest.raises(InputError):
        decode_infer(body, inputs=[INPUT], outputs=[])


def test_a_tensor_without_values_is_refused_with_a_hint():
    without = tensor()
    del without["data"]
    with pytest.raises(SchemaError, match="has no data"):
        decode(without)


def test_an_unknown_output_is_refused():
    with pytest.raises(SchemaError, match="no such output"):
        decode(tensor(), outputs=[{"name": "q"}])


def test_the_answer_has_the_signatures_shape_and_echoes_the_id():
    outputs = [Tensor("p", "float32", (-1, 2)), Tensor("label", "int64", (-1,))]
    values = np.array([[0.25, 0.75, 1], [0.5, 0.5, 0]])
    answer = msgspec.json.decode(encode_infer(TensorAnswer("m", "v", "r", values, outputs)).body)
    assert answer == {
        "model_name": "m",
        "model_version": "v",
        "id": "r",
        "outputs": [
            {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 0.5, 0.5]},
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]},
        ],
    }
    only = msgspec.json.decode(encode_infer(TensorAnswer("m", "v", "", values, outputs, ("label",))).body)
    assert [one["name"] for one in only["outputs"]] == ["label"]
    assert "id" not in only


def test_metadata():
    assert describe([INPUT]) == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    values, st.lists(st.integers(-1, 5), max_size=3) | values, st.sampled_from(["FP32", "INT64", "BOOL", "UINT8", "X"])
)
def test_any_tensor_gives_a_finite_matrix_or_an_input_error(data, shape, datatype):
    try:
        asked = decode(tensor(data=data, shape=shape, datatype=datatype))
    except InputError:
        return
    assert asked.values.shape == (shape[0], 2)
    assert not np.isinf(asked.values).any()
